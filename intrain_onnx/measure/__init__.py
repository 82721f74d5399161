"""One run of a network: its inputs, loss, weights and calibration, and what a probe reads."""
