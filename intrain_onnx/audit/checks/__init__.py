"""The checks, one file per family, each with thresholds, explanation and remedy."""
