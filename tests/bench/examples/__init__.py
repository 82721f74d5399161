"""What the tests know of each space: its twin, and what is an architecture of it and what is none."""

from .example import Example
from .images import IMAGES
from .tokens import TOKENS

__all__ = ["EXAMPLES", "Example"]

EXAMPLES = IMAGES | TOKENS
