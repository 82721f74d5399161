"""The same networks from every framework and exporter, as committed in tests/fixtures."""

from .make import ESTIMATORS, EXPORTERS, NETWORKS, OPTIMISERS, SAMPLES, SIGNATURES, UNREACHED, path

__all__ = ["ESTIMATORS", "EXPORTERS", "NETWORKS", "OPTIMISERS", "SAMPLES", "SIGNATURES", "UNREACHED", "path"]
