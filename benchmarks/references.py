#!/usr/bin/env python3
"""What a comparison with a reference finds in ruined files, and what it says of healthy conversions.

    python benchmarks/references.py --parts trained        # networks trained here: found, missed, accuracy
    python benchmarks/references.py --parts real           # conversions of the samples and of real models
    python benchmarks/references.py --write docs/diff.md   # all of it, into the page

Networks are trained on scikit-learn's digits (needs it): a residual CNN with BatchNorm, a plain one without,
and a transformer over rows. Each is converted (`conversions.py`) and ruined (`tests/diff/ruins.py`); the
accuracy is that of onnxruntime on 599 images that no step saw. Real models are those of
`tests/models/fetch.py`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

import train_digits  # noqa: E402
from conversions import conversions, noise  # noqa: E402
from diff.ruins import RUINS  # noqa: E402
from models.fetch import path as model_path  # noqa: E402

from intrain_onnx.bench.spaces import digits  # noqa: E402
from intrain_onnx.diff.rows import Document, Expected  # noqa: E402
from intrain_onnx.diff.run import DiffSettings, diff  # noqa: E402
from intrain_onnx.errors import IntrainError  # noqa: E402

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
REAL = ("keras_mobilenetv2", "keras_efficientnetb0", "keras_densenet121", "magika", "opennsfw", "nudenet",
        "rapidocr_cls", "rapidocr_rec", "silero_vad", "ddddocr_old")  # fmt: skip
KEPT_APART = ("keras_resnet50", "rapidocr_det", "ddddocr_det", "silero_vad_half")
"""Published models that no threshold was chosen on."""

SOUND = 10.0
"""Signal to noise of onnxruntime's outputs, dB, below which a conversion is no healthy one."""

SAMPLES = ("keras_mobile", "pytorch_resnet_training", "pytorch_encoder_dynamo", "jax_mixer")
KEPT = (1, 2, 3, 5, 8, 10, 15, 20)
"""Epochs after which a checkpoint is kept."""


class Rows(nn.Module):
    """A transformer over the eight rows of an image."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.places = nn.Parameter(torch.randn(8, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 96, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.head(self.encoder(self.embed(x[:, 0]) + self.places).mean(1))
        return made


def nets() -> dict[str, Callable[[], nn.Module]]:
    """The networks by name, with initial weights of a fixed seed."""

    def seeded(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        def made() -> nn.Module:
            torch.manual_seed(0)
            return make()

        return made

    drawn = train_digits.drawn(200)
    residual, other = _two(a for a in drawn if _is(a, norm=True, residual=True))
    plain, bare = _two(a for a in drawn if _is(a, norm=False, residual=False))
    return {
        "residual CNN": seeded(lambda: train_digits.module(residual)),
        "plain CNN": seeded(lambda: train_digits.module(plain)),
        "transformer": seeded(Rows),
        "second residual CNN": seeded(lambda: train_digits.module(other)),
        "second plain CNN": seeded(lambda: train_digits.module(bare)),
    }


CHOSEN_ON = ("residual CNN", "plain CNN")
"""Networks that the thresholds were chosen on; the others confirm them."""


def _two(descriptions: Iterator[str]) -> tuple[str, str]:
    """Two of other depth or width: descriptions may differ and mean one network."""
    first = next(descriptions)
    same = digits.parse(first).blocks()
    return first, next(a for a in descriptions if digits.parse(a).blocks() != same)


def _is(description: str, *, norm: bool, residual: bool) -> bool:
    network = digits.parse(description)
    return network.norm == norm and network.residual == residual and 3 <= len(network.blocks()) <= 6


def checkpoints(make: Callable[[], nn.Module], folder: Path) -> dict[int, Path]:
    """Files of a training, by epoch."""
    x, y, _, _ = train_digits.data("cpu")
    net, files = make().train(), {}
    steps = train_digits.EPOCHS * (len(x) // train_digits.BATCH)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    each = len(x) // train_digits.BATCH
    for step, chosen in enumerate(train_digits.batches(len(x), torch.Generator().manual_seed(0)), start=1):
        optimiser.zero_grad()
        functional.cross_entropy(net(x[chosen]), y[chosen]).backward()
        optimiser.step()
        schedule.step()
        if step % each == 0 and step // each in KEPT:
            files[step // each] = folder / f"epoch{step // each}.onnx"
            export(net, files[step // each])
            net.train()
    return files


def export(net: nn.Module, file: Path) -> None:
    """Write a file as it is in training: BatchNorm is a node."""
    net.eval()
    torch.onnx.export(
        net, (torch.zeros(2, 1, 8, 8),), str(file), dynamo=False, opset_version=17,
        input_names=["image"], output_names=["logits"], do_constant_folding=False,
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        training=torch.onnx.TrainingMode.PRESERVE,
    )  # fmt: skip


_ASK = """
import sys
import numpy as np
import onnxruntime as ort
held = np.load(sys.argv[2])
try:
    session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    kind = "f2" if "float16" in given.type else "f4"
    logits = session.run(None, {given.name: held["x"].astype(kind)})[0]
except Exception as error:
    print(error, file=sys.stderr)
    sys.exit(3)
print((np.nan_to_num(logits).argmax(1) == held["y"]).mean())
"""


def accuracy(model: Path) -> float:
    """Of the test images, by onnxruntime; 0 where it refuses the file, or crashes on it."""
    images = model.with_suffix(".npz")
    _, _, x, y = train_digits.data("cpu")
    np.savez(images, x=x.numpy(), y=y.numpy())
    done = subprocess.run(
        [sys.executable, "-c", _ASK, str(model), str(images)], capture_output=True, text=True, check=False
    )
    if done.returncode == 3 or done.returncode < 0:
        return 0.0
    done.check_returncode()
    return float(done.stdout)


def compared(a: Path, b: Path, expected: Expected = "conversion", **settings: Any) -> dict[str, Any]:
    """The figures of a comparison, or its error."""
    try:
        return figures(diff(a, b, DiffSettings.of(expected=expected, scored=False, threads=1, **settings)))
    except IntrainError as error:
        return {"passed": False, "rules": [f"error: {error.message[:90]}"]}


_BESIDE = """
import sys
import numpy as np
import onnxruntime as ort
held = np.load(sys.argv[3])
made = []
for file in sys.argv[1:3]:
    try:
        session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
        half = {x.name for x in session.get_inputs() if "float16" in x.type}
        fed = {n: held[n].astype("f2") if n in half else held[n] for n in held.files}
        made.append([np.ravel(a).astype(float) for a in session.run(None, fed) if a.dtype.kind == "f"])
    except Exception as error:
        print(error, file=sys.stderr)
        sys.exit(3)
noise = [(a @ a, (a - b) @ (a - b)) for a, b in zip(*made, strict=True)]
print(min(10 * np.log10(signal / d) if d else 300.0 for signal, d in noise))
"""


def beside(a: Path, b: Path, feeds: Any) -> float | None:
    """Signal to noise between onnxruntime's own outputs of both files, dB; None where it refuses one."""
    images = b.with_suffix(".feeds.npz")
    np.savez(images, **feeds[0])
    asked = [sys.executable, "-c", _BESIDE, str(a), str(b), str(images)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode == 3 or done.returncode < 0:
        return None
    done.check_returncode()
    return float(done.stdout)


def figures(found: Document) -> dict[str, Any]:
    """What thresholds are held against: the worst of each."""
    tensors = [w for layer in found.layers for w in layer.weights] + list(found.parameters)
    known = [
        w.difference
        for w in tensors
        if w.difference and not w.difference.equal and w.difference.elements > 16
    ]
    maps = [w.difference for w in tensors if w.role in ("weight", "weight 2", "table") and w.difference]
    acts = [x.activation for x in found.layers if x.activation]
    outs = [x.difference for x in found.outputs if x.difference]
    return {
        "passed": found.passed,
        "precision": found.second.precision,
        "rules": sorted({f.rule for f in found.findings}),
        "seen": [len(acts), len(found.layers)],
        "output_snr": _least(x.snr_db for x in outs),
        "output_correlation": _least(x.correlation for x in outs),
        "activation_correlation": _least(x.correlation for x in acts),
        "activation_snr": _least(x.snr_db for x in acts),
        "weight_snr": _least(x.snr_db for x in maps if not x.equal),
        "weight_correlation": _least(x.correlation for x in known),
        "agreement": _least(x.agreement for x in found.outputs),
        "parts_at": found.parts_at,
    }


def _least(values: Iterator[float | None]) -> float | None:
    return min((v for v in values if v is not None), default=None)


def trained(folder: Path) -> list[dict[str, Any]]:
    """Ruined files, conversions and later checkpoints of the networks trained here."""
    x = train_digits.data("cpu")[0].numpy()
    feeds = [{"image": x[i : i + 16]} for i in range(0, 256, 16)]
    rows: list[dict[str, Any]] = []
    for name, make in nets().items():
        place = folder / name
        place.mkdir()
        files = checkpoints(make, place)
        final = files[KEPT[-1]]
        base = accuracy(final)
        for kind, how, model in _variants(final, feeds):
            row = {"net": name, "kind": kind, "how": how, "before": base}
            if isinstance(model, str):
                rows.append(row | {"refused": model})
                continue
            file = place / "changed.onnx"
            onnx.save(model, file)
            rows.append(row | {"accuracy": accuracy(file)} | compared(final, file))
            if kind == "conversion":
                rows[-1]["real"] = compared(final, file, inputs={"image": x[-16:]})
            if kind == "ruin":
                later = compared(files[KEPT[-2]], file, "checkpoint")
                rows[-1]["as_checkpoint"] = [later["passed"], later["rules"]]
            _tell(rows[-1])
        for earlier, after in pairwise(KEPT):
            row = {"net": name, "kind": "training", "how": f"epoch {earlier} to {after}"}
            rows.append(
                row
                | {"accuracy": accuracy(files[after]), "before": accuracy(files[earlier])}
                | compared(files[earlier], files[after], "checkpoint")
            )
            _tell(rows[-1])
    return rows


def _variants(final: Path, feeds: Any) -> Iterator[tuple[str, str, onnx.ModelProto | str]]:
    for how, made in conversions(final, lambda: feeds):
        yield "conversion", how, made
    for number, (how, ruin) in enumerate(RUINS.items()):
        model = onnx.load(final)
        if ruin(model, np.random.default_rng(number)):
            yield "ruin", how, model


def real(folder: Path) -> list[dict[str, Any]]:
    """Healthy conversions of the samples and of published models."""
    rows = []
    files = {name: ROOT / "samples" / f"{name}.onnx" for name in SAMPLES}
    files |= {name: model_path(name) for name in (*REAL, *KEPT_APART)}
    for name, file in files.items():
        for how, made in conversions(file, partial(noise, file, 2)):
            row: dict[str, Any] = {"net": name, "kind": "real", "how": how}
            if isinstance(made, str):
                rows.append(row | {"refused": made})
            else:
                changed = folder / "changed.onnx"
                onnx.save(made, changed)
                told = beside(file, changed, noise(file, 1))
                if told is None:
                    rows.append(row | {"refused": "onnxruntime refuses what was made"})
                else:
                    rows.append(row | compared(file, changed, batch=4) | {"onnxruntime_snr": told})
            _tell(rows[-1])
    return rows


def _tell(row: dict[str, Any]) -> None:
    print(json.dumps(row), file=sys.stderr, flush=True)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The section of the page."""
    return "\n".join([_counts(rows), _ruins(rows), _healthy(rows), _training(rows)])


def _counts(rows: Sequence[dict[str, Any]]) -> str:
    """Found, missed and false alarms: on the networks that thresholds were chosen on, and on the others."""
    lines = [
        "| files | ruined: found | more than 1 point lost: found | as a later checkpoint: found "
        "| more than 1 point lost | healthy conversions that fail | steps of training that fail |",
        "|---|---|---|---|---|---|---|",
    ]
    groups = {
        "thresholds chosen on": [r for r in rows if r["net"] in CHOSEN_ON],
        "others, trained here": [r for r in rows if r["net"] not in CHOSEN_ON and r["kind"] != "real"],
        "samples and published models, chosen on": [r for r in rows if r["kind"] == "real" and not _apart(r)],
        "other published models": [r for r in rows if r["kind"] == "real" and _apart(r)],
    }
    for name, some in groups.items():
        ruined = [r for r in some if r["kind"] == "ruin"]
        hurt = [r for r in ruined if r["accuracy"] < r["before"] - 0.01]
        sound = [r for r in some if r["kind"] in ("conversion", "real") and is_sound(r)]
        steps = [r for r in some if r["kind"] == "training"]
        cells = [name]
        cells += [_share([not r["passed"] for r in found]) for found in (ruined, hurt)]
        cells += [_share([not r["as_checkpoint"][0] for r in found]) for found in (ruined, hurt)]
        cells += [_share([not r["passed"] for r in found]) for found in (sound, steps)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def is_sound(row: dict[str, Any]) -> bool:
    """Whether a conversion is healthy by onnxruntime's own outputs, where they were asked for."""
    return "refused" not in row and row.get("onnxruntime_snr", 300.0) >= SOUND


def _apart(row: dict[str, Any]) -> bool:
    return row["net"] in KEPT_APART


def _share(found: Sequence[bool]) -> str:
    return f"{sum(found)} of {len(found)}" if found else ""


def _ruins(rows: Sequence[dict[str, Any]]) -> str:
    ruined = [r for r in rows if r["kind"] == "ruin"]
    lines = [
        "| ruined | accuracy lost, points | found | as a later checkpoint | by |",
        "|---|---|---|---|---|",
    ]
    for how in dict.fromkeys(r["how"] for r in ruined):
        some = [r for r in ruined if r["how"] == how]
        lost = sorted(100 * (r["before"] - r["accuracy"]) for r in some)
        rules = sorted({rule for r in some for rule in r["rules"]})
        cells = [how, f"{lost[0]:.1f} to {lost[-1]:.1f}", _share([not r["passed"] for r in some])]
        cells += [_share([not r["as_checkpoint"][0] for r in some]), ", ".join(rules)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _healthy(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| conversion | files | pass | outputs, dB | activations, least correlation | weights, least dB "
        "| top class agrees, least |",
        "|---|---|---|---|---|---|---|",
    ]
    sound = [r for r in rows if r["kind"] in ("conversion", "real") and is_sound(r)]
    for how in dict.fromkeys(r["how"] for r in sound):
        some = [r for r in sound if r["how"] == how]
        cells = [how, str(len(some)), str(sum(r["passed"] for r in some)), _range(some, "output_snr", ".0f")]
        cells += [
            _worst(some, n, f)
            for n, f in (("activation_correlation", ".4f"), ("weight_snr", ".0f"), ("agreement", ".2f"))
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _range(rows: Sequence[dict[str, Any]], name: str, form: str) -> str:
    values = sorted(r[name] for r in rows if r.get(name) is not None)
    return f"{values[0]:{form}} to {values[-1]:{form}}" if values else "equal"


def _worst(rows: Sequence[dict[str, Any]], name: str, form: str) -> str:
    values = [r[name] for r in rows if r.get(name) is not None]
    return f"{min(values):{form}}" if values else "equal"


def _training(rows: Sequence[dict[str, Any]]) -> str:
    steps = [r for r in rows if r["kind"] == "training"]
    lines = [
        "| step of a training | pass | correlation of parameters, least | of activations, least |",
        "|---|---|---|---|",
    ]
    for how in dict.fromkeys(r["how"] for r in steps):
        some = [r for r in steps if r["how"] == how]
        cells = [how, _share([r["passed"] for r in some])]
        cells += [_worst(some, n, ".3f") for n in ("weight_correlation", "activation_correlation")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run the parts; print the section, or write it into a page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", type=lambda text: text.split(","), default=["trained", "real"])
    parser.add_argument("--keep", type=Path, help="JSON file of the figures; those of other parts stay")
    parser.add_argument("--write", type=Path, help="page with the markers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = json.loads(options.keep.read_text()) if options.keep and options.keep.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        for part, measure in (("trained", trained), ("real", real)):
            if part in options.parts:
                kept[part] = measure(Path(folder))
    if options.keep:
        options.keep.write_text(json.dumps(kept, indent=1))
    section = table([row for part in ("trained", "real") for row in kept.get(part, [])])
    if options.write is None:
        print(section)
    else:
        page = options.write.read_text(encoding="utf-8")
        before, rest = page.split(BEGIN)
        options.write.write_text(f"{before}{BEGIN}\n{section}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
