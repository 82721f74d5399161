"""Einsum."""
