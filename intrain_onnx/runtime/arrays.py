"""Conversion between numpy arrays and torch tensors for every ONNX element type that torch can hold.

Types that numpy lacks are those of ml_dtypes; ``ops.narrow`` says how torch holds those of less than a byte.
Both directions copy.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

from intrain_onnx.errors import UnsupportedError
from intrain_onnx.ops import narrow

_BITS = {  # same bits in both libraries: ml_dtypes' name -> the type to view them as, torch's type
    "bfloat16": (np.int16, torch.bfloat16),
    "float8_e4m3fn": (np.uint8, torch.float8_e4m3fn),
    "float8_e4m3fnuz": (np.uint8, torch.float8_e4m3fnuz),
    "float8_e5m2": (np.uint8, torch.float8_e5m2),
    "float8_e5m2fnuz": (np.uint8, torch.float8_e5m2fnuz),
    "float8_e8m0fnu": (np.uint8, narrow.FLOAT8_E8M0),
    "float4_e2m1fn": (np.uint8, narrow.FLOAT4),
}
_SMALL_INTS = {  # one element a byte: ml_dtypes' name -> numpy's type of a byte, torch's type
    "int4": (np.int8, narrow.INT4),
    "uint4": (np.uint8, narrow.UINT4),
    "int2": (np.int8, narrow.INT2),
    "uint2": (np.uint8, narrow.UINT2),
}
_NAMES = {dtype: name for name, (_, dtype) in (_BITS | _SMALL_INTS).items() if dtype is not None}


def from_numpy(array: np.ndarray[Any, Any]) -> Tensor:
    """A torch copy of an array.

    Raises:
        UnsupportedError: torch has no such element type.
    """
    name = array.dtype.name
    if name not in _BITS and name not in _SMALL_INTS:
        try:
            return torch.from_numpy(np.array(array))
        except TypeError:
            raise UnsupportedError(f"element type {name} has no torch dtype") from None
    storage, dtype = (_BITS | _SMALL_INTS)[name]
    if dtype is None:
        raise UnsupportedError(f"element type {name} has no dtype in torch {torch.__version__}")
    held = np.array(array).view(storage) if name in _BITS else array.astype(storage)
    return torch.from_numpy(held).view(dtype)


def to_numpy(tensor: Tensor) -> np.ndarray[Any, Any]:
    """A numpy copy of a tensor, of an ml_dtypes type if numpy has none."""
    tensor = tensor.detach().cpu()
    name = _NAMES.get(tensor.dtype)
    if name is None:
        return np.array(tensor.resolve_conj().resolve_neg().numpy())
    storage = torch.int16 if tensor.dtype == torch.bfloat16 else torch.uint8
    bits = np.array(tensor.view(storage).numpy())
    if name in _SMALL_INTS:
        return bits.view(_SMALL_INTS[name][0]).astype(getattr(ml_dtypes, name))
    return bits.view(getattr(ml_dtypes, name))
