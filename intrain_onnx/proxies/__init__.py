"""Peers' zero-cost proxies, one module each; `intrain_onnx.peers` says what they are."""
