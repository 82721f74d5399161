"""Sound networks pass, in words of their own; their twins with a defect do not."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from audit.conftest import TODAY, quick
from audit.sound import SOUND, Sound
from intrain_onnx.audit.run import Result, audit


def audited(proto: onnx.ModelProto, folder: Path) -> Result:
    onnx.save(proto, folder / "model.onnx")
    return audit(folder / "model.onnx", quick(), today=TODAY)


@pytest.mark.parametrize("sound", SOUND.values(), ids=SOUND)
def test_a_sound_network_passes(sound: Sound, tmp_path: Path):
    result = audited(sound.make(), tmp_path)
    assert result.passed, result.findings
    told = {f.check for f in result.findings}
    assert told >= set(sound.says)


@pytest.mark.parametrize("name", [name for name, sound in SOUND.items() if sound.broken])
def test_its_twin_with_a_defect_does_not(name: str, tmp_path: Path):
    assert SOUND[name].broken
    make, check = SOUND[name].broken
    result = audited(make(), tmp_path)
    assert check in [f.check for f in result.findings if f.severity == "error"], result.findings
