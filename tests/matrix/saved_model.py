"""Write a Keras network of the matrix as a SavedModel, and convert that with from_tensorflow.py."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "converters")]

import from_keras  # noqa: E402
import from_tensorflow  # noqa: E402
import keras  # noqa: E402
import nets_keras  # noqa: E402
import numpy as np  # noqa: E402


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--output", required=True)
    return parser.parse_args(argv)


def convert(args: argparse.Namespace) -> str:
    keras.utils.set_random_seed(0)
    model = getattr(nets_keras, args.name)()
    # BatchNorm of fresh statistics shifts by 0, which TensorFlow folds away.
    from_keras.warm_up(model, from_keras.fresh_norms(model), 2, 128, np.random.default_rng(0))
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, verbose=False)
        options = ("--high", "128", "--output", args.output)
        said: str = from_tensorflow.convert(from_tensorflow.parse_arguments([folder, *options]))
        return said
