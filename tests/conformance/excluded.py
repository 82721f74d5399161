"""Cases of ONNX's backend suite and operators that are left out, each with its reason."""

STRINGS = "torch has no strings"

CASES: dict[str, str] = {}
"""Regular expression of test names -> why they are not run."""
