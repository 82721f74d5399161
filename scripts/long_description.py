"""The page that a package index shows: README.md, with links that lead somewhere from there.

Links to files are made absolute below the address ``Source`` of ``[project.urls]``. As long as there is none,
a link is its text and the place of the file, and a picture is left out: a dead link helps nobody.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>(?![a-z]+:|#)[^)\s]+)\)")
"""A link or a picture of Markdown that is relative, and is not within the page."""

NOTE = "<!-- Written by scripts/generate from README.md, for package indexes. -->\n\n"


def source() -> str:
    """The address of the project's files; empty if it has none."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project.get("urls", {}).get("Source", "")).rstrip("/")


def absolute(page: str, address: str) -> str:
    """A page without relative links, of files at an address; empty for none."""

    def made(link: re.Match[str]) -> str:
        text, target, image = link["text"], link["target"], link["image"]
        if address:
            return f"{image}[{text}]({address}/{'raw' if image else 'blob'}/HEAD/{target})"
        place = target.partition("#")[0]
        if image:
            return ""
        return (
            text if text.rstrip("/") == place.removesuffix("README.md").rstrip("/") else f"{text} ({place})"
        )

    return re.sub(r"\n{3,}", "\n\n", LINK.sub(made, page))


def text() -> str:
    """The page of today."""
    return NOTE + absolute((ROOT / "README.md").read_text(encoding="utf-8"), source())
