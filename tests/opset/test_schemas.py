"""Schemas of ONNX and of onnxruntime, against what both libraries say themselves."""

from __future__ import annotations

import json
from pathlib import Path

import onnx.defs
import onnx_ir as ir
import onnxruntime
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as native

from intrain_onnx.opset import schemas
from intrain_onnx.opset.schemas import element_number, schema_of, versions_of
from intrain_onnx.opset.table import ROWS
from intrain_onnx.rewrites.contrib_bodies import BODIES

NEWEST = {d: onnx.defs.onnx_opset_version() if not d else 100 for d in {d for d, _ in ROWS}}


@pytest.mark.parametrize(("domain", "op_type"), sorted(ROWS), ids=str)
def test_every_operator_that_has_traits_has_a_schema(domain: str, op_type: str):
    """A pass that looks an operator up relies on its inputs and attributes."""
    assert schema_of(domain, op_type, NEWEST[domain]) is not None


MADE_HERE = {("com.microsoft.nchwc", "BlockedNormalization"), ("intrain_onnx.einsum", "Einsum")}
"""Operators that rewrites make, and no file has."""


def test_every_operator_that_is_written_out_has_a_schema():
    assert {k for k in BODIES if schema_of(*k, NEWEST.get(k[0], 1)) is None} == MADE_HERE


def test_schemas_of_onnxruntime_are_what_it_says():
    written_with = json.loads((Path(schemas.__file__).parent / "contrib_schemas.json").read_bytes())[
        "onnxruntime"
    ]
    if written_with != onnxruntime.__version__:
        pytest.skip(f"the table is that of onnxruntime {written_with}: what a later one adds is refused")
    said = {(s.domain, s.name): s for s in native.get_all_operator_schema() if s.domain == "com.microsoft"}
    for (domain, op_type), schema in said.items():
        found = schema_of(domain, op_type, 1)
        assert found is not None, op_type
        assert {n: k.name for n, k in found.attributes.items()} == {
            n: a.type.name for n, a in schema.attributes.items()
        }
        assert set(found.required) == {n for n, a in schema.attributes.items() if a.required}
        assert (found.least_inputs, found.most_inputs) == (schema.min_input, schema.max_input)
        for index, formal in enumerate(schema.inputs):
            assert getattr(found.input(index), "needed", False) == (formal.option.name == "Single"), (
                op_type,
                index,
            )
        assert (found.least_outputs, found.most_outputs) == (schema.min_output, schema.max_output)
    assert len(said) > 100


def test_a_schema_is_that_of_the_opset():
    old, new = schema_of("", "Squeeze", 11), schema_of("", "Squeeze", 13)
    assert old is not None
    assert new is not None
    assert (old.version, new.version) == (11, 13)
    assert old.attributes == {"axes": ir.AttributeType.INTS}
    assert new.attributes == {}
    assert (old.most_inputs, new.most_inputs) == (1, 2)
    assert schema_of("", "Gelu", 19) is None
    assert versions_of("", "Gelu") == (20,)
    assert versions_of("", "Nothing") == ()
    assert schema_of("com.acme", "Magic", 1) is None


def test_the_last_of_many_inputs_stands_for_all():
    concat = schema_of("", "Concat", 17)
    assert concat is not None
    assert concat.input(40) == concat.input(0)
    loop = schema_of("", "Loop", 17)
    assert loop is not None
    last = loop.input(7)
    assert last is not None
    assert last.type_name == "", "values that a loop carries have types of their own"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("tensor(float)", 1),
        ("tensor(bfloat16)", 16),
        ("tensor(float8e4m3fn)", 17),
        ("seq(tensor(float))", -1),
    ],
)
def test_names_of_element_types(text: str, number: int):
    assert element_number(text) == number


def test_every_element_type_of_every_schema_is_known():
    names = {
        t for s in onnx.defs.get_all_schemas_with_history() for f in (*s.inputs, *s.outputs) for t in f.types
    }
    unknown = {n for n in names if n.startswith("tensor(") and element_number(n) < 1}
    assert unknown == set()
