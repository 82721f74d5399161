"""Write a trained network as a SavedModel: ``nets_tensorflow.py FOLDER RECORD.npz``."""

import sys

from nets_keras import trained

if __name__ == "__main__":
    trained(sys.argv[2]).export(sys.argv[1], verbose=False)
