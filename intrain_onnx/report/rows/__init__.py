"""The report as types: what its readers read, what validates it, and what its JSON Schema is made from.

The order of the fields is that of the keys in JSON, and logarithms are natural.

types       the base of all rows, and numbers within bounds
setup       what was scored and how
results     what was measured
account     what the score accounts for
document    the whole
inspection  what is known without running a model
"""

from intrain_onnx.report.rows.account import Coverage, GradientReach, Nodes, NotRecognised, Stop
from intrain_onnx.report.rows.document import Document
from intrain_onnx.report.rows.inspection import Inspected, InspectedLayer
from intrain_onnx.report.rows.results import Depth, Layer, NamedScore, Parameter, Point, Proxy, Run, Score
from intrain_onnx.report.rows.setup import (
    Environment,
    FedInput,
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
    "Stop",
    "Tool",
    "Value",
    "WarningRow",
]
