"""Trained networks and fresh ones, a module a framework, for tests/whole/test_converters.py.

A factory writes inputs, and what the network that it returns makes of them, to ``record``, an .npz file.
"""
