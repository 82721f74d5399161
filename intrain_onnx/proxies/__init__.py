"""Peers' zero-cost proxies, one module each; `intrain_onnx.proxy_table` says what they are."""
