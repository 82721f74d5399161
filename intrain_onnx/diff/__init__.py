"""Compares two files of one network: structure, weights, activations and outputs."""
