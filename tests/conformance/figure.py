"""Print how many of ONNX's backend tests pass: ``python -m tests.conformance.figure [--failures]``.

Excluded cases count as failed.
"""

from __future__ import annotations

import sys
from collections import Counter

from .suite import CATEGORIES, load_cases


def main() -> None:
    passed: Counter[str] = Counter()
    total: Counter[str] = Counter()
    failures: list[str] = []
    for case in load_cases():
        error = case.run()
        total[case.category] += 1
        passed[case.category] += error is None
        if error is not None:
            reason = case.excluded or f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
            failures.append(f"{case.name}: {reason}")
    for category in CATEGORIES:
        print(f"{category}: {passed[category]} of {total[category]}")
    print(f"All: {passed.total()} of {total.total()} ({passed.total() / total.total():.1%})")
    if "--failures" in sys.argv:
        print("\n".join(failures))


if __name__ == "__main__":
    main()
