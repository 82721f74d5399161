"""Other zero-cost proxies, one module each; their metadata is in `intrain_onnx.proxy_table`."""
