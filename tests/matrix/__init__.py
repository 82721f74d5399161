"""The same networks from every framework and exporter, as committed in tests/fixtures."""

from .make import ESTIMATORS, EXPORTERS, NETWORKS, OPTIMISERS, SAMPLES, UNREACHED, path

__all__ = ["ESTIMATORS", "EXPORTERS", "NETWORKS", "OPTIMISERS", "SAMPLES", "UNREACHED", "path"]
