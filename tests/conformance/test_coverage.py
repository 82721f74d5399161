"""Every operator version that onnx defines has a handler: a new onnx release shows what is missing."""

import onnx.defs
import pytest

from intrain_onnx import ops
from intrain_onnx.opset import support_table

SCHEMAS = list(support_table.schemas([""]))
HANDLERS = {(h.op_type, v): h for h in ops.supported() if h.domain == "" for v in h.versions}
EXCLUDED = {
    op_type: reason for (domain, op_type), reason in support_table.EXCLUDED.items() if domain == "ai.onnx"
}


def test_every_version_has_a_handler():
    missing = {(s.name, s.since_version) for s in SCHEMAS} - HANDLERS.keys()
    assert sorted(missing) == sorted((s.name, s.since_version) for s in SCHEMAS if s.name in EXCLUDED)


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda s: f"{s.name}-{s.since_version}")
def test_handler_takes_every_attribute(schema):
    handler = HANDLERS.get((schema.name, schema.since_version))
    if handler is None:
        pytest.skip(EXCLUDED[schema.name])
    unknown = set(schema.attributes) - handler.attributes
    assert unknown <= support_table.REFUSED_ATTRIBUTES.get(schema.name, set())


def test_no_handler_for_a_version_that_onnx_lacks():
    known = {(s.name, s.since_version) for s in onnx.defs.get_all_schemas_with_history() if s.domain == ""}
    assert HANDLERS.keys() - known <= support_table.WRITTEN_BY_ONNXRUNTIME


def test_each_excluded_operator_exists_and_has_no_handler():
    known = {(s.domain or "ai.onnx", s.name) for s in onnx.defs.get_all_schemas_with_history()}
    assert support_table.EXCLUDED.keys() <= known
    assert not support_table.EXCLUDED.keys() & {(h.domain or "ai.onnx", h.op_type) for h in ops.supported()}
