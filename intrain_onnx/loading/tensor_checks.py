"""Check that the data of each tensor fits its element type and shape.

onnx.load and the checker accept negative dimensions, unknown types and data shorter or longer than the shape
says (CVE-2024-27319 reads past its end); onnx_ir makes zeros of a tensor without data, of any size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx
import onnx_ir as ir

from intrain_onnx.errors import LimitError, ModelFileError, UnsupportedError, printable
from intrain_onnx.loading.embedded_data import Payload, is_held_to_bits, payload_of
from intrain_onnx.loading.external_data import ExternalFiles
from intrain_onnx.loading.limits import MORE, STORED_ELEMENTS, Limits, option

_TYPED = {
    "FLOAT": "float_data",
    "COMPLEX64": "float_data",
    "DOUBLE": "double_data",
    "COMPLEX128": "double_data",
    "INT64": "int64_data",
    "UINT32": "uint64_data",
    "UINT64": "uint64_data",
    "STRING": "string_data",
}  # all others: int32_data
_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")


class Payloads:
    """Checks tensors, and sums their sizes in bytes.

    Args:
        limits: on sizes and ranks.
        external: what external data is checked against.
        embedded: data that is still in the model's file, by its stand-in.
    """

    def __init__(
        self, limits: Limits, external: ExternalFiles, embedded: Mapping[bytes, Payload] | None = None
    ) -> None:
        self.limits = limits
        self.external = external
        self.embedded = embedded or {}
        self.nbytes = 0

    def check(self, tensor: onnx.TensorProto) -> None:
        """Check one tensor.

        Raises:
            ModelFileError: unknown type, negative dimension, or data that does not fit.
            LimitError: over ``rank``, ``elements`` or ``tensor_bytes``.
            UnsafeModelError: see `ExternalFiles.check`.
        """
        dtype = element_type(tensor.data_type)
        count = self.elements(tensor.dims)
        nbytes = 0 if dtype == ir.DataType.STRING else math.ceil(count * dtype.bitwidth / 8)
        self.nbytes += nbytes
        if self.nbytes > self.limits.tensor_bytes:
            raise LimitError(
                f"{self.nbytes:,} bytes of tensors, over the limit tensor_bytes={self.limits.tensor_bytes:,}",
                limit="tensor_bytes",
                hint=option("tensor_bytes", MORE * self.nbytes),
            )
        held = [name for name in _FIELDS if len(getattr(tensor, name))]
        if tensor.HasField("raw_data"):
            held.append("raw_data")
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            if dtype == ir.DataType.STRING:
                raise UnsupportedError("strings in external data")
            if tensor.raw_data or set(held) - {"raw_data"}:
                raise ModelFileError("data both in the model and in an external file")
            self.external.check(tensor, nbytes)
        else:
            if tensor.external_data:
                self.external.notes.add("external-unused", "an external file is named but not used", None)
            _check_inside(tensor, dtype, count, nbytes, held, self._raw_bytes(tensor))

    def _raw_bytes(self, tensor: onnx.TensorProto) -> int:
        """Bytes of a tensor's ``raw_data``; such as others look into before they use it become part of it."""
        payload = payload_of(tensor, self.embedded)
        if payload is not None and is_held_to_bits(tensor):
            tensor.raw_data = payload.tobytes()
        return payload.nbytes if payload is not None else len(tensor.raw_data)

    def elements(self, dims: list[int]) -> int:
        """Number of elements of a shape.

        Raises:
            ModelFileError: a dimension is negative.
            LimitError: over ``rank`` or ``elements``, where a dimension of 0 counts as 1, as in numpy.
        """
        check_rank(len(dims), self.limits)
        if any(d < 0 for d in dims):
            raise ModelFileError(f"negative dimension in the shape {list(dims)}")
        most = self.limits.elements or STORED_ELEMENTS
        count = math.prod(max(d, 1) for d in dims)
        if count > most:
            raise LimitError(
                f"a tensor of shape {list(dims)} is over the limit elements={most:,}",
                limit="elements",
                hint=option("elements", count),
            )
        return math.prod(dims)


def check_rank(rank: int, limits: Limits) -> None:
    """Raises LimitError if a shape has more than ``rank`` dimensions."""
    if rank > limits.rank:
        raise LimitError(
            f"a tensor of {rank:,} dimensions, over the limit rank={limits.rank}",
            limit="rank",
            hint=option("rank", rank),
        )


def element_type(number: int) -> ir.DataType:
    """The element type of that number of TensorProto.DataType; raises ModelFileError for an unknown one."""
    if number not in _KNOWN:
        raise ModelFileError(
            f"unknown element type {number}",
            hint="The file is damaged, or made by a newer ONNX: upgrade onnx",
        )
    return ir.DataType(number)


_KNOWN = {int(d) for d in ir.DataType} - {int(ir.DataType.UNDEFINED)}


def _check_inside(
    tensor: onnx.TensorProto, dtype: ir.DataType, count: int, nbytes: int, held: list[str], raw: int
) -> None:
    if len(held) > 1:
        raise ModelFileError(f"data in more than one field: {', '.join(held)}")
    if not held:
        if count:
            raise ModelFileError(f"no data for the shape {list(tensor.dims)}, which needs {count:,} elements")
        return
    if held == ["raw_data"] and dtype != ir.DataType.STRING:
        if raw != nbytes:
            raise ModelFileError(
                f"{raw:,} bytes of data for the shape {list(tensor.dims)} of {dtype.name}, "
                f"which needs {nbytes:,}",
                hint="The file is damaged: export or download it again",
            )
        return
    expected = _TYPED.get(dtype.name, "int32_data")
    if held != [expected]:
        raise ModelFileError(f"{printable(held[0])} cannot hold elements of {dtype.name}")
    needed = _stored(dtype, count)
    if len(getattr(tensor, expected)) != needed:
        raise ModelFileError(
            f"{len(getattr(tensor, expected)):,} numbers for the shape {list(tensor.dims)} of {dtype.name}, "
            f"which needs {needed:,}"
        )


def _stored(dtype: ir.DataType, count: int) -> int:
    """Entries of a typed field for that many elements: 2 for a complex one; 2- and 4-bit ones are packed."""
    if dtype.name.startswith("COMPLEX"):
        return 2 * count
    return (
        math.ceil(count * dtype.bitwidth / 8)
        if dtype.name != "STRING" and dtype.bitwidth in (2, 4)
        else count
    )
