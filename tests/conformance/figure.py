"""Print how many of ONNX's backend tests pass: ``python -m tests.conformance.figure [--failures]``."""

from __future__ import annotations

import sys
from collections import Counter

from tests.conformance.suite import backend_tests, cases, run


def main() -> None:
    passed: Counter[str] = Counter()
    total: Counter[str] = Counter()
    failures: list[str] = []
    for category, case in cases(backend_tests()).items():
        for name in (n for n in dir(case) if n.startswith("test_") and n.endswith("_cpu")):
            error = run(case, name)
            total[category] += 1
            passed[category] += error is None
            if error is not None:
                failures.append(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:160]}")
    for category in total:
        print(f"{category}: {passed[category]} of {total[category]}")
    print(f"All: {passed.total()} of {total.total()}")
    if "--failures" in sys.argv:
        print("\n".join(failures))


if __name__ == "__main__":
    main()
