"""Rewrites of a float graph in normal form to the one form of what is written in several."""
