"""Measuring how well scores rank the architectures of published search spaces."""
