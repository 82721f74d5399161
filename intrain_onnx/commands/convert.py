"""``intrain-onnx-convert``: the scripts of ``converters/``, as a command. Loads no framework."""

from __future__ import annotations

import ast
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import click

_PREFIX = "from_"


def _scripts() -> dict[str, Path]:
    """The scripts by the framework's name: as they were installed, or of the clone that this is in."""
    spec = find_spec("intrain_onnx_converters")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    folders.append(str(Path(__file__).parents[2] / "converters"))
    for folder in folders:
        found = sorted(Path(folder).glob(f"{_PREFIX}*.py"))
        if found:
            return {file.stem.removeprefix(_PREFIX): file for file in found}
    return {}


def _purpose(script: Path) -> str:
    """The first line of the script's docstring."""
    told = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    return told.partition("\n")[0]


class _Frameworks(click.Group):
    """A command for each script; its options are read by the script alone."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_scripts())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        script = _scripts().get(cmd_name)
        return _command(cmd_name, script) if script is not None else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not ctx.resilient_parsing and args[0] not in _scripts():
            raise click.UsageError(f"no converter for {args[0]!r}, but for {', '.join(_scripts())}")
        return super().resolve_command(ctx, args)


class _Script(click.Command):
    """Passes all that follows on as it stands."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params["arguments"] = list(args)
        return []


def _command(name: str, script: Path) -> click.Command:
    def run(arguments: list[str]) -> None:
        sys.argv = [f"intrain-onnx-convert {name}", *arguments]
        spec = spec_from_file_location("__main__", script)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules["__main__"] = module_from_spec(spec)  # runpy would set the program's name
        spec.loader.exec_module(module)

    files = click.Argument(["arguments"], nargs=-1, type=click.Path())  # completed as files
    return _Script(name, callback=run, params=[files], short_help=_purpose(script), add_help_option=False)


@click.command(cls=_Frameworks, context_settings={"max_content_width": 100})
@click.version_option(package_name="intrain-onnx")
def main() -> None:
    """Make an ONNX file of a model of another framework, and compare both.

    Each command is a script that can be run alone; `intrain-onnx-convert keras --help` shows its options. It
    needs the framework and its exporter, and says how to get them where they are not installed.
    """
