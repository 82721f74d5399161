"""Disables onnxruntime's telemetry. No torch.

From 1.29 on its official builds write a device identifier and a database of events into the home folder when
they are loaded, and retry to send them until they succeed.
"""

from __future__ import annotations

import os
from types import ModuleType

SWITCHES = {"ORT_DISABLE_TELEMETRY": "1"}
"""Environment variables that the library reads once when it is loaded: no identifier, database or socket."""


def import_onnxruntime() -> ModuleType:
    """Import onnxruntime with its telemetry disabled; the only import of it in this package.

    Raises:
        ImportError: it is not installed, or its libraries do not load.
    """
    os.environ.update(SWITCHES)
    import onnxruntime  # noqa: PLC0415 - the switches come first

    onnxruntime.disable_telemetry_events()  # Windows' own event tracing reads no variable
    return onnxruntime  # type: ignore[no-any-return]
