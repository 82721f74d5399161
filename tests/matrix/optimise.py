"""Run onnxsim or onnxslim on a file: ``TOOL INPUT --output FILE`` (see drive.py)."""

import argparse
from collections.abc import Sequence

import onnx
import onnxsim
import onnxslim


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tool", choices=["onnxsim", "onnxslim"])
    parser.add_argument("input")
    parser.add_argument("--output", required=True)
    return parser.parse_args(argv)


def convert(args: argparse.Namespace) -> str:
    model = onnx.load(args.input)
    if args.tool == "onnxslim":
        result = onnxslim.slim(model)
    else:
        result, good = onnxsim.simplify(model)
        if not good:
            raise SystemExit("onnxsim: its check of the simplified model failed")
    onnx.save(result, args.output)
    return f"{args.output}: {len(model.graph.node)} nodes before, {len(result.graph.node)} after"
