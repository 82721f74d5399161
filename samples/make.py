#!/usr/bin/env python3
"""Make the samples again, each by the converter of its framework.

    python samples/make.py                      # all, each in its own environment through `uv run`
    python samples/make.py keras_mobile         # one
    python samples/make.py --list               # print the commands
    python samples/make.py --runner venv/bin/python pytorch_resnet_dynamo    # in an environment that you have

Needs nothing but the standard library; the converters declare what they need (PEP 723).
"""

import argparse
import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

PYTORCH = "converters/from_pytorch.py --output-name logits"
RESNET = f"{PYTORCH} --factory samples/pytorch_nets.py:ResNet8 --input image=1x3x32x32"
ENCODER = f"{PYTORCH} --factory samples/pytorch_nets.py:Encoder --input ids=1x16:256"
JAX = "converters/from_jax.py --input image=1x32x32x3 --output-name logits"

SAMPLES = {
    "keras_mobile": "converters/from_keras.py --factory samples/keras_nets.py:mobile --warm-up 4",
    "pytorch_resnet_torchscript": f"{RESNET} --exporter torchscript --warm-up 4",
    "pytorch_resnet_dynamo": f"{RESNET} --exporter dynamo --warm-up 4",
    "pytorch_resnet_training": f"{RESNET} --exporter dynamo --warm-up 4 --training-preserving",
    "pytorch_encoder_torchscript": f"{ENCODER} --exporter torchscript",
    "pytorch_encoder_dynamo": f"{ENCODER} --exporter dynamo",
    "jax_cnn": f"{JAX} --factory samples/jax_nets.py:Cnn --warm-up 4",
    "jax_mixer": f"{JAX} --factory samples/jax_nets.py:Mixer",
}


def command(name: str) -> str:
    """Return the command line that makes a sample, to be run from the repository's root."""
    return f"{SAMPLES[name]} --seed 0 -o samples/{name}.onnx"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SAMPLES)} (default: all)")
    parser.add_argument("--runner", default="uv run", help="what runs a script (default: uv run)")
    parser.add_argument("--list", action="store_true", help="print the commands only")
    args = parser.parse_args()
    if unknown := set(args.names) - set(SAMPLES):
        parser.error(f"no such sample: {', '.join(sorted(unknown))}")
    for name in args.names or SAMPLES:
        line = f"{args.runner} {command(name)}"
        if args.list:
            print(line)
        else:
            subprocess.run(shlex.split(line), cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
