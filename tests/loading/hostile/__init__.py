"""Hostile, broken and odd model files, and a cage to open them in.

``STATIC`` holds files that the loader itself must refuse, with the error and words of its message.
``RUNTIME`` holds sound files that do harm when they are run: they load, and what runs them must stop them.
A new case is one function in the module of its kind: it writes what it needs below a folder and returns the
path to open.
"""

from . import (  # noqa: F401  they enter their cases
    budgets,
    external_data,
    functions,
    not_a_model,
    runtime,
    sizes,
    structure,
    tensors,
)
from .cases import RUNTIME, STATIC, Case

__all__ = ["RUNTIME", "STATIC", "Case"]
