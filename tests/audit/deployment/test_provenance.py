"""What is read of a file's metadata, whatever exporter wrote it."""

from __future__ import annotations

import pytest

from intrain_onnx.audit.deployment.provenance import Provenance, provenance


@pytest.mark.parametrize(("metadata", "expected"), [
    ({}, Provenance()),
    ({"model_license": "MIT", "model_author": "A. One, B. Two"}, Provenance("MIT", ("A. One", "B. Two"))),
    ({"License": "AGPL-3.0", "author": "U", "version": "8.2"}, Provenance("AGPL-3.0", ("U",), "8.2")),
    ({"datasets": "['imagenet-1k', \"coco\", 'coco']"}, Provenance(datasets=("imagenet-1k", "coco"))),
    ({"model_license": "  ", "license": "MIT"}, Provenance("MIT")),
    ({"author": ", ,[]", "dataset": ""}, Provenance()),
    ({"description": "Finds cats."}, Provenance(description="Finds cats.")),
])  # fmt: skip
def test_provenance(metadata: dict[str, str], expected: Provenance):
    assert provenance(metadata) == expected
