"""Moments of activations and gradients, and what is made of them."""
