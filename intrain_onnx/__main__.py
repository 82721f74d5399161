"""``python -m intrain_onnx`` is ``intrain-onnx``."""

from intrain_onnx.cli import main

if __name__ == "__main__":
    main()
