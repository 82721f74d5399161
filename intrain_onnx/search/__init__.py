"""Searches a space of architectures without training: goals, the walk, the log, the files. No torch."""
