"""Benchmarks: rank correlation of scores with accuracies in published search spaces."""
