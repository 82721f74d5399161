"""What a user gives for inputs: how it is written, and files of arrays that are not trusted."""

from __future__ import annotations

import io
import random
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from intrain_onnx import memory
from intrain_onnx.errors import LimitError, SettingsError
from intrain_onnx.loading.given_inputs import listed, read, split

IDS = np.arange(6, dtype=np.int64).reshape(2, 3)


def npy(array: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def header(shape: str, descr: str = "'<f4'") -> bytes:
    """A file that says it holds an array of that shape, and holds none."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("x=1.0", "x", "1.0"),
        ("x=-2", "x", "-2"),
        ("a:b=1e-3", "a:b", "1e-3"),
        ("a=b=1,2,3", "a=b", "1,2,3"),
        ("x=@f.npy", "x", "@f.npy"),
        ("a=b=@f.npy", "a=b", "@f.npy"),
        ("x=@dir=1/f.npy", "x", "@dir=1/f.npy"),
        ("a=@b=@f.npy", "a=@b", "@f.npy"),
    ],
)
def test_a_name_may_hold_colons_and_equals_signs(text: str, name: str, value: str):
    assert split(text) == (name, value)


@pytest.mark.parametrize("text", ["x", "x=", "=1", "x=a", "x=1,", "x=@", "x=1;2", "x=1 2", "=@f.npy"])
def test_what_is_not_of_that_form_is_refused_with_the_form(text: str):
    with pytest.raises(SettingsError, match=r"is not NAME=1\.0, NAME=1,2,3 or NAME=@FILE\.npy"):
        split(text)


@pytest.mark.parametrize(
    ("names", "text", "name"),
    [
        (["a", "a=b"], "a=b=1", "a=b"),
        (["x"], "x=@one=@two.npy", "x"),
        (["x=@one"], "x=@one=@two.npy", "x=@one"),
        (["x", "x=@one"], "x=@one=@two.npy", "x=@one"),
        (["a=@b"], "a=@b=1.5", "a=@b"),
    ],
)
def test_the_longest_name_of_an_input_is_taken(
    names: list[str], text: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for file in ("two.npy", "one=@two.npy"):
        Path(file).write_bytes(npy(IDS))
    key, value = split(text)
    assert list(read({key: value}, names)) == [name]


def test_numbers_lists_and_arrays():
    found = read({"a": 2, "b": [1, 2.5], "c": IDS, "d": "3,4", "e": True, "f": np.float32(0.5)}, "abcdef")
    assert [found[n].array.tolist() for n in "abcdef"] == [2, [1.0, 2.5], IDS.tolist(), [3, 4], True, 0.5]
    assert [found[n].source for n in "abcdef"] == ["value", "value", "array", "value", "value", "value"]
    assert [found[n].told for n in "abcdef"] == ["2", "1,2.5", "array", "3,4", "1", "0.5"]
    assert read(found, "abcdef") == found


@pytest.mark.parametrize("value", ["word", None, [[1, 2], [3]], [[1, 2]], [], {"a": 1}, ["a"], object()])
def test_what_is_no_number_is_refused(value: Any):
    with pytest.raises(SettingsError, match=r"what is given for input 'x' is .*Give a number"):
        read({"x": value}, ["x"])


def test_arrays_of_other_libraries_are_taken():
    found = read({"x": torch.arange(6).reshape(2, 3)}, ["x"])["x"]
    assert (found.array.tolist(), found.source, found.told) == (IDS.tolist(), "array", "array")


def test_an_unknown_name_lists_the_inputs():
    with pytest.raises(SettingsError, match=r"the model has no input 'z'\. Its inputs are 'a', 'b:c'"):
        read({"z": 1}, ["a", "b:c"])


@pytest.mark.parametrize("value", [np.array([0, np.nan]), "nan", float("nan")])
def test_nan_is_refused_and_infinity_is_not(value: Any):
    """An additive mask holds infinities."""
    with pytest.raises(SettingsError, match="holds NaN"):
        read({"x": value}, ["x"])
    assert read({"x": "-inf"}, ["x"])["x"].array == -np.inf


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_files(order: Any, tmp_path: Path):
    array = np.asarray(IDS, order=order)
    np.save(tmp_path / "x.npy", array)
    np.savez(tmp_path / "s.npz", **{"x": array, "a/b:c=d": array[:1]})  # type: ignore[arg-type]
    np.savez_compressed(tmp_path / "one.npz", other=array)
    for told in (f"@{tmp_path}/x.npy", f"@{tmp_path}/s.npz", f"@{tmp_path}/one.npz"):
        found = read({"x": told}, ["x"])["x"]
        assert np.array_equal(found.array, IDS)
        assert (found.source, found.told) == ("file", told)
    assert listed(tmp_path / "s.npz") == dict.fromkeys(("x", "a/b:c=d"), f"@{tmp_path}/s.npz")
    assert listed(tmp_path) == {"x": f"@{tmp_path}/x.npy"}
    named = read(listed(tmp_path / "s.npz"), ["x", "a/b:c=d"])
    assert named["a/b:c=d"].array.shape == (1, 3)


def test_a_file_without_the_array_names_those_that_it_has(tmp_path: Path):
    np.savez(tmp_path / "s.npz", a=IDS, b=IDS)
    with pytest.raises(SettingsError, match=r"s\.npz has no array 'x'\. Its arrays are 'a', 'b'"):
        read({"x": f"@{tmp_path}/s.npz"}, ["x"])


def zipped(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return stream.getvalue()


BROKEN = {
    "no array": b"hello",
    "empty": b"",
    "a header alone": header("(2, 3)"),
    "a header cut": header("(2, 3)")[:30],
    "cut": npy(IDS)[:-1],
    "objects": npy(np.array([{}], object), allow_pickle=True),
    "strings": npy(np.array(["a"])),
    "fields": npy(np.zeros(2, [("a", "<f4")])),
    "negative": header("(-1, 3)"),
    "version 9": b"\x93NUMPY\x09\x00" + npy(IDS)[8:],
    "zipped garbage": zipped(x=b"hello"),
    "zipped objects": zipped(x=npy(np.array([{}], object), allow_pickle=True)),
    "zip cut": zipped(x=npy(IDS))[:-30],
    "zip damaged": zipped(x=npy(IDS)).replace(npy(IDS)[-40:], bytes(40), 1),
    "code": header("__import__('os')"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_file_is_refused_in_one_line(name: str, tmp_path: Path):
    file = tmp_path / "x.npy"
    file.write_bytes(BROKEN[name])
    with pytest.raises(SettingsError) as caught:
        read({"x": f"@{file}"}, ["x"])
    assert str(caught.value).startswith(f"cannot read {file}: ")
    assert str(caught.value).endswith("Write it with numpy.save or numpy.savez, without Python objects")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("place", ["missing.npy", "."])
def test_a_place_without_a_file_is_refused(place: str, tmp_path: Path):
    with pytest.raises(SettingsError, match="cannot read"):
        read({"x": f"@{tmp_path / place}"}, ["x"])


def test_a_place_without_arrays_is_refused(tmp_path: Path):
    (tmp_path / "empty.npz").write_bytes(zipped())
    for place in (tmp_path, tmp_path / "empty.npz"):
        with pytest.raises(SettingsError, match=r"holds no arrays\. Write one NAME\.npy for each input"):
            listed(place)
    (tmp_path / "bad.npz").write_bytes(b"hello")
    for name in ("bad.npz", "missing.npz"):
        with pytest.raises(SettingsError, match=f"cannot read .*{name}"):
            listed(tmp_path / name)


@pytest.mark.parametrize("data", [header("(1000000, 1000000)"), zipped(x=header("(1000000, 1000000)"))])
def test_an_array_that_does_not_fit_into_memory_is_refused_by_its_header(data: bytes, tmp_path: Path):
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(LimitError, match=r"input 'x': the array takes 3725\.3 GiB.*Give fewer samples"):
        read({"x": f"@{tmp_path}/x.npy"}, ["x"])


def test_the_limit_is_the_memory_that_is_free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    np.save(tmp_path / "x.npy", IDS)
    monkeypatch.setattr(memory, "available", lambda: 3 * IDS.nbytes)
    read({"x": f"@{tmp_path}/x.npy"}, ["x"])
    monkeypatch.setattr(memory, "available", lambda: 3 * IDS.nbytes - 1)
    with pytest.raises(LimitError):
        read({"x": f"@{tmp_path}/x.npy"}, ["x"])


def test_what_numpy_saves_of_bfloat16_is_read(tmp_path: Path):
    np.save(tmp_path / "x.npy", np.ones(3, ml_dtypes.bfloat16))
    assert read({"x": f"@{tmp_path}/x.npy"}, ["x"])["x"].array.dtype == np.dtype("V2")


def raw_npy(header: str, version: int = 1, length: int | None = None) -> bytes:
    """A file of numpy's with any header."""
    told = len(header) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + told.to_bytes(2 * version, "little") + header.encode()


def described(shape: str, kind: str = "<f4") -> bytes:
    return raw_npy(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}") + b"\0" * 64


HOSTILE = {
    "a shape of 71 bits": described(f"({2**70},)"),
    "no elements of 71 bits": described(f"(0, {2**70})"),
    "a negative shape": described("(-1,)"),
    "70 axes": described(f"({'1,' * 70})"),
    "deep": raw_npy("[" * 190 + "]" * 190),
    "many parentheses": raw_npy("(" * 9000),
    "many signs": raw_npy("-" * 9000 + "1"),
    "not closed": raw_npy("{'descr': '<f4"),
    "a header of gigabytes": raw_npy("", 2, 2**32 - 1),
    "a pickle": described("(1,)", "|O") + b"\x80\x04.",
    "a name of a type": described("(1,)", "os.system"),
    "nothing": b"",
    "an empty archive": b"PK\x05\x06" + b"\0" * 18,
}


@pytest.mark.parametrize("way", ["alone", "in an archive"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_array_is_refused_in_one_line(tmp_path: Path, name: str, way: str):
    file = tmp_path / "x.npz"
    file.write_bytes(HOSTILE[name])
    if way == "in an archive":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", HOSTILE[name])
    with pytest.raises((SettingsError, LimitError)) as caught:
        read({"x": f"@{file}"}, ["x"])
    assert str(caught.value).isprintable()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_a_damaged_archive_is_refused_or_read(tmp_path: Path, method: int):
    rng = random.Random(method)
    file, array = tmp_path / "x.npz", io.BytesIO()
    np.save(array, np.ones((3, 4), np.float32))
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("x.npy", array.getvalue())
    whole, refused = file.read_bytes(), 0
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        file.write_bytes(data)
        try:
            listed(file)
            read({"x": f"@{file}"}, ["x"])
        except (SettingsError, LimitError):
            refused += 1
    assert refused > 100
