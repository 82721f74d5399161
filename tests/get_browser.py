#!/usr/bin/env python3
"""Bring the browser that the tests open pages with: ``python tests/get_browser.py``.

Debian's chromium and chromium-driver, which are of one version by their packages. Installed by apt-get where
they are missing and the user may; else the message says how. Fonts come with it: without any, pages have no
text to measure.
"""

import os
import shutil
import subprocess
import sys

PROGRAMS = ("chromium", "chromedriver")
PACKAGES = ("chromium", "chromium-driver", "fonts-dejavu-core")
COMMANDS = (
    ("apt-get", "update", "-qq"),
    ("apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES),
)


class MissingBrowser(LookupError):  # noqa: N818 - not an error where tests skip on it
    """There is no browser, and the message says what to do."""


def programs() -> dict[str, str]:
    """Return the paths of the browser and of its driver; raise MissingBrowser where one is missing."""
    found = {name: shutil.which(name) for name in PROGRAMS}
    missing = [name for name, place in found.items() if place is None]
    if missing:
        raise MissingBrowser(
            f"{' and '.join(missing)} not found: as root run `python tests/get_browser.py`, "
            f"or install {' and '.join(PACKAGES[:2])} yourself"
        )
    return {name: place for name, place in found.items() if place is not None}


def main() -> int:
    """Install what is missing; without a browser in the end, fail in CI alone."""
    try:
        programs()
    except MissingBrowser:
        if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
            environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
            for command in COMMANDS:
                subprocess.run(command, check=False, env=environment, stdout=subprocess.DEVNULL)
    try:
        for name, place in programs().items():
            print(f"{name}: {place}", flush=True)
    except MissingBrowser as error:
        print(f"browser: MISSING: {error}", file=sys.stderr, flush=True)
        return int(
            os.environ.get("CI", "").lower() in {"1", "true", "yes"}
        )  # elsewhere its tests are skipped
    return 0


if __name__ == "__main__":
    sys.exit(main())
