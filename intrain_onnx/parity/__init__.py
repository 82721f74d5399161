"""The same model in onnxruntime, and how far the two differ."""
