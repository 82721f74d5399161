"""Operators of two graphs beside each other."""

from __future__ import annotations

import onnx_ir as ir
from builders import model, weight

from intrain_onnx.diff.operators import differences, kinds


def graph(body: str) -> ir.Model:
    return ir.from_proto(model(f"(float[2,3] x) => (float[2,3] y) {{ {body} }}", {"w": weight(3, 3)}))


def told(one: str, other: str) -> list[tuple[str, str]]:
    return list(differences(kinds(graph(one)), kinds(graph(other))))


def test_order_and_names_do_not_matter():
    assert (
        told("a = Relu(x)\n b = Tanh(a)\n y = MatMul(b, w)", "h = MatMul(x, w)\n z = Tanh(h)\n y = Relu(z)")
        == []
    )


def test_an_attribute_of_another_value_is_told():
    assert told("y = LeakyRelu<alpha = 0.1>(x)", "y = LeakyRelu<alpha = 0.25>(x)") == [
        ("LeakyRelu", "1 with alpha 0.25 here, 1 with alpha 0.1 in the reference")
    ]


def test_other_operators_are_told():
    assert told("a = Relu(x)\n y = Relu(a)", "a = Relu(x)\n y = Tanh(a)") == [
        ("Relu", "none here, 1 in the reference"),
        ("Tanh", "1 here, none in the reference"),
    ]
