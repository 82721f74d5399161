#!/usr/bin/env python3
"""Two versions of the package on the same files: what one says of each, and the other does not.

    python benchmarks/same_reports.py OLD NEW MODEL_OR_FOLDER...

OLD and NEW are checkouts, or what `--record FILE` wrote of one. Each file is inspected, and scored by every
protocol; the JSON documents, timings aside, the messages of errors and their exit codes must be equal, and
so must the public names and the help of every command. Every file has a process of its own.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROTOCOLS = ("architecture", "checkpoint", "paper")
COMMANDS = ("", "score", "inspect", "compare", "audit", "report", "bench", "ops")
MOST_SECONDS = 120
MOST_BYTES = 6 * 2**30


def main() -> None:
    """Record both versions side by side, and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--record", type=Path, help="of the checkout that this runs in; NEW is not read")
    told = parser.parse_args()
    models = [str(m.absolute()) for m in _files(told.models)]
    if told.record is not None:
        told.record.write_text(json.dumps(_record(models)), encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as folder:
        files = [v if v.is_file() else Path(folder, f"{i}.json") for i, v in enumerate((told.old, told.new))]
        running = [
            subprocess.Popen(
                [sys.executable, Path(__file__).absolute(), ".", ".", *models, "--record", file],
                cwd=checkout,
                env=os.environ | {"PYTHONPATH": str(checkout.absolute()), "OMP_NUM_THREADS": "1"},
            )
            for checkout, file in zip((told.old, told.new), files, strict=True)
            if checkout is not file
        ]
        if any(process.wait() for process in running):
            sys.exit("a version could not be recorded")
        old, new = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    different = [line for name in old for line in _differences(old[name], new[name], name)]
    documents = [d for name in old for d in old[name].values() if name in models]
    refused = sum("error" in d for d in documents)
    print("\n".join(different))
    print(f"{len(models)} files: {len(documents)} documents, {refused} errors; {len(different)} differ")
    sys.exit(bool(different))


def _files(told: list[Path]) -> Iterator[Path]:
    for path in told:
        yield from sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _record(models: list[str]) -> dict[str, Any]:
    import intrain_onnx  # noqa: PLC0415 - that of the checkout
    from intrain_onnx import pipeline  # noqa: F401, PLC0415 - before any fork

    assert Path(intrain_onnx.__file__).is_relative_to(Path.cwd()), intrain_onnx.__file__
    found: dict[str, Any] = {model: _in_process(model) for model in models}
    found["help"] = {command: _help(command) for command in COMMANDS}
    found["public"] = {"names": sorted(intrain_onnx.__all__)}
    return found


def _help(command: str) -> str:
    told = [sys.executable, "-m", "intrain_onnx", *command.split(), "--help"]
    return subprocess.run(told, capture_output=True, text=True, check=True).stdout


def _in_process(model: str) -> dict[str, Any]:
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(model, send))
    process.start()
    send.close()
    found = {"all": {"error": "no answer"}}
    if receive.poll(MOST_SECONDS):
        try:
            found = receive.recv()
        except EOFError:
            process.join()
            found = {"all": {"error": f"died: {process.exitcode}"}}
    process.kill()
    process.join()
    return found


def _measure(model: str, send: Any) -> None:
    import resource  # noqa: PLC0415 - POSIX alone

    from intrain_onnx import IntrainError, ScoreConfig, inspect, score  # noqa: PLC0415

    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    found = {}
    for name in ("inspect", *PROTOCOLS):
        try:
            if name == "inspect":
                found[name] = dict(inspect(model).data)
            else:
                config = ScoreConfig.for_protocol(
                    name, seeds=1, threads=1, batch=4, device="cpu", parity=name == "checkpoint"
                )
                found[name] = {k: v for k, v in score(model, config).data.items() if k != "timings_s"}
        except IntrainError as error:
            found[name] = {"error": f"{type(error).__name__} {error.exit_code}: {error}"}
        except Exception as error:  # an internal error is to be the same too
            found[name] = {"error": f"{type(error).__name__}: {error}"}
    send.send(found)


def _differences(old: Any, new: Any, where: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        if list(old) != list(new):
            yield f"{where}: keys {sorted({*old} ^ {*new}) or 'in another order'}"
        for key in old.keys() & new.keys():
            yield from _differences(old[key], new[key], f"{where}: {key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, pair in enumerate(zip(old, new, strict=True)):
            yield from _differences(*pair, f"{where}[{index}]")
    elif old != new or type(old) is not type(new):
        yield f"{where}: {str(old)[:300]!r} -> {str(new)[:300]!r}"


if __name__ == "__main__":
    main()
