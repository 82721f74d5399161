"""Recognise other file formats by their magic bytes."""

from __future__ import annotations

from intrain_onnx.errors import ModelFileError

_EXPORT = "Export it to ONNX first: README.md shows how"
_STARTS: list[tuple[bytes, str, str]] = [
    (b"PK\x03\x04", "a ZIP archive (a Keras .keras file, a PyTorch .pt or .pt2, a NumPy .npz?)", _EXPORT),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (a Keras .h5?)", _EXPORT),
    (b"\x80\x02", "a Python pickle (a PyTorch checkpoint?), which is never opened here", _EXPORT),
    (b"\x80\x03", "a Python pickle, which is never opened here", _EXPORT),
    (b"\x80\x04", "a Python pickle (scikit-learn, joblib?), which is never opened here", _EXPORT),
    (b"\x80\x05", "a Python pickle (scikit-learn, joblib?), which is never opened here", _EXPORT),
    (b"\x93NUMPY", "a NumPy array", "It has no graph: give the ONNX model"),
    (b"GGUF", "a GGUF file", "It has weights but no graph: export the model to ONNX"),
    (b"version https://git-lfs", "a Git LFS pointer, not the model itself", "Fetch the model: git lfs pull"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image", "Give the .onnx file"),
    (b"\xff\xd8\xff", "a JPEG image", "Give the .onnx file"),
    (b"%PDF", "a PDF document", "Give the .onnx file"),
    (b"\x1f\x8b", "a gzip archive", "Unpack it first"),
    (b"BZh", "a bzip2 archive", "Unpack it first"),
    (b"\xfd7zXZ", "an xz archive", "Unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", "Unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive", "Unpack it first"),
    (b"Rar!", "a RAR archive", "Unpack it first"),
    (b"\x7fELF", "a program", "Give the .onnx file"),
    (b"MZ", "a program", "Give the .onnx file"),
]


def recognise(data: bytes) -> ModelFileError | None:
    """The error that names the format of these bytes; None if it is not a known one."""
    if not data:
        return ModelFileError("the file is empty", hint="Copy or download it again")
    found = next(((what, hint) for start, what, hint in _STARTS if data.startswith(start)), None)
    if data[4:8] == b"TFL3":
        found = "a TensorFlow Lite model", "Convert it with tf2onnx --tflite"
    elif data[4:8] == b"ORTM":
        found = "onnxruntime's own .ort format", "Give the ONNX model that it was made from"
    elif data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data):
        found = "a safetensors file", "It has weights but no graph: export the model to ONNX"
    elif data[:512].lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        found = "a web page or XML", "The download failed: fetch the file itself"
    elif data[:512].lstrip().startswith(b"<") and b"ir_version" in data[:512]:
        found = "ONNX's text format", "Convert it with onnx.parser.parse_model and onnx.save"
    elif data[:512].lstrip().startswith((b"{", b"[")) and data[:512].isascii():
        found = "JSON text", "Give the .onnx file"
    return ModelFileError(f"this is {found[0]}, not an ONNX model", hint=found[1]) if found else None
