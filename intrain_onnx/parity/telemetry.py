"""Keeps onnxruntime from telling others of its use. No torch.

From 1.29 on its official builds write a device identifier and a database of events into the home folder when
they are loaded, and send them until they get through.
"""

from __future__ import annotations

import os
from types import ModuleType

SWITCHES = {"ORT_DISABLE_TELEMETRY": "1"}
"""Environment variables, read once as the library loads: no identifier, no database, no socket."""


def import_onnxruntime() -> ModuleType:
    """Import onnxruntime with its telemetry off; the only way in which this package does.

    Raises:
        ImportError: it is not installed, or its libraries do not load.
    """
    os.environ.update(SWITCHES)
    import onnxruntime  # noqa: PLC0415 - the switches come first

    onnxruntime.disable_telemetry_events()  # Windows' own event tracing reads no variable
    return onnxruntime  # type: ignore[no-any-return]
