"""Terminal views of documents, one module each. No torch."""

from intrain_onnx.commands.terminal.bench import benchmark
from intrain_onnx.commands.terminal.compare import comparison
from intrain_onnx.commands.terminal.inspect import inspection
from intrain_onnx.commands.terminal.operators import operators
from intrain_onnx.commands.terminal.progress import counter, progress
from intrain_onnx.commands.terminal.ranking import ranking
from intrain_onnx.commands.terminal.summary import summary

__all__ = ["benchmark", "comparison", "counter", "inspection", "operators", "progress", "ranking", "summary"]
