"""Export one network with an unusual signature: ``NAME EXPORTER --output FILE`` (see drive.py).

Those of nets_signatures.py and nets_masks.py are written in PyTorch; those of nets_text.py and
nets_libraries.py are what transformers, diffusers, PyTorch Geometric and torchvision define, small and with
random weights. Axes are named as people's exporters name them.
"""

import argparse
import importlib
import inspect
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir
import torch
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

OPSETS = {"torchscript": 17, "dynamo": 20}
MODULES = ("nets_signatures", "nets_masks", "nets_text", "nets_libraries")


@dataclass(frozen=True)
class Network:
    """A module with example inputs by name, names of its outputs, and its free axes by input or output."""

    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    axes: dict[str, dict[int, str]] = field(default_factory=dict)


def network(name: str) -> Network:
    """Build a network, with the same random weights each time, no two of them alike.

    Fresh layers of a TransformerEncoder are copies, and scales are all 1: TorchScript would share them.
    """
    torch.manual_seed(0)
    for module in MODULES:
        if factory := getattr(importlib.import_module(module), name, None):
            found: Network = factory()
            with torch.no_grad():
                for parameter in found.module.parameters():
                    parameter.add_(torch.randn_like(parameter), alpha=0.02)
            return found
    raise SystemExit(f"no network is named {name}")


def nested(module: nn.Module, values: Sequence[Any]) -> tuple[Any, ...]:
    """Return what torch.export wants for a ``forward`` that may end in ``*rest``."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    if parameters[-1].kind is not inspect.Parameter.VAR_POSITIONAL:
        return tuple(values)
    named = len(parameters) - 1
    return (*values[:named], tuple(values[named:]))


def export(net: Network, exporter: str, file: str) -> None:
    """Write a network as an exporter does; drop stack traces, which name files of this machine."""
    names = list(net.inputs)
    options: dict[str, Any] = {
        "input_names": names,
        "output_names": list(net.outputs),
        "opset_version": OPSETS[exporter],
        "verbose": False,
    }
    module, values = net.module.eval(), tuple(net.inputs.values())
    if exporter == "torchscript":
        torch.onnx.export(module, values, file, dynamo=False, dynamic_axes=net.axes, **options)
        return
    shapes = nested(module, [net.axes.get(name, {}) for name in names])
    program = torch.onnx.export(module, values, dynamo=True, dynamic_shapes=shapes, **options)
    assert program is not None
    for node in onnx_ir.traversal.RecursiveGraphIterator(program.model.graph):
        node.metadata_props.pop("pkg.torch.onnx.stack_trace", None)
    onnx_ir.save(program.model, file)


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("exporter", choices=list(OPSETS))
    parser.add_argument("--output", required=True)
    return parser.parse_args(argv)


def convert(args: argparse.Namespace) -> str:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    export(network(args.name), args.exporter, args.output)
    return f"{args.output}: {os.path.getsize(args.output):,} bytes"


if __name__ == "__main__":
    print(convert(parse_arguments(sys.argv[1:])))
