"""What is counted of imports, on a package and on graphs small enough to see it."""

from __future__ import annotations

from pathlib import Path

import pytest
from import_graph import Import, Package, by_place, circles, in_folders, levels

FILES = {
    "__init__": "from p.low import ground",
    "low.__init__": "",
    "low.ground": "import json",
    "low.middle": "import numpy.linalg\nfrom p.low import ground\nfrom p.low.ground import json",
    "high": """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from p.top import Name
else:
    import p.low.middle
def call():
    if True:
        from p import other
class Holder:
    import torch
""",
    "other": "try:\n    from p.high import call\nexcept ImportError:\n    import p",
    "top": "from p.low.middle import numpy",
}


@pytest.fixture
def package(tmp_path: Path) -> Package:
    for name, text in FILES.items():
        file = (tmp_path / "p").joinpath(*name.split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Package(tmp_path / "p")


def test_each_import_has_its_target_and_its_time(package: Package):
    assert set(package.files) == {"__init__", "low", "low.ground", "low.middle", "high", "other", "top"}
    assert package.imports["high"] == {
        Import("typing", "on load"), Import("top", "never"), Import("low.middle", "on load"),
        Import("other", "on call"), Import("torch", "on load"),
    }  # fmt: skip
    assert {i.target for i in package.imports["low.middle"]} == {"numpy", "low.ground"}
    assert package.arrows()["other"] == {"high", "__init__"}


def test_what_is_loaded_is_reached_and_what_is_called_is_not(package: Package):
    assert package.reached("high") == {"typing", "low", "low.middle", "low.ground", "numpy", "json", "torch"}


def test_places_and_folders(package: Package):
    places = by_place(package.arrows())
    assert places["low"] == set()
    assert places["high"] == {"low", "other", "top"}
    assert in_folders(package) == {".": 3, "low": 2}


def test_circles_and_levels():
    chain = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert (circles(chain), levels(chain)) == ([], 3)
    ring = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}
    assert (circles(ring), levels(ring)) == ([["b", "c"]], 3)
