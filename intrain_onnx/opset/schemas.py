"""What an operator's schema says: its attributes, and how many inputs and outputs of which element types.

ONNX's own are read from ``onnx.defs``, in the version of the opset. Those of onnxruntime's domains are in
``contrib_schemas.json``, which ``scripts/generate`` writes from an installed onnxruntime.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import onnx.defs
import onnx_ir as ir

from intrain_onnx.opset.rules import NO_TENSOR

FILE = "contrib_schemas.json"

_FLOAT16, _BFLOAT16 = int(ir.DataType.FLOAT16), int(ir.DataType.BFLOAT16)
_NEVER = 2**31 - 1
"""onnx's number for as many as one likes."""


@dataclass(frozen=True, slots=True)
class Operand:
    """A formal input or output.

    Attributes:
        name: as the schema calls it.
        needed: it may not be left out.
        types: the element types that it may have, as numbers; empty if nothing is known.
        type_name: operands of one name have one element type; empty if it stands alone.
    """

    name: str
    needed: bool
    types: frozenset[int] = frozenset()
    type_name: str = ""


@dataclass(frozen=True, slots=True)
class Schema:
    """One version of an operator.

    Attributes:
        version: the opset that it came with.
        attributes: their types, by name.
        required: attributes that have no default.
        closed: there are no other attributes than these.
        inputs: formal inputs; a variadic last one stands for all that follow.
        least_inputs: how many inputs there are at least.
        most_inputs: at most.
        outputs: formal outputs.
        least_outputs: how many outputs there are at least.
        most_outputs: at most.
    """

    version: int
    attributes: Mapping[str, ir.AttributeType]
    required: tuple[str, ...]
    closed: bool
    inputs: tuple[Operand, ...]
    least_inputs: int
    most_inputs: int
    outputs: tuple[Operand, ...]
    least_outputs: int
    most_outputs: int

    def input(self, index: int) -> Operand | None:
        """The formal input of an actual one."""
        return _at(self.inputs, index)

    def output(self, index: int) -> Operand | None:
        """The formal output of an actual one."""
        return _at(self.outputs, index)


def _at(operands: Sequence[Operand], index: int) -> Operand | None:
    return operands[min(index, len(operands) - 1)] if operands else None


@lru_cache(maxsize=4096)
def schema_of(domain: str, op_type: str, opset: int) -> Schema | None:
    """The schema of an operator in an opset; None if neither ONNX nor onnxruntime has it.

    Args:
        domain: "" for ONNX's own.
        op_type: the operator.
        opset: of its domain.
    """
    try:
        return _of_onnx(onnx.defs.get_schema(op_type, opset, domain))
    except onnx.defs.SchemaError:
        return _contrib().get((domain, op_type))


@lru_cache(maxsize=4096)
def versions_of(domain: str, op_type: str) -> tuple[int, ...]:
    """The opsets in which ONNX defines an operator anew; empty if it is not one of ONNX's."""
    if not onnx.defs.has(op_type, domain):
        return ()
    every = onnx.defs.get_all_schemas_with_history()
    return tuple(sorted(s.since_version for s in every if (s.domain, s.name) == (domain, op_type)))


def _of_onnx(found: Any) -> Schema:  # onnx's stubs leave some properties out
    return Schema(
        version=int(found.since_version),
        attributes={a.name: ir.AttributeType(int(a.type.value)) for a in found.attributes.values()},
        required=tuple(a.name for a in found.attributes.values() if a.required),
        closed=True,
        inputs=tuple(map(_operand, found.inputs)),
        least_inputs=found.min_input,
        most_inputs=found.max_input,
        outputs=tuple(map(_operand, found.outputs)),
        least_outputs=found.min_output,
        most_outputs=found.max_output,
    )


def _operand(formal: Any) -> Operand:
    option = formal.option.name
    types = frozenset(map(element_number, formal.types))
    if _FLOAT16 in types:  # files of old opsets have bfloat16 where only a newer one names it
        types |= {_BFLOAT16}
    named = formal.type_str if option != "Variadic" or formal.is_homogeneous else ""
    return Operand(formal.name, option == "Single", types, named)


@lru_cache(maxsize=256)
def element_number(text: str) -> int:
    """The number of the element type in a text such as ``tensor(float)``, or ``NO_TENSOR``."""
    name = text.removeprefix("tensor(").removesuffix(")").upper()
    is_tensor = text.startswith("tensor(") and name in ir.DataType.__members__
    return int(ir.DataType[name]) if is_tensor else NO_TENSOR


@lru_cache(maxsize=1)
def _contrib() -> dict[tuple[str, str], Schema]:
    text = resources.files("intrain_onnx.opset").joinpath(FILE).read_text(encoding="utf-8")
    return {
        ("" if domain == "ai.onnx" else domain, op_type): _of_row(row)
        for domain, rows in json.loads(text)["schemas"].items()
        for op_type, row in rows.items()
    }


def _of_row(row: Mapping[str, Any]) -> Schema:
    attributes: Mapping[str, str] = row["attributes"]
    (least_inputs, most_inputs), (least_outputs, most_outputs) = row["inputs"], row["outputs"]
    return Schema(
        version=1,
        attributes={name: ir.AttributeType[kind.rstrip("!")] for name, kind in attributes.items()},
        required=tuple(name for name, kind in attributes.items() if kind.endswith("!")),
        closed=False,  # another onnxruntime may know more
        # One more than are needed: the last stands for all that follow.
        inputs=tuple(Operand(f"{i}", needed=i in row["needed"]) for i in range(least_inputs + 1)),
        least_inputs=least_inputs,
        most_inputs=_NEVER if most_inputs is None else most_inputs,
        outputs=(),
        least_outputs=least_outputs,
        most_outputs=_NEVER if most_outputs is None else most_outputs,
    )
