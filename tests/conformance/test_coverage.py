"""Every operator version that onnx defines has a handler: a new onnx release shows what is missing."""

from collections import defaultdict

import onnx.defs
import pytest

from intrain_onnx import ops

from .excluded import OPERATORS

OLDEST_OPSET = 7


def current_schemas():
    """Non-deprecated default-domain schemas that some opset from the oldest to the newest resolves to."""
    by_name = defaultdict(list)
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            by_name[schema.name].append(schema)
    for schemas in by_name.values():
        at_oldest = max((s.since_version for s in schemas if s.since_version <= OLDEST_OPSET), default=0)
        yield from (s for s in schemas if s.since_version >= at_oldest and not s.deprecated)


SCHEMAS = list(current_schemas())
HANDLERS = {(h.op_type, v): h for h in ops.supported() if h.domain == "" for v in h.versions}


def test_every_version_has_a_handler():
    missing = {(s.name, s.since_version) for s in SCHEMAS} - HANDLERS.keys()
    assert sorted(missing) == sorted((s.name, s.since_version) for s in SCHEMAS if s.name in OPERATORS)


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda s: f"{s.name}-{s.since_version}")
def test_handler_takes_every_attribute(schema):
    handler = HANDLERS.get((schema.name, schema.since_version))
    if handler is None:
        pytest.skip(OPERATORS[schema.name])
    unknown = set(schema.attributes) - handler.attributes
    assert unknown <= UNSUPPORTED_ATTRIBUTES.get(schema.name, set())


def test_no_handler_for_a_version_that_onnx_lacks():
    known = {(s.name, s.since_version) for s in onnx.defs.get_all_schemas_with_history() if s.domain == ""}
    assert HANDLERS.keys() - known <= WRITTEN_BY_ONNXRUNTIME


WRITTEN_BY_ONNXRUNTIME = {("SimplifiedLayerNormalization", 1), ("LayerNormalization", 1)}
"""What onnxruntime's optimiser puts into the default domain though onnx does not define it there."""

UNSUPPORTED_ATTRIBUTES = {
    "Constant": {
        "sparse_value",
        "value_string",
        "value_strings",
    },  # torch has no strings, we no sparse tensors
}
"""Attributes that a handler refuses, with the reason."""
