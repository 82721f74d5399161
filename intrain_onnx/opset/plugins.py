"""Plugins: operators of other packages, declared by entry points, imported when a model needs them.

A package declares each operator that it adds in the group ``intrain_onnx.ops``. The name is the domain and
the operator, with a dot between them; the value is the module that registers it::

    [project.entry-points."intrain_onnx.ops"]
    "com.acme.Magic" = "acme_ops.handlers"

So the static analysis knows the operator without importing the module and torch, and a broken package
affects only the models that need it.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import metadata

from intrain_onnx.errors import SettingsError

GROUP = "intrain_onnx.ops"

_loaded: set[tuple[str, str]] = set()


@lru_cache(maxsize=1)
def declared() -> dict[tuple[str, str], list[metadata.EntryPoint]]:
    """Entry points by domain ("" for ai.onnx) and operator."""
    found: dict[tuple[str, str], list[metadata.EntryPoint]] = {}
    for entry in metadata.entry_points(group=GROUP):
        domain, _, op_type = entry.name.rpartition(".")
        found.setdefault(("" if domain == "ai.onnx" else domain, op_type), []).append(entry)
    return found


def distribution(entry: metadata.EntryPoint) -> str:
    """The package that an entry point is from."""
    return entry.dist.name if entry.dist is not None else entry.module


def load(domain: str, op_type: str) -> bool:
    """Import the modules that declare an operator, once.

    Returns:
        Whether anything was imported now.

    Raises:
        SettingsError: one fails to import; names its distribution.
    """
    key = (domain, op_type)
    if key in _loaded or key not in declared():
        return False
    for entry in declared()[key]:
        try:
            entry.load()
        except Exception as error:  # whatever a module may raise when it is imported
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise SettingsError(
                f"plugin '{distribution(entry)}' ({entry.name} = {entry.value}) fails to import: {reason}",
                hint="Repair it, or uninstall it",
            ) from error
    _loaded.add(key)
    return True
