"""The support table: its page, its command, and operators that users and other packages add."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from builders import model, weight
from click.testing import CliRunner

import intrain_onnx
from intrain_onnx.cli import main
from intrain_onnx.errors import MissingOpsError, SettingsError
from intrain_onnx.ops import registry, write_support
from intrain_onnx.opset import plugins, support, support_table

DOCS = Path(__file__).parents[2] / "docs"
SETTINGS = intrain_onnx.ScoreConfig.for_protocol(seeds=1, threads=1, parity=False, device="cpu")


@pytest.fixture(autouse=True)
def put_back(monkeypatch):
    """Operators that a test adds are gone after it."""
    handlers = {key: dict(known) for key, known in registry._HANDLERS.items()}
    monkeypatch.setattr(support, "registered", {})
    monkeypatch.setattr(plugins, "_loaded", set())
    yield
    registry._HANDLERS.clear()
    registry._HANDLERS.update(handlers)


@pytest.fixture
def bent():
    return model(
        "(float[N,4] x) => (float[N,3] y) {"
        " h = MatMul(x, w) b = com.acme.Bend<sharpness = 4.0>(h) y = MatMul(b, v) }",
        {"w": weight(4, 5), "v": weight(5, 3)},
        domains={"com.acme": 1},
    )


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["ops", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_stored_table_is_that_of_the_handlers():
    assert support.table() == write_support.table()


def test_page_is_what_the_command_prints():
    assert run("--markdown") == support_table.markdown()


def test_command_lists_handlers_and_what_is_missing():
    everything, missing = run(), run("--missing")
    assert re.search(r"ai\.onnx +Sigmoid +6, 13 +6, 13 ", everything)
    assert re.search(r"com\.microsoft +FastGelu +1 +- ", everything)
    assert "Sigmoid" not in missing
    for domain, op_type in support_table.EXCLUDED:
        assert re.search(rf"{domain} +{op_type} ", missing)
    assert (
        everything.splitlines()[-1] == missing.splitlines()[-1] == support_table.totals(support_table.rows())
    )


def test_options_exclude_each_other():
    result = CliRunner().invoke(main, ["ops", "--missing", "--markdown"])
    assert result.exit_code == 2


def test_command_imports_no_torch():
    code = "import sys; from intrain_onnx.cli import main; main(['ops'], standalone_mode=False)"
    code += "; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_every_row_without_a_handler_says_why():
    for row in support_table.rows():
        assert row.note or not row.missing
        assert row.handled or row.note


def test_operator_is_named_then_registered_then_scored(bent, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(bent, "bent.onnx")
    assert intrain_onnx.inspect(bent).data["unsupported_ops"] == {"com.acme::Bend-1": 1}
    with pytest.raises(MissingOpsError, match=r"com\.acme::Bend-1 \(1 node\)") as error:
        intrain_onnx.score(bent, SETTINGS)
    assert error.value.counts == {"com.acme::Bend-1": 1}

    page = (DOCS / "add-an-operator.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    space: dict = {"__name__": "__main__"}
    exec(example, space)

    assert space["report"].intrain > 0
    assert space["report"].data["nodes"]["measured"] == 2
    assert intrain_onnx.inspect(bent).data["unsupported_ops"] == {}
    x = torch.randn(3, 4)
    w, v = weight(4, 5), weight(5, 3)
    h = x.numpy() @ w
    np.testing.assert_allclose(
        intrain_onnx.to_torch(bent)(x).detach(), (np.sqrt(4 + h * h) + h) @ v, rtol=1e-4, atol=1e-5
    )


def test_newest_version_not_above_the_opset_is_taken_where_onnx_knows_none():
    intrain_onnx.register_op("Bend", 1, domain="com.acme")(abs)
    intrain_onnx.register_op("Bend", 3, domain="com.acme")(bool)
    for opset, expected in ((1, abs), (2, abs), (3, bool), (9, bool)):
        handler = registry.resolve("com.acme", "Bend", opset)
        assert handler is not None
        assert handler.function is expected


def test_version_above_the_opset_is_no_handler():
    intrain_onnx.register_op("Bend", 2, domain="com.acme")(abs)
    assert registry.resolve("com.acme", "Bend", 1) is None
    assert not support.is_supported("com.acme", "Bend", 1)


@pytest.mark.parametrize(
    ("arguments", "domain", "error", "message"),
    [
        ((lambda x: x,), "", TypeError, "takes the operator's name"),
        (("Relu",), "", ValueError, r"name the since_versions .* from \[1, 6, 13, 14\]"),
        (("Relu", 7), "", ValueError, r"ai\.onnx::Relu has the since_versions \[1, 6, 13, 14\], not \[7\]"),
        (("Relu", 1, 14), "ai.onnx", ValueError, r"ai\.onnx::Relu has a handler for \[14\] already"),
        (("Gelu",), "com.microsoft", ValueError, r"com\.microsoft::Gelu has a handler for \[1\] already"),
        (("Unknown",), "", ValueError, "name the since_versions"),
        (("Bend", "1"), "com.acme", ValueError, "name the since_versions"),
        (("Bend", 0), "com.acme", ValueError, "name the since_versions"),
    ],
)
def test_register_says_what_is_wrong(arguments, domain, error, message):
    with pytest.raises(error, match=message):
        intrain_onnx.register_op(*arguments, domain=domain)


@pytest.mark.parametrize("handler", [3, lambda x: x])
def test_handler_must_be_a_function_with_a_name(handler):
    with pytest.raises(TypeError, match=r"com\.acme::Bend is no function with a name: "):
        intrain_onnx.register_op("Bend", domain="com.acme")(handler)


def test_registered_operators_are_not_in_the_table_of_the_package():
    before = registry.supported()
    intrain_onnx.register_op("StringConcat", 20)(abs)
    assert registry.supported() == before


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a distribution named acme-ops whose module has the given text."""

    def install(text: str, names: tuple[str, ...] = ("com.acme.Bend",)) -> None:
        info = tmp_path / "acme_ops-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-ops\nVersion: 1.0\n")
        lines = [f"{name} = acme_ops_for_tests" for name in names]
        (info / "entry_points.txt").write_text("\n".join(["[intrain_onnx.ops]", *lines, ""]))
        (tmp_path / "acme_ops_for_tests.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        plugins.declared.cache_clear()

    yield install
    sys.modules.pop("acme_ops_for_tests", None)
    plugins.declared.cache_clear()


PLUGIN = """
import intrain_onnx
count = globals().get("count", 0) + 1

@intrain_onnx.register_op("Bend", domain="com.acme")
def bend(x, *, sharpness=1.0):
    return x * sharpness
"""


def test_plugin_is_known_from_its_name_and_imported_once_when_needed(installed, bent):
    installed(PLUGIN)
    assert intrain_onnx.inspect(bent).data["unsupported_ops"] == {}
    assert re.search(r"com\.acme +Bend +- +- +plugin acme-ops", run())
    assert "acme_ops_for_tests" not in sys.modules
    for _ in range(2):
        module = intrain_onnx.to_torch(bent)
    assert sys.modules["acme_ops_for_tests"].count == 1
    x = torch.randn(2, 4)
    torch.testing.assert_close(
        module(x).detach(), 4 * x @ torch.tensor(weight(4, 5)) @ torch.tensor(weight(5, 3))
    )


def test_plugins_are_not_in_the_page(installed):
    before = support_table.markdown()
    installed(PLUGIN)
    assert support_table.markdown() == before


def test_plugin_that_fails_to_import_is_named_and_stops_only_models_that_need_it(installed, bent):
    installed("import a_module_that_is_not_there")
    with pytest.raises(
        SettingsError, match=r"plugin 'acme-ops' .*fails to import: ModuleNotFoundError"
    ) as error:
        intrain_onnx.score(bent, SETTINGS)
    assert error.value.hint
    plain = model("(float[N,4] x) => (float[N,5] y) { y = MatMul(x, w) }", {"w": weight(4, 5)})
    assert intrain_onnx.score(plain, SETTINGS).intrain > 0


def test_plugin_that_does_not_register_what_it_declares_is_a_missing_operator(installed, bent):
    installed("")
    with pytest.raises(MissingOpsError, match=r"com\.acme::Bend"):
        intrain_onnx.to_torch(bent)
