"""Networks are rewritten in ways that keep their function, and keep their score; a fresh seed each run.

`python -m tests.rewriting` runs many more by hand. What it finds becomes a case of test_forms.py.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter

import numpy as np
import onnx
import pytest
from rewriting import chains, networks
from rewriting.chains import Chain, Step
from rewriting.editing import REWRITES

SEED = int(os.environ.get("INTRAIN_REWRITING_SEED") or secrets.randbelow(2**31))
GROUPS, CHAINS = 8, 25
LONGEST = 4
FILE_SHARE = 0.15


def network(rng: np.random.Generator) -> tuple[str, onnx.ModelProto]:
    """A random network, or one of the samples and the matrix."""
    if rng.random() < FILE_SHARE:
        name, path = list(networks.files().items())[int(rng.integers(len(networks.files())))]
        return name, networks.on_grid(onnx.load(path))
    plan = networks.random_plan(rng)
    return repr(plan), networks.build(plan)


@pytest.mark.parametrize("group", range(GROUPS))
def test_chains_of_rewrites_keep_the_score(group: int, record_property):
    """INTRAIN_REWRITING_SEED=N repeats a run."""
    verdicts: Counter[str] = Counter()
    broken = []
    for index in range(CHAINS):
        rng = np.random.default_rng([SEED, group, index])
        title, proto = network(rng)
        outcome = chains.judge(proto, chains.random_chain(rng), longest=LONGEST)
        verdicts[outcome.verdict] += 1
        if outcome.verdict in chains.BROKEN:
            chain, outcome = chains.shorten(proto, outcome.steps)
            broken.append(f"{outcome.verdict}: {title}\n  {chain}\n  {outcome.detail}")
    record_property("verdicts", dict(verdicts))
    print(f"seed {SEED}, group {group}: {dict(verdicts)}")
    assert not broken, f"INTRAIN_REWRITING_SEED={SEED}\n" + "\n".join(broken)
    assert verdicts["equal"] > CHAINS / 2


def test_tools_that_are_missing_are_named():
    missing = sorted(name for name, found in REWRITES.items() if not found.available)
    print(f"without their tools: {', '.join(missing) or 'none'}")
    assert {"onnxruntime_basic", "onnxruntime_extended", "onnxruntime_all", "onnxslim"}.isdisjoint(missing)
