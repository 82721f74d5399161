"""The report as typed rows; validation and the JSON Schema are derived from them.

The order of the fields is that of the keys in JSON, and logarithms are natural.

types       base class of all rows, and bounded numbers
setup       what was scored and how
results     what was measured
account     coverage: weights, gradient reach, nodes
document    the whole report
inspection  results of the static pass, for `inspect`
"""

from intrain_onnx.report.rows.account import Coverage, GradientReach, Nodes, NotRecognised, Stop
from intrain_onnx.report.rows.document import Document
from intrain_onnx.report.rows.inspection import Inspected, InspectedLayer
from intrain_onnx.report.rows.results import (
    Depth,
    GradientAlongDepth,
    Layer,
    NamedScore,
    Parameter,
    Point,
    Proxy,
    Run,
    Score,
    Standing,
)
from intrain_onnx.report.rows.setup import (
    Environment,
    FedInput,
    FreeSize,
    Loss,
    Model,
    Parity,
    Settings,
    Tool,
    Value,
    WarningRow,
)
from intrain_onnx.report.rows.types import Row

__all__ = [
    "Coverage",
    "Depth",
    "Document",
    "Environment",
    "FedInput",
    "FreeSize",
    "GradientAlongDepth",
    "GradientReach",
    "Inspected",
    "InspectedLayer",
    "Layer",
    "Loss",
    "Model",
    "NamedScore",
    "Nodes",
    "NotRecognised",
    "Parameter",
    "Parity",
    "Point",
    "Proxy",
    "Row",
    "Run",
    "Score",
    "Settings",
    "Standing",
    "Stop",
    "Tool",
    "Value",
    "WarningRow",
]
