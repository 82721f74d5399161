"""Real models for the tests; ``fetch.py`` brings them."""

import os
from pathlib import Path

import pytest

from .fetch import MODELS, MissingModel, models, names, path

__all__ = ["MODELS", "MissingModel", "models", "names", "path", "require"]


def require(name: str) -> Path:
    """Return the file of a model; where it is missing, fail in CI and skip elsewhere, with the reason."""
    try:
        return path(name)
    except MissingModel as error:
        if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
