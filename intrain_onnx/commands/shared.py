"""Shared by the commands: options, exit codes, errors as one line."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from intrain_onnx import memory
from intrain_onnx.errors import IntrainError, SettingsError, printable
from intrain_onnx.loading.allowance import out_of_memory
from intrain_onnx.loading.limits import Limits, parsed

EXIT_CODES = """
\b
Exit codes:
  0  done                          4  unsupported model or operator
  1  an error inside intrain-onnx  5  not finite: says where it began
  2  wrong usage or setting        6  a limit was exceeded
  3  not a valid or safe model     7  compare: not the same architecture
With several models it is the code of the first that failed.
"""


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
    from intrain_onnx.loading import given_inputs

    try:
        return dict(map(given_inputs.split, values))
    except SettingsError as error:
        raise click.BadParameter(str(error)) from None


def _list_arrays(context: click.Context, parameter: click.Parameter, place: Path | None) -> dict[str, str]:
    from intrain_onnx.loading import given_inputs

    try:
        return {} if place is None else given_inputs.listed(place)
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


def _parse_limits(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> Limits:
    try:
        return parsed(values)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _limits_by_name(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    _parse_limits(context, parameter, values)
    return dict(value.split("=", 1) for value in values)


def limited(command: Callable[..., None], *, by_name: bool = False) -> Callable[..., None]:
    """Add the option for limits to a command that reads a model; ``by_name`` gives them as a policy does."""
    add = click.option(
        "--limit",
        "limits",
        multiple=True,
        metavar="NAME=VALUE",
        callback=_limits_by_name if by_name else _parse_limits,
        help="Allow a model more of something, or less: seconds=60, memory=4G, elements=4e9; an error says "
        "which. May be given several times.",
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


def quiet_threads() -> None:
    """Let idle OpenMP threads sleep instead of spin; call it before torch is loaded.

    If another process uses a core, spinning threads make small networks ten times slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")


@contextmanager
def failures(debug: bool, model: Path | None = None) -> Iterator[list[int]]:
    """Turn an exception into a one-line error; its exit code is stored in the yielded list."""
    code = [0]
    try:
        yield code
    except IntrainError as error:
        _report_error(str(error.at(path=str(model)) if model else error), debug)
        code[0] = error.exit_code
    except BrokenPipeError:  # nobody reads on: for click to end in silence
        raise
    except Exception as error:
        if memory.ran_out(error):
            lack = out_of_memory(error).at(path=str(model) if model else None)
            _report_error(str(lack), debug)
            code[0] = lack.exit_code
            return
        if isinstance(error, OSError):
            _report_error(f"{model}: {error.strerror or error}", debug)
            code[0] = 3
            return
        detail = f"{type(error).__name__}: {error}".splitlines()[0]
        _report_error(f"{model}: internal error: {detail}. Run with --debug and report it", debug)
        code[0] = 1


def _report_error(message: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    click.echo(f"error: {printable(message, 2000)}", err=True)
