"""Provenance of a score: file, settings, environment, parity, warnings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta

from intrain_onnx.config import BatchNorm, Converter, Device, HealthOver, Points, Protocol, Weights
from intrain_onnx.report.rows.types import Count, Digest, Magnitude, Names, Positive, Row, Shape
from intrain_onnx.vocabulary import Execution, InputKind, InputSource, LossKind, SizeSource


class Tool(Row, frozen=True):
    """What made the report."""

    name: Literal["intrain-onnx"]
    version: str | None


class Value(Row, frozen=True):
    """An input or output of the graph."""

    name: str
    dtype: str | None
    shape: Annotated[
        tuple[int | str | None, ...] | None,
        Meta(description="As the file declares it: symbols as strings, null where a dimension has no name."),
    ]


class Model(Row, frozen=True):
    """The file, and what the static pass counts in it."""

    path: Annotated[str | None, Meta(description="As it was given; null for a model in memory.")]
    sha256: Digest
    bytes: Annotated[Count, Meta(description="Size of the file, without external data.")]
    external_sha256: Annotated[
        Mapping[str, Digest],
        Meta(description="Digest of each file of external data, by its location in the model."),
    ]
    producer: str
    ir_version: Annotated[Count, Meta(description="ONNX IR version of the file.")]
    opset_imports: Annotated[Mapping[str, int], Meta(description="Opset version of each domain.")]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    parameters: Annotated[
        Count, Meta(description="Elements of all trainable initializers, ties counted once.")
    ]
    nodes: Annotated[Count, Meta(description="Nodes after functions were expanded and constants lifted.")]
    canonical_layers: Annotated[
        Count,
        Meta(
            description="Convolutions, linear maps, recurrences and embeddings of the file, counted or not."
        ),
    ]
    macs: Annotated[
        Count | None,
        Meta(description="Multiply-accumulate operations for one sample of macs_input_shapes."),
    ]
    macs_input_shapes: Annotated[
        Mapping[str, Shape], Meta(description="Of each input, with one sample, open dimensions filled in.")
    ]


class FedInput(Row, frozen=True):
    """What an input was fed with."""

    name: str
    shape: Annotated[Shape, Meta(description="Of all samples of a run.")]
    kind: InputKind
    ids: Annotated[
        Positive | None,
        Meta(description="Ids were drawn below this number; null for an input that holds none."),
    ]
    source: Annotated[
        InputSource,
        Meta(
            description="synthetic: follows from kind and seed. value: a number or a list. file: an array "
            "that was read. array: one in memory."
        ),
    ]
    sha256: Annotated[
        Digest | None,
        Meta(
            description="Of the bytes of all samples in the graph's element type, little-endian, in C order; "
            "null for what is synthetic."
        ),
    ]


class FreeSize(Row, frozen=True):
    """The size of a dimension that the file leaves open."""

    input: str
    axis: Annotated[Count, Meta(description="Of the input, from 0.")]
    name: Annotated[str | None, Meta(description="In the file; null where it has none.")]
    size: Annotated[Count, Meta(description="For all samples of a run.")]
    source: Annotated[
        SizeSource,
        Meta(
            description="samples: the batch. option: an input shape that was asked for. given: an array. "
            "arithmetic: computed from other names. operator: what an operator takes. trial: runs with other "
            "sizes failed. usual: a default."
        ),
    ]
    reason: Annotated[
        str | None, Meta(description="The constraint or failure behind it; null where the source says all.")
    ]


class Loss(Row, frozen=True):
    """What an output was compared with."""

    output: str
    attached_to: str
    cut_off: Names
    loss: LossKind | None
    shape: Annotated[Shape | None, Meta(description="Of the output for all samples of a run.")]
    value: Annotated[float | None, Meta(description="Of the first run.")]


class Settings(Row, frozen=True):
    """The fields of ``ScoreConfig``, and what followed from them for this model."""

    protocol: Protocol
    weights: Weights
    batch_norm: BatchNorm
    calibrate: bool
    live_layers_only: bool
    health_over: HealthOver
    eps: Annotated[Magnitude, Meta(description="Added to max|g| in the gradient health.")]
    seed: Annotated[Count, Meta(description="Of the first run; run i uses seed + i.")]
    seeds: Annotated[Positive, Meta(description="Number of runs.")]
    batch: Annotated[Positive, Meta(description="Samples that were asked for.")]
    size: Annotated[
        Positive, Meta(description="Pixels of each spatial dimension that the graph leaves open.")
    ]
    sequence: Annotated[
        Positive, Meta(description="Length of each sequence dimension that the graph leaves open.")
    ]
    input_shapes: Annotated[Mapping[str, Shape], Meta(description="That were asked for, by input.")]
    batch_axes: Annotated[
        Mapping[str, Count | None],
        Meta(description="That were asked for, by input; null for an input without samples."),
    ]
    inputs: Annotated[
        Mapping[str, str],
        Meta(
            description="What was given for inputs: a number, a list such as 1,2,3, @ and a file, or array "
            "for one in memory."
        ),
    ]
    max_macs: Annotated[
        Magnitude,
        Meta(description="Limit on the multiply-accumulates of all runs; 0 for that of the device."),
    ]
    device: Device
    threads: Annotated[Count, Meta(description="CPU threads that were asked for; 0 is all cores.")]
    converter: Converter
    parity: bool
    points: Points
    proxies: Names
    execution: Annotated[
        Execution,
        Meta(description="sample_by_sample: the graph has its batch built in and ran in lock step."),
    ]
    samples: Annotated[Positive, Meta(description="Samples that a run had.")]
    inputs_fed: tuple[FedInput, ...]
    free_sizes: tuple[FreeSize, ...]
    losses: tuple[Loss, ...]
    max_memory: Annotated[
        Count,
        Meta(description="Bytes that a run may take besides what the process holds; 0 for what is free."),
    ] = 0
    recomputed: Annotated[
        bool,
        Meta(
            description="Activations were not kept, but made again for the backward pass: the same numbers."
        ),
    ] = False
    projections: Annotated[
        Count,
        Meta(description="Random projections by which covariances of wide values were estimated; 0: exact."),
    ] = 0


class Environment(Row, frozen=True):
    """Where the score was computed."""

    python: str
    platform: str
    device: str
    threads: Annotated[Positive, Meta(description="CPU threads that were used.")]
    packages: Mapping[str, str]


class Parity(Row, frozen=True):
    """The converted model against onnxruntime."""

    reference: str
    samples: Annotated[Count, Meta(description="Samples that were compared.")]
    max_abs_diff: Annotated[
        Magnitude | None,
        Meta(description="Largest absolute difference of an output element from onnxruntime."),
    ]
    max_rel_diff: Annotated[
        Magnitude | None,
        Meta(description="Largest difference over the largest magnitude of that output."),
    ]
    ok: Annotated[bool | None, Meta(description="null: could not be compared, see reason.")]
    round_off: Annotated[
        Magnitude | None,
        Meta(description="Response of the outputs to round-off, estimated where they differ."),
    ]
    reason: str | None


class WarningRow(Row, frozen=True):
    """What a reader should know before the score; ``node`` is where it is, if at one place."""

    code: str
    message: str
    node: str | None
