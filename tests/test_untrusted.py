"""One reader for what is not trusted: it ends soon, with the value or with one line that says why not."""

from __future__ import annotations

import json
import os
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intrain_onnx import untrusted
from intrain_onnx.untrusted import UnreadableError, json_value, text_of, toml_table

DEEP = 100_000

NOT_JSON = {
    "": "it is not JSON",
    "{": "it is not JSON",
    "[" * DEEP + "]" * DEEP: "nested more than 64 levels deep",
    '{"a":' * DEEP + "1" + "}" * DEEP: "nested more than 64 levels deep",
    "[" * 65 + "]" * 65: "nested more than 64 levels deep",
    "1e400": "not a finite number",
    "-1e151": "not a finite number",
    "NaN": "not a finite number",
    "[Infinity]": "not a finite number",
    str(2**63): "a number of more than 64 bits",
    str(-(2**70)): "a number of more than 64 bits",
    "9" * 5000: "a number of more than 64 bits",
    '{"a": 1, "a": 2}': "names a key twice",
    r'["\ud800"]': "half of a surrogate pair",
    r'{"\udfff": 1}': "half of a surrogate pair",
}
NOT_TOML = {
    "a": "it is not TOML",
    "a = 1\na = 2": "it is not TOML",
    "a = " + "[" * DEEP + "]" * DEEP: "nested more than 64 levels deep",
    "a = " + "{a = " * DEEP + "1" + "}" * DEEP: "nested more than 64 levels deep",
    "a = " + "[" * 70 + "]" * 70: "nested more than 64 levels deep",
    ".".join(["a"] * DEEP) + " = 1": "a key of more than 32 parts",
    "[" + " . ".join(["'a'"] * DEEP) + "]": "a key of more than 32 parts",
    f"a = {2**70}": "a number of 71 bits",
    "a = " + "9" * 5000: "thousands of digits",
    "a = 0x" + "f" * 5000: "a number of 20000 bits",
}


def short(text: str) -> str:
    return f"{text[:24]!r} of {len(text)}"


@pytest.mark.parametrize("text", NOT_JSON, ids=short)
def test_json_that_is_refused(text: str):
    refused(json_value, text, NOT_JSON[text])


@pytest.mark.parametrize("text", NOT_TOML, ids=short)
def test_toml_that_is_refused(text: str):
    refused(toml_table, text, NOT_TOML[text])


def refused(read: Callable[[str], object], text: str, why: str) -> None:
    started = time.perf_counter()
    with pytest.raises(UnreadableError, match=why) as caught:
        read(text)
    assert len(str(caught.value)) < 200
    assert time.perf_counter() - started < 5


def test_a_long_line_without_dots_takes_no_quadratic_time():
    started = time.perf_counter()
    assert toml_table(f'a = "{"x" * 500_000}"\n{"b" * 400_000} = 0.5')["a"].startswith("x")
    assert time.perf_counter() - started < 5


SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(-1e150, 1e150) | st.text()
)


@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_of_ours_is_read_as_it_was(value: object):
    assert json_value(json.dumps(value, ensure_ascii=False)) == value


def test_toml_keeps_infinity_and_dotted_keys():
    text = 'limit = inf\n[a."b.c".d]\ne = [0.1, 0.2]\n'
    assert toml_table(text) == tomllib.loads(text)


@pytest.mark.parametrize("data", [b"a", b"\xef\xbb\xbfa"], ids=["plain", "byte order mark"])
def test_text_in_utf8(tmp_path: Path, data: bytes):
    (tmp_path / "file").write_bytes(data)
    assert text_of(tmp_path / "file", 4) == "a"


def sparse(folder: Path) -> Path:
    with (folder / "sparse").open("wb") as file:
        file.truncate(10**9)
    return folder / "sparse"


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def utf16(folder: Path) -> Path:
    (folder / "text").write_text("a", encoding="utf-16")
    return folder / "text"


FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a folder": (lambda folder: folder, "this is a folder, not a regular file"),
    "a pipe": (pipe, "this is a named pipe"),
    "a device": (lambda _: Path("/dev/zero"), "this is a device"),
    "a gigabyte": (sparse, "it has 1,000,000,000 bytes, over the limit of 1,000"),
    "utf-16": (utf16, "it is not text in UTF-8"),
    "a null in the path": (lambda folder: folder / "a\0b", "null"),
}


@pytest.mark.skipif(os.name == "nt", reason="no pipes and devices there")
@pytest.mark.parametrize("name", FILES)
def test_files_that_are_refused(tmp_path: Path, name: str):
    make, why = FILES[name]
    with pytest.raises(UnreadableError, match=why):
        text_of(make(tmp_path), 1000)


def test_a_file_that_says_it_is_empty_is_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As those of /proc, and one that grows while it is read."""
    file = tmp_path / "file"
    file.write_bytes(b"x" * 2000)

    class Empty:
        st_mode, st_size = file.stat().st_mode, 0

    monkeypatch.setattr(untrusted.os, "fstat", lambda _: Empty)
    with pytest.raises(UnreadableError, match="over 1,000 bytes"):
        text_of(file, 1000)
