"""The one place through which onnxruntime is looked for and loaded, with its telemetry disabled. No torch.

From 1.29 on its official builds write a device identifier and a database of events into the home folder when
they are loaded, and retry to send them until they succeed.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from types import ModuleType

SWITCHES = {"ORT_DISABLE_TELEMETRY": "1"}
"""Environment variables that the library reads once when it is loaded: no identifier, database or socket."""


DISTRIBUTIONS = (
    "onnxruntime-gpu",
    "onnxruntime",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
)
"""Those that hold the package; each overwrites the files of another, so one of them is installed."""

NOT_INSTALLED = "onnxruntime is not installed: pip install 'intrain-onnx[cpu]'"
"""The reason, and the next step. The extra brings the build for the CPU, which needs no other package."""


def missing() -> str | None:
    """Why there is no onnxruntime to ask, with the next step; None if one is installed.

    It is looked for by the name that is imported: several distributions have it, such as ``onnxruntime-gpu``.
    """
    try:
        found = find_spec("onnxruntime")
    except (ImportError, ValueError):  # a finder that refuses it, or a module without a spec
        return NOT_INSTALLED
    # A folder alone is what is left where one of two distributions that share it was uninstalled.
    return None if found is not None and found.origin is not None else NOT_INSTALLED


def import_onnxruntime() -> ModuleType:
    """Import onnxruntime with its telemetry disabled; the only import of it in this package.

    Raises:
        ImportError: it is not installed, or its libraries do not load.
    """
    os.environ.update(SWITCHES)
    import onnxruntime  # noqa: PLC0415 - the switches come first

    onnxruntime.disable_telemetry_events()  # Windows' own event tracing reads no variable
    return onnxruntime  # type: ignore[no-any-return]
