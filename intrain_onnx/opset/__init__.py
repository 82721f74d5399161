"""What is known of each ONNX operator, without torch."""
