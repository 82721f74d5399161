"""Networks rewritten by chains of changes that keep their function, and held to one score.

`editing.REWRITES` has the changes; `chains` runs them and compares; ``python -m tests.rewriting`` is for runs
by hand.
"""

from . import layers, operators, structure, tools, weights  # noqa: F401  they enter their rewrites
