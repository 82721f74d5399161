"""Costs of an architecture from its graph alone, counted as reports count them and kept by description."""

from __future__ import annotations

import onnx

from intrain_onnx import memory
from intrain_onnx.bench.spaces import Space
from intrain_onnx.bench.writer import outlines
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import SettingsError
from intrain_onnx.loading.load import LoadedModel, Source, load
from intrain_onnx.loading.outline import is_outline, load_outline
from intrain_onnx.rewrites.network import Network
from intrain_onnx.scores import counting
from intrain_onnx.search.goals import Costs


class Counter:
    """Counts each architecture of a space once, by the shapes of its weights.

    Args:
        space: that has them.
        size: height and width of the images, or number of tokens.
    """

    def __init__(self, space: Space, size: int) -> None:
        self._space, self._size = space, size
        self._known: dict[str, Costs] = {}

    def __call__(self, description: str) -> Costs:
        """Costs by name.

        Raises:
            IntrainError: the network cannot be built or analysed.
            SettingsError: it has operations whose sizes are not known.
        """
        if description not in self._known:
            with outlines():
                model = self._space.build(description, fold=True, size=self._size)
            self._known[description] = of_model(_loaded(model), self._size)
        return self._known[description]


def _loaded(model: onnx.ModelProto | str) -> LoadedModel:
    return load_outline(model) if not isinstance(model, str) and is_outline(model) else load(model)


@memory.collector_paused()
def of_model(model: Source, size: int) -> Costs:
    """Costs of a model, free sizes of its inputs set to ``size``; nothing is run.

    Raises:
        IntrainError: it cannot be analysed.
        SettingsError: it has operations whose sizes are not known.
    """
    network = Network.of(load(model), ScoreConfig.for_protocol(size=size, sequence=size))
    macs = counting.macs(network.layers, batch=network.single.batch)
    if macs is None:
        raise SettingsError("its multiply-accumulate operations cannot be counted", hint="Fix its sizes")
    return {"macs": macs, "params": counting.parameters(network.layers)}
