"""Limits on the size of an untrusted model file and of its parts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on a model file; over one of them it is refused with a LimitError.

    ONNX's own tools leave exhaustion to the user, and a small file can ask for much: 2 bytes make an empty
    tensor of 170 bytes in memory, 2 kB of functions make half a billion nodes. The defaults keep the loader
    within some minutes and some GB; the largest public models stay far below all of them.
    Raise one with ``dataclasses.replace`` for a file that you trust.
    """

    file_bytes: int = 2**31 - 1
    """Size of the model file. Protobuf itself takes no more than this; larger models keep their weights in
    external files."""

    external_bytes: int = 2**42
    """Sum of the external files (4 TiB). They are mapped, not read, so this guards the time to hash
    them; the largest open models have 1.5 TB."""

    tensor_bytes: int = 2**42
    """Sum over all tensors, as if each had its own data: many tensors may name one range of one file."""

    fields: int = 20_000_000
    """Protobuf fields in the file. Reading one takes 0.3 microseconds; models have 20 for each node."""

    messages: int = 5_000_000
    """Protobuf messages in the file: each takes at least 150 bytes in memory, even when empty."""

    nodes: int = 200_000
    """Nodes as stored, in all graphs and functions. Exports of networks with 100 layers have some 20,000;
    each takes 1 kB and 20 microseconds as a Python object."""

    expanded_nodes: int = 200_000
    """Nodes after every call of a model-local function is replaced by the function's body."""

    function_depth: int = 100
    """Functions that call each other in a chain. Exports of nested modules have some 10."""

    tensors: int = 250_000
    """Initializers and tensor attributes. The mixtures of experts with the most have 50,000."""

    values: int = 2_000_000
    """Inputs and outputs of all nodes together."""

    graph_depth: int = 20
    """Nesting of If, Loop and Scan. Exporters write 2 or 3; protobuf allows 31."""

    rank: int = 32
    """Dimensions of a tensor. Networks have up to 8; numpy and torch end at 64."""

    elements: int = 2**36
    """Elements of one tensor. The largest embeddings have 2**32."""

    name_length: int = 10_000
    """Bytes of a name. Exporters that join module paths write some 500."""
