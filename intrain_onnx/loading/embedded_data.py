"""The data of large tensors inside a model file stays there until it is used.

A message that protobuf parsed has stand-ins for it (see `file_contents`), and `EmbeddedTensor` reads what it
is asked for: weights that a protocol draws anew are never read, as those of external data.

The file is held open and read, not mapped: a mapped file that another program cuts short ends the process
(SIGBUS), and three of four float32 tensors lie unaligned in a protobuf message, where numpy sums in another
order. With each read, a file that was changed is noticed, by its size and time of change. One that is
exchanged for another of its name can be read on.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir import serde

from intrain_onnx.errors import ModelFileError, UnsafeModelError

WAYS = {
    "ModelProto": ("graph", "functions"),
    "GraphProto": ("node", "initializer"),
    "FunctionProto": ("node",),
    "NodeProto": ("attribute",),
    "AttributeProto": ("t", "tensors", "g", "graphs"),
    "TensorProto": ("raw_data",),
}
"""Messages and their fields: the ways to the data that may have a stand-in, from the whole to the part."""


class HeldFile:
    """A file that is held open, and read at any place while it is the one that was opened.

    Args:
        handle: of the file; it is duplicated.
        size: its bytes, when it was opened.
    """

    def __init__(self, handle: int, size: int) -> None:
        self._handle = os.dup(handle)
        weakref.finalize(self, os.close, self._handle)
        self._identity = size, os.fstat(self._handle).st_mtime_ns

    def is_unchanged(self) -> bool:
        """Whether it has the size and the time of change that it had."""
        found = os.fstat(self._handle)
        return (found.st_size, found.st_mtime_ns) == self._identity

    def read(self, offset: int, length: int) -> bytes:
        """So many bytes from a place on, as they were when the file was opened.

        Raises:
            UnsafeModelError: the file was changed.
            ModelFileError: it cannot be read.
        """
        parts = []
        try:
            while length:
                part = os.pread(self._handle, length, offset)
                if not part:
                    break
                parts.append(part)
                offset, length = offset + len(part), length - len(part)
            if length or not self.is_unchanged():
                raise UnsafeModelError("the file changed while it was in use", hint="Start again")
        except OSError as error:
            raise ModelFileError(f"cannot read the file: {error.strerror}") from None
        return parts[0] if len(parts) == 1 else b"".join(parts)


@dataclass(frozen=True, slots=True)
class Payload:
    """The data of a tensor, in a file."""

    file: HeldFile = field(repr=False)
    offset: int
    nbytes: int

    def tobytes(self) -> bytes:
        """Reads it; for the errors see `HeldFile.read`."""
        return self.file.read(self.offset, self.nbytes)


def payload_of(tensor: onnx.TensorProto, payloads: Mapping[bytes, Payload]) -> Payload | None:
    """What a tensor has a stand-in for; None if its data is in the message."""
    return payloads.get(tensor.raw_data) if payloads else None


def filled(model: onnx.ModelProto, payloads: Mapping[bytes, Payload]) -> onnx.ModelProto:
    """A model with its data in place of stand-ins: a copy; itself if it has none."""
    if not payloads:
        return model
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    for tensor, payload in _stand_ins(copied, payloads):
        tensor.raw_data = payload.tobytes()
    return copied


def empty(model: onnx.ModelProto, payloads: Mapping[bytes, Payload]) -> None:
    """Make tensors of no elements of those whose data is in the file, in place.

    For onnx's checker, which holds the size of data against the shape, and looks into that of float6 alone.
    """
    for tensor, payload in _stand_ins(model, payloads):
        if is_held_to_bits(tensor):
            tensor.raw_data = payload.tobytes()
        else:
            tensor.ClearField("raw_data")
            tensor.dims[:] = [0]


def is_held_to_bits(tensor: onnx.TensorProto) -> bool:
    """Whether onnx and onnx_ir look at the data of a tensor to see if it is valid: that of float6."""
    return tensor.data_type in (ir.DataType.FLOAT6E2M3, ir.DataType.FLOAT6E3M2)


def _stand_ins(
    model: onnx.ModelProto, payloads: Mapping[bytes, Payload]
) -> Iterator[tuple[onnx.TensorProto, Payload]]:
    """The tensors of a model whose data is in its file, on all `WAYS`."""
    holders: list[onnx.GraphProto | onnx.FunctionProto] = [model.graph, *model.functions]
    tensors: list[onnx.TensorProto] = []
    while holders:
        holder = holders.pop()
        tensors += getattr(holder, "initializer", ())
        for attribute in (a for node in holder.node for a in node.attribute):
            tensors += [attribute.t] if attribute.HasField("t") else []
            tensors += attribute.tensors
            holders += [attribute.g] if attribute.HasField("g") else []
            holders += attribute.graphs
    for tensor in tensors:
        payload = payload_of(tensor, payloads)
        if payload is not None:
            yield tensor, payload


class NamedTensor(serde.TensorProtoTensor):
    """A tensor over a protobuf message that can be renamed without changing the message."""

    __slots__ = ("_own_name",)

    def __init__(self, proto: onnx.TensorProto) -> None:
        super().__init__(proto)
        self._own_name: str = proto.name

    @property
    def name(self) -> str:
        """Its own, at first that of the message."""
        return self._own_name

    @name.setter
    def name(self, value: str | None) -> None:
        """Renames it alone."""
        self._own_name = value or ""


class EmbeddedTensor(NamedTensor):
    """A tensor whose data stays in the model's file: each call reads it, and what it returns is its own.

    For the errors of `numpy`, `tobytes` and `raw` see `HeldFile.read`.
    """

    __slots__ = ("payload",)

    def __init__(self, proto: onnx.TensorProto, payload: Payload) -> None:
        super().__init__(proto)
        self.payload = payload

    @property
    def raw(self) -> onnx.TensorProto:
        """The message, with its data."""
        whole = onnx.TensorProto()
        whole.CopyFrom(super().raw)
        whole.raw_data = self.payload.tobytes()
        return whole

    def tobytes(self) -> bytes:
        """The elements in little endian, packed."""
        return self.payload.tobytes()

    def numpy(self) -> np.ndarray[Any, Any]:
        """The elements, read-only."""
        if self.dtype.bitwidth < 8:
            return serde.TensorProtoTensor(self.raw).numpy()
        dtype = self.dtype.numpy().newbyteorder("<")
        return np.frombuffer(self.tobytes(), dtype).reshape(self.shape.numpy())
