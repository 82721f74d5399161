"""Shared by the commands: options, exit codes, errors as one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from intrain_onnx.errors import SettingsError
from intrain_onnx.failure import Failure
from intrain_onnx.loading.limits import Limits, parsed, whole_number

if TYPE_CHECKING:
    from intrain_onnx.engine.outcomes import Item, Job, Outcome, Result, WorkerLimits
    from intrain_onnx.jobs import Call

_OF_MANY = 900.0
"""Seconds for one of thousands of models."""

_GRACE, _GRACE_SECONDS = 1.2, 10.0
"""A model that looks at the clock ends by itself, and says where; another is ended this much later."""

EXIT_CODES = """
\b
Exit codes:
  0  done                          4  unsupported model or operator
  1  an error inside intrain-onnx  5  not finite: says where it began
  2  wrong usage or setting        6  a limit was exceeded
  3  not a valid or safe model     7  compare, diff: not the same
With several models it is the code of the first that failed.
"""


def as_file(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell complete a file, for what is not one alone."""
    return [CompletionItem(incomplete, type="file")]


def as_space(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of spaces that begin so, and files."""
    from intrain_onnx.bench.spaces import SPACES

    names = [CompletionItem(name) for name in SPACES if name.startswith(incomplete)]
    return [*names, CompletionItem(incomplete, type="file")]


device = click.option(
    "--device",
    type=click.Choice(["auto", "cuda", "cpu"]),
    default="auto",
    show_default=True,
    help="Where to compute; auto takes CUDA where there is one.",
)


threads = click.option(
    "--threads",
    type=click.IntRange(0),
    default=0,
    help="CPU threads.  [default: OMP_NUM_THREADS, or all cores]",
)


projections = click.option(
    "--projections",
    type=click.IntRange(0),
    default=0,
    help="Estimate covariances of wide values by so many random projections.  [default: exact]",
)


def documents(formats: Sequence[str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options that print a document and write others: the first format is for the terminal alone."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        shown = click.option(
            "--format",
            "shown",
            type=click.Choice(formats),
            default=formats[0],
            show_default=True,
            help="What is printed.",
        )
        outputs = click.option(
            "-o",
            "--output",
            "outputs",
            multiple=True,
            metavar="FORMAT=FILE",
            help="Also write a file; may be given several times.",
        )
        return shown(outputs(command))

    return add


def _parse_shapes(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    """Parse NAME:1x3x64x64; NAME may contain colons."""
    shapes = {}
    for value in values:
        name, _, dims = value.rpartition(":")
        try:
            shapes[name] = tuple(int(d) for d in dims.lower().split("x"))
        except ValueError:
            name = ""
        if not name:
            raise click.BadParameter(f"{value!r} is not NAME:1x3x64x64")
    return shapes


def _parse_axes(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, int | None]:
    """Parse NAME:0 and NAME:none; NAME may contain colons."""
    axes: dict[str, int | None] = {}
    for value in values:
        name, _, axis = value.rpartition(":")
        if not name or not (axis.isdecimal() or axis == "none"):
            raise click.BadParameter(f"{value!r} is not NAME:0 or NAME:none")
        axes[name] = None if axis == "none" else int(axis)
    return axes


def _parse_values(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    if not values:
        return {}
    from intrain_onnx.loading import given_inputs

    try:
        return dict(map(given_inputs.split, values))
    except SettingsError as error:
        raise click.BadParameter(str(error)) from None


def _list_arrays(context: click.Context, parameter: click.Parameter, place: Path | None) -> dict[str, str]:
    if place is None:
        return {}
    from intrain_onnx.loading import given_inputs

    try:
        return given_inputs.listed(place)
    except SettingsError as error:
        raise click.BadParameter(str(error)) from None


def given(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for given inputs to a command that runs a model."""
    value = click.option(
        "--input",
        "values",
        multiple=True,
        metavar="NAME=VALUE",
        callback=_parse_values,
        help="Feed an input a number, a list such as 1,2,3 or the array in @FILE.npy; may be given several "
        "times.",
    )
    samples = click.option(
        "--inputs",
        "samples",
        metavar="FILE.npz|FOLDER",
        type=click.Path(path_type=Path),
        callback=_list_arrays,
        help="Feed real samples: arrays under the names of the inputs, or a folder with NAME.npy for each.",
    )
    return value(samples(command))


def numbers_by_name(values: Sequence[str], check: Callable[[dict[str, float]], object]) -> dict[str, float]:
    """The numbers of options NAME=NUMBER.

    Raises:
        BadParameter: one is no such text, or ``check`` refuses it by a SettingsError.
    """
    found: dict[str, float] = {}
    for value in values:
        name, _, number = value.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            raise click.BadParameter(f"{value!r} is not NAME=NUMBER") from None
        try:
            check({name: found[name]})
        except SettingsError as error:
            raise click.BadParameter(str(error)) from None
    return found


def parse_size(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """Bytes from a text such as 4G or 4Gi."""
    try:
        return whole_number(text) if text is not None else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _parse_limits(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> Limits:
    try:
        return parsed(values)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _parse_many(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> Limits:
    _parse_limits(context, parameter, values)
    return parsed(values, Limits(seconds=_OF_MANY))


def _limits_by_name(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    _parse_limits(context, parameter, values)
    return dict(value.split("=", 1) for value in values)


def limited(
    command: Callable[..., None], *, by_name: bool = False, many: bool = False
) -> Callable[..., None]:
    """Add the option for limits to a command that reads a model.

    Args:
        command: the command.
        by_name: give them as a policy does.
        many: of a command for thousands of models, of which one must not hold a worker for hours.
    """
    default = f"  [default: seconds={_OF_MANY:g}]" if many else ""
    add = click.option(
        "--limit",
        "limits",
        multiple=True,
        metavar="NAME=VALUE",
        callback=_limits_by_name if by_name else _parse_many if many else _parse_limits,
        help="Allow a model more of something, or less: seconds=60, memory=4G, elements=4e9; an error says "
        f"which. May be given several times.{default}",
    )
    return add(command)


def shared(command: Callable[..., None], *, limits_by_name: bool = False) -> Callable[..., None]:
    """Add the options common to commands that read a model."""
    shape = click.option(
        "--input-shape",
        "input_shapes",
        multiple=True,
        metavar="NAME:1x3x64x64",
        callback=_parse_shapes,
        help="Sizes of an input that the graph leaves open; the first gives way to --batch.",
    )
    axis = click.option(
        "--batch-axis",
        "batch_axes",
        multiple=True,
        metavar="NAME:0|none",
        callback=_parse_axes,
        help="The axis of an input that holds samples, or none.",
    )
    debug = click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    return shape(axis(limited(debug(command), by_name=limits_by_name)))


QUIET = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "GOMP_SPINCOUNT": "0"}
"""Variables by which idle OpenMP threads sleep."""


def quiet_threads() -> None:
    """Let idle OpenMP threads sleep instead of spin; call it before torch is loaded.

    If another process uses a core, spinning threads make small networks ten times slower.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


@contextmanager
def failures(debug: bool, model: Path | None = None) -> Iterator[list[int]]:
    """Turn an exception into a one-line error; its exit code is stored in the yielded list.

    An OSError is that of the model's file, or else of an output, which is a wrong setting.
    """
    code = [0]
    try:
        yield code
    except Exception as error:
        code[0] = show_failure(Failure.of(error, str(model) if model else None), debug)


def file_targets(outputs: Sequence[str], formats: Sequence[str]) -> list[tuple[str, Path]]:
    """Format and file of each ``FORMAT=FILE``.

    Raises:
        SettingsError: one is no such text, or of another format.
    """
    targets = []
    for output in outputs:
        name, _, file = output.partition("=")
        if name not in formats or not file:
            raise SettingsError(
                f"--output {output} is not FORMAT=FILE", hint=f"FORMAT is one of {', '.join(formats)}"
            )
        targets.append((name, Path(file)))
    return targets


def make_folder(folder: Path) -> None:
    """Make the folder of results, and those above it.

    Raises:
        SettingsError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"cannot make {folder}: {error.strerror}", hint="Name another place with -o"
        ) from error


def print_document(content: str | bytes) -> None:
    """Print a document, text in UTF-8, whatever the terminal's encoding is."""
    click.echo(content.encode() if isinstance(content, str) else content, nl=False)


def show_failure(failure: Failure, debug: bool) -> int:
    """Print a failure as one line; returns its exit code."""
    if debug:
        click.echo(failure.trace, err=True)
    click.echo(f"error: {failure.message}", err=True)
    return failure.exit_code


def of_worker(limits: Limits) -> WorkerLimits:
    """The limits that hold a worker from outside: a job that keeps to its own ends before."""
    from intrain_onnx.engine.outcomes import WorkerLimits

    seconds = limits.seconds * _GRACE + _GRACE_SECONDS
    return WorkerLimits(limits.memory, seconds, limits.cpu_seconds)


def called(call: Call, models: Sequence[Path], *, limits: Limits, debug: bool) -> Generator[Any, None, None]:
    """What a call returns for each model, or a `Failure`; each runs in a process that can die alone.

    The process begins to load the module at once, while this one may load what it will need.
    """
    from intrain_onnx.engine.outcomes import Lost
    from intrain_onnx.engine.processes import Processes
    from intrain_onnx.jobs import Load, failure_of

    engine = Processes(limits=of_worker(limits), silent=not debug)
    engine.warm(Load(call.module))

    def results() -> Generator[Any, None, None]:
        with closing(engine.map(call, models)) as outcomes:
            for outcome in outcomes:
                found = outcome.result
                yield failure_of(found, outcome.item) if isinstance(found, Lost) else found

    return results()


def tell_missing_parity(*, parity: bool) -> None:
    """Warn, once for all models, that nothing is compared where it was asked for and cannot be."""
    from intrain_onnx.parity import telemetry

    absent = telemetry.missing() if parity else None
    if absent is not None:
        click.echo(f"warning: no parity check: {absent}", err=True)


def measured(
    job: Job[Item, Result],
    models: Sequence[Path],
    items: Sequence[Item],
    *,
    limits: Limits,
    parity: bool,
    debug: bool,
) -> Generator[Outcome[Item, Result], None, None]:
    """Run a job on the item of each model, with a bar of progress; what kills its process costs one model.

    Args:
        job: tells each step and the share that is done.
        models: for the bar.
        items: one a model.
        limits: on what a model may take.
        parity: whether onnxruntime is needed.
        debug: show what the processes write on their standard error.
    """
    from intrain_onnx.engine.processes import Processes
    from intrain_onnx.jobs import LoadLibraries

    tell_missing_parity(parity=parity)
    # One load of torch serves all; for one model, torch and onnxruntime are loaded side by side.
    preload = ("intrain_onnx.pipeline",) if len(models) > 1 else ()
    engine = Processes(limits=of_worker(limits), preload=preload, silent=not debug)
    engine.warm(LoadLibraries(parity))
    from intrain_onnx.commands.terminal.progress import progress  # meanwhile

    with progress(sys.stderr) as begin:
        steps = [begin(models[0].name)]

        def following() -> Iterator[Item]:
            for model, item in zip(models, items, strict=True):
                steps[0] = begin(model.name)
                yield item

        with closing(engine.map(job, following(), lambda _, event: steps[0](*event))) as outcomes:
            yield from outcomes
