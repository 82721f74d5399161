#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "scikit-learn>=1.5", "skl2onnx>=1.18", "onnx>=1.17", "onnxruntime>=1.22", "numpy",
# ]
# ///
"""Export a fitted scikit-learn estimator to ONNX with skl2onnx.

Multilayer perceptrons (``MLPClassifier``, ``MLPRegressor``), alone or at the end of a pipeline of scalers,
are what a trainability score is for; others are exported as well, but trees have no gradient to score.

    from_sklearn.py --factory my_nets.py:fitted -o mlp.onnx
    from_sklearn.py model.joblib --allow-pickle -o mlp.onnx

A factory returns a fitted estimator. The batch dimension is free. A classifier gives its label, and its
probabilities as a plain tensor (no ZipMap). The ONNX file is compared with the estimator on random inputs
(onnxruntime, CPU).

Safe by default: a saved estimator is a pickle, which can run code: it is refused unless ``--allow-pickle`` is
given. The factory is code that you name, and it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import pickle
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """A command line that is refused in one line."""

    def error(self, message: str) -> NoReturn:
        """End with 2."""
        self.exit(2, f"{self.prog}: {message}. --help tells what there is.\n")


def json_object(text: str) -> dict[str, Any]:
    """Read keyword arguments."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON object, such as {{\"width\": 64}}")
    return found


def output_file(text: str) -> str:
    """Refuse a place that nothing can be written to, before anything is made."""
    if not Path(text).absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: no such folder")
    return text


def needed() -> str:
    """Tell how to get the packages that the first lines of this file ask for."""
    block = Path(__file__).read_text(encoding="utf-8").split("# ///")[1]
    packages = " ".join(f"'{name}'" for name in re.findall(r'"([a-z][^"]*)"', block))
    alone = f"in an environment of its own: pip install {packages}"
    return f"`uv run {__file__}` brings what it needs, or {alone}"


@contextlib.contextmanager
def refused(what: str, *, debug: bool) -> Iterator[None]:
    """End the program with one line where the framework, or code of the user's, raises."""
    try:
        yield
    except Exception as error:
        if debug:
            raise
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:300]
        lacks = isinstance(error, ModuleNotFoundError) and f"'{error.name}" in needed()
        after = f". {needed()}" if lacks else " (--debug shows where)"
        raise SystemExit(f"{what}: {type(error).__name__}: {said}{after}") from None


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("model", nargs="?", help="a .joblib or .pkl file; needs --allow-pickle")
    source.add_argument(
        "--factory", metavar="MODULE:CALLABLE", help="or FILE.py:CALLABLE; gives the estimator"
    )
    add = parser.add_argument
    add("--kwargs", type=json_object, default={}, metavar="JSON", help="keyword arguments of the factory")
    add("-o", "--output", type=output_file, required=True, metavar="FILE.onnx")
    add("--opset", type=int, help="default: skl2onnx's own")
    add("--seed", type=int, default=0)
    add("--allow-pickle", action="store_true", help="read the file with pickle: it can run code")
    add("--debug", action="store_true", help="show the traceback of an error")
    add("--tolerance", type=float, default=1e-3, help="largest relative difference allowed (default 1e-3)")
    return parser.parse_args(argv)


ARGUMENTS = parse_arguments() if __name__ == "__main__" else None
"""Read before the framework loads: help, and what is wrong here, need no framework and take no time."""

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime loads; it would write into the home folder
try:
    import joblib
    import numpy as np
    import onnx
    import onnxruntime as ort
    import skl2onnx
    import sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.base import BaseEstimator, is_classifier
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    if ARGUMENTS is None or ARGUMENTS.debug:
        raise
    raise SystemExit(f"{Path(sys.argv[0]).name}: {error}. {needed()}") from None

SAMPLES = 64


def load_file(path: str) -> ModuleType:
    """Run a Python file as a module; what lies beside it can be imported."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise SystemExit(f"{path}: not a Python file that can be imported")
    sys.path.append(str(Path(path).resolve().parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def load_factory(reference: str) -> Callable[..., BaseEstimator]:
    """Resolve ``package.module:callable`` or ``path/to/file.py:callable``."""
    source, _, attribute = reference.rpartition(":")
    if not source:
        raise SystemExit(f"--factory {reference!r}: write MODULE:CALLABLE or FILE.py:CALLABLE")
    module = load_file(source) if source.endswith(".py") else importlib.import_module(source)
    found = getattr(module, attribute, None)
    if not callable(found):
        raise SystemExit(f"--factory {reference}: {source} has no callable {attribute}")
    return found


def build(args: argparse.Namespace) -> BaseEstimator:
    """Make or load the fitted estimator."""
    if args.model and not args.allow_pickle:
        raise SystemExit(f"{args.model}: a pickle, which can run code. If you trust it: --allow-pickle.")
    with refused(args.model or f"--factory {args.factory}", debug=args.debug):
        if args.factory:
            np.random.seed(args.seed)
            estimator = load_factory(args.factory)(**args.kwargs)
        elif Path(args.model).suffix in (".pkl", ".pickle"):
            estimator = pickle.loads(Path(args.model).read_bytes())
        else:
            estimator = joblib.load(args.model)
        check_is_fitted(estimator)
    return estimator


def expected_outputs(estimator: BaseEstimator, x: np.ndarray) -> list[np.ndarray]:
    """Return what the file's outputs should be: label and probabilities, or the prediction."""
    if is_classifier(estimator) and hasattr(estimator, "predict_proba"):
        return [estimator.predict(x), estimator.predict_proba(x)]
    return [estimator.predict(x) if hasattr(estimator, "predict") else estimator.transform(x)]


def largest_difference(estimator: BaseEstimator, path: str, features: int, seed: int) -> tuple[float, float]:
    """Return the largest difference on random inputs, absolute and relative to the largest output.

    Labels may differ only where the two best classes are as good as equal.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(seed)
    absolute = relative = 0.0
    for batch in (1, SAMPLES):
        x = rng.standard_normal((batch, features), dtype=np.float32)
        expected = expected_outputs(estimator, x)
        got = session.run(None, {session.get_inputs()[0].name: x})
        if len(expected) == 2 and np.mean(expected[0] != got[0]) > 1 / SAMPLES:
            return float("inf"), float("inf")
        for want, have in zip(expected[-1:], got[len(expected) - 1 : len(expected)], strict=True):
            difference = float(np.abs(want.reshape(have.shape) - have).max())
            absolute = max(absolute, difference)
            relative = max(relative, difference / max(float(np.abs(want).max()), 1e-12))
    return absolute, relative


def convert(args: argparse.Namespace) -> str:
    """Export, check and only then put the file in its place; return the line to print."""
    estimator = build(args)
    features = int(estimator.n_features_in_)
    with refused("skl2onnx", debug=args.debug):
        model = skl2onnx.convert_sklearn(
            estimator,
            initial_types=[("features", FloatTensorType([None, features]))],
            options={id(estimator): {"zipmap": False}} if is_classifier(estimator) else None,
            target_opset={"": args.opset} if args.opset else None,
        )
    part = f"{args.output}.part"
    try:
        with refused(f"{args.output}, not written", debug=args.debug):
            onnx.checker.check_model(model)
            onnx.save(model, part)
            absolute, relative = largest_difference(estimator, part, features, args.seed)
        if not relative <= args.tolerance:
            raise SystemExit(f"{args.output}: not written, it differs by {relative:.2e} relative")
        os.replace(part, args.output)
    finally:
        Path(part).unlink(missing_ok=True)
    opset = next(o.version for o in model.opset_import if o.domain == "")
    return (
        f"{args.output}: {args.factory or args.model} ({type(estimator).__name__}) by skl2onnx "
        f"{skl2onnx.__version__} (scikit-learn {sklearn.__version__}), opset {opset}, {features} features, "
        f"{Path(args.output).stat().st_size:,} bytes, batch free, "
        f"max |difference| to scikit-learn {absolute:.2e} (relative {relative:.2e})"
    )


if ARGUMENTS is not None:
    print(convert(ARGUMENTS))
