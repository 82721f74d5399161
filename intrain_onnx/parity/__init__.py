"""Parity check: differences between a converted model and onnxruntime."""
