"""Weight gradients against onnx-ad, which differentiates the ONNX graph itself; onnxruntime runs the result.

    python -m venv ad && ad/bin/pip install onnx-ad onnxruntime numpy
    python benchmarks/gradient_oracle.py --oracle ad/bin/python MODEL.onnx...

The two share no code: one goes through autograd of torch, the other through a graph of operators. Both get
the same inputs, one sample, and the same gradients of the outputs. Printed for each model: how many weight
tensors were compared, and the largest difference of a gradient relative to its own largest element.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

ZERO = 1e-4
"""A gradient below this share of the model's largest is round-off of a true zero, as before a LayerNorm."""


def differentiate(folder: Path) -> None:
    """Write the oracle's gradients of the model in a folder. Runs where onnx-ad is installed."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime loads
    import onnx_ad  # noqa: PLC0415 - of another environment
    import onnxruntime  # noqa: PLC0415

    given = dict(np.load(folder / "given.npz"))
    model = onnx.load(folder / "model.onnx")
    names = [str(name) for name in given.pop("weights")]
    seeds = {name.removeprefix("seed:"): v for name, v in given.items() if name.startswith("seed:")}
    feeds = {name: value for name, value in given.items() if not name.startswith("seed:")}
    adjoint = onnx_ad.reverse(model, inputs=names, outputs=list(seeds), layout="onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(
        adjoint.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds |= {f"adj_{name}": value[..., None] for name, value in seeds.items()}
    gradients = session.run([f"adj_{name}" for name in names], feeds)
    np.savez(folder / "gradients.npz", **{n: g[..., 0] for n, g in zip(names, gradients, strict=True)})


def prepare(path: Path, folder: Path) -> dict[str, np.ndarray]:
    """Write the model with static shapes and weights as inputs; returns our gradients."""
    import torch  # noqa: PLC0415 - the oracle's environment has none

    import intrain_onnx  # noqa: PLC0415
    from intrain_onnx.config import ScoreConfig  # noqa: PLC0415
    from intrain_onnx.loading.load import load  # noqa: PLC0415
    from intrain_onnx.measure import initialise, inputs  # noqa: PLC0415
    from intrain_onnx.network import input_shapes  # noqa: PLC0415
    from intrain_onnx.rewrites.normalise import normalise  # noqa: PLC0415
    from intrain_onnx.runtime.interpreter import run  # noqa: PLC0415

    torch.set_num_threads(1)
    normal = load(path).fresh()
    normalise(normal)
    single = input_shapes.resolve(normal, ScoreConfig.for_protocol(), batch=1)
    drawn = inputs.draw(single, torch.Generator().manual_seed(0), torch.device("cpu"))
    module = intrain_onnx.to_torch(path)
    outputs = [parts[0] for parts in run(module, drawn)]
    proto = onnx.load(path)
    generator = torch.Generator().manual_seed(1)
    seeds = {
        info.name: torch.randn(value.shape, generator=generator)
        for info, value in zip(proto.graph.output, outputs, strict=True)
        if value.is_floating_point() and value.requires_grad
    }
    by_name = dict(zip((info.name for info in proto.graph.output), outputs, strict=True))
    torch.autograd.backward([by_name[name] for name in seeds], list(seeds.values()))

    ours = {
        name: parameter.grad.numpy()
        for name, parameter in initialise.parameters(module).items()
        if parameter.grad is not None
    }
    weights = {t.name: t for t in proto.graph.initializer if t.name in ours}
    given: dict[str, np.ndarray] = {name: numpy_helper.to_array(t) for name, t in weights.items()}
    given |= {f"seed:{name}": value.numpy() for name, value in seeds.items()}
    given |= {
        spec.name: array for spec, array in zip(single.inputs, inputs.as_arrays(drawn, single), strict=True)
    }
    for info, spec in zip(proto.graph.input, single.inputs, strict=False):
        for dim, size in zip(info.type.tensor_type.shape.dim, spec.shape, strict=True):
            dim.dim_value = size
    kept = [t for t in proto.graph.initializer if t.name not in weights]
    del proto.graph.initializer[:], proto.graph.value_info[:]
    proto.graph.initializer.extend(kept)
    declared = {info.name for info in proto.graph.input}
    proto.graph.input.extend(
        onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims)
        for t in weights.values()
        if t.name not in declared
    )
    for info, value in zip(proto.graph.output, outputs, strict=True):
        info.type.tensor_type.ClearField("shape")
        info.type.tensor_type.shape.dim.extend(
            onnx.TensorShapeProto.Dimension(dim_value=size) for size in value.shape
        )
    onnx.save(onnx.shape_inference.infer_shapes(proto, data_prop=True), folder / "model.onnx")
    arrays: dict[str, Any] = {"weights": np.array(list(weights)), **given}
    np.savez(folder / "given.npz", **arrays)
    return {name: ours[name] for name in weights}


def compare(path: Path, oracle: str) -> str:
    """One line about a model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = prepare(path, folder)
        done = subprocess.run(
            [oracle, __file__, "--differentiate", folder],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        )
        if done.returncode:
            return f"{path.stem}: no oracle: {(done.stderr.strip().splitlines() or ['?'])[-1][:200]}"
        theirs = np.load(folder / "gradients.npz")
        largest = max((np.abs(theirs[w]).max(initial=0.0) for w in ours), default=0.0)
        off = {}
        for weight, gradient in ours.items():
            scale = max(np.abs(theirs[weight]).max(initial=0.0), ZERO * largest)
            off[weight] = float(np.abs(gradient - theirs[weight]).max(initial=0.0) / (scale or 1.0))
    worst = max(off, key=off.__getitem__, default="none")
    within = sum(value < 1e-3 for value in off.values())
    return (
        f"{path.stem}: {within} of {len(off)} tensors within 1e-3; largest {off.get(worst, 0):.1e} ({worst})"
    )


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--oracle", default=sys.executable, help="a Python that has onnx-ad and onnxruntime")
    parser.add_argument("--differentiate", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.differentiate:
        differentiate(args.differentiate)
        return
    for path in args.models:
        try:
            print(compare(path, args.oracle), flush=True)
        except Exception as error:  # one model must not end the list
            print(f"{path.stem}: {type(error).__name__}: {str(error)[:200]}", flush=True)


if __name__ == "__main__":
    main()
