"""Measurement of a network in one run: inputs, loss, initialisation, calibration, statistics."""
