"""The same networks from every framework and exporter; ``make.py`` makes the files."""

import os
from pathlib import Path

import pytest

from .make import ESTIMATORS, EXPORTERS, NETWORKS, OPTIMISERS, SAMPLES, UNREACHED, MissingModel, path

__all__ = ["ESTIMATORS", "EXPORTERS", "NETWORKS", "OPTIMISERS", "SAMPLES", "UNREACHED", "path", "require"]


def require(name: str, maker: str) -> Path:
    """Return the file of a cell; where it is missing, fail in CI and skip elsewhere, with the reason."""
    try:
        return path(name, maker)
    except MissingModel as error:
        if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
