"""Signature of a model: dimension names, batch axes, input roles, shape conflicts."""
