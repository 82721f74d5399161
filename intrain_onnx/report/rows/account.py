"""Coverage of the score: weights in layers, parameters that the loss reaches, fates of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, get_args

from msgspec import Meta

from intrain_onnx.report.rows.types import Count, Names, Positive, Row, Share
from intrain_onnx.vocabulary import CoveredRole


class NotRecognised(Row, frozen=True):
    """A product with a constant operand that is no layer."""

    node: str
    op: str
    reason: str
    initializers: Annotated[Names, Meta(description="Behind the operand.")]
    elements: Annotated[Count, Meta(description="Their elements, or the number of coefficients.")]


class Coverage(Row, frozen=True):
    """How much of the weights of the file the static pass accounts for.

    Below 1 the score leaves weights out.
    """

    share: Annotated[
        Share, Meta(description="Elements with a role, over all elements; 1 without any. Rounded down.")
    ]
    macs_share: Annotated[
        Share | None,
        Meta(description="The same of multiply-accumulate operations; null where they cannot be counted."),
    ]
    elements: Annotated[
        Count,
        Meta(
            description="Elements of the float initializers that outputs need, and of integers that stand "
            "for weights."
        ),
    ]
    by_role: Annotated[
        Mapping[CoveredRole, Count],
        Meta(
            description="Elements of each role; constant is what no framework trains.",
            extra_json_schema={"propertyNames": {"enum": list(get_args(CoveredRole))}},
        ),
    ]
    not_recognised: Annotated[
        tuple[NotRecognised, ...], Meta(description="Products with a constant operand that are no layers.")
    ]


class Stop(Row, frozen=True):
    """A node behind which parameters lie that the loss does not reach."""

    node: Annotated[str | None, Meta(description="null: no operator is known to stop it.")]
    op: str | None
    parameters: Annotated[Positive, Meta(description="Parameter tensors that lie behind the node.")]
    elements: Annotated[Count, Meta(description="Their elements.")]


class GradientReach(Row, frozen=True):
    """Which part of the trainable initializers of the file the loss reaches."""

    share: Annotated[Share, Meta(description="reached_elements over elements; 1 without trainable elements.")]
    reached_elements: Annotated[Count, Meta(description="Trainable elements that the loss reaches.")]
    elements: Annotated[Count, Meta(description="Trainable elements of the file.")]
    stopped_by: Annotated[
        tuple[Stop, ...],
        Meta(
            description="The nearest node on the way from the loss that passes no gradient, or control flow "
            "that did not run."
        ),
    ]


class Nodes(Row, frozen=True):
    """Every node has one fate; they add up to total."""

    total: Annotated[Count, Meta(description="Nodes of the file; the fates below add up to it.")]
    measured: Annotated[Count, Meta(description="Of a measured layer, a joined bias included.")]
    collapsed: Annotated[Count, Meta(description="Of a layer whose output does not vary.")]
    dead: Annotated[Count, Meta(description="Of a layer whose weights have an all-zero gradient.")]
    unreached_by_gradient: Annotated[Count, Meta(description="Of a layer that no gradient path leads to.")]
    not_run: Annotated[Count, Meta(description="Of a layer that was not run, or gave fewer than two rows.")]
    absorbed: Annotated[Count, Meta(description="BatchNorm that calibration stands in for.")]
    cut_off: Annotated[Count, Meta(description="Behind the point where the loss attaches.")]
    constant: Annotated[Count, Meta(description="Not reached by the data of any input.")]
    dequantised: Annotated[
        Count, Meta(description="Quantising and scaling that the float form does without.")
    ]
    unused: Annotated[Count, Meta(description="Not needed by any output.")]
    structural: Annotated[Count, Meta(description="All others that were run.")]
