"""Options that say where models run: what they make, and what contradicts each other."""

from __future__ import annotations

from typing import Any

import pytest

from intrain_onnx.commands.engines import engine_of
from intrain_onnx.engine.processes import Processes
from intrain_onnx.engine.ray_actors import Rayed
from intrain_onnx.engine.serial import Serial
from intrain_onnx.errors import SettingsError
from intrain_onnx.loading.limits import Limits

pytestmark = pytest.mark.workers
OPTIONS: dict[str, Any] = {
    "engine": "processes",
    "workers": 1,
    "address": None,
    "gpus": 0.0,
    "threads": 1,
    "limits": Limits(memory=2**30, cpu_seconds=7),
}


def made(**options: Any) -> Any:
    return engine_of(OPTIONS | options, debug=False)


def test_each_engine_gets_the_limits_it_can_hold():
    assert isinstance(made(engine="serial"), Serial)
    processes = made(workers=3)
    assert isinstance(processes, Processes)
    assert len(processes.workers) == 3
    rayed = made(engine="ray", workers=3, address="host:6379", gpus=0.25, threads=2)
    assert isinstance(rayed, Rayed)
    assert (rayed.address, rayed.workers, rayed.gpus, rayed.threads) == ("host:6379", 3, 0.25, 2)
    assert rayed.limits == processes.workers[0].limits
    assert (rayed.limits.memory, rayed.limits.cpu_seconds) == (2**30, 7)


@pytest.mark.parametrize(
    "options", [{"address": "auto"}, {"gpus": 0.5}, {"engine": "serial", "workers": 2}], ids=str
)
def test_what_contradicts_each_other_is_refused(options: dict[str, Any]):
    with pytest.raises(SettingsError) as raised:
        made(**options)
    assert raised.value.exit_code == 2
    assert raised.value.hint is not None
