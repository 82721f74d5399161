"""Tables of ONNX operators: traits, handled versions, plugins. No torch."""
