"""Graph modules whose Python code is written when they are first called: an interpreter needs none.

torch writes and compiles the code of a ``fx.GraphModule`` when it is made and again after each change, which
takes as long as making the graph.
"""

from __future__ import annotations

from typing import Any, cast

from torch import fx


class LazyModule(fx.GraphModule):
    """A graph module that compiles its graph when it is first called, or asked for its code."""

    def recompile(self) -> Any:
        """Forget the code of an earlier graph."""
        cast(Any, type(self)).forward = LazyModule._first_call

    def compile_now(self) -> Any:
        """Write and compile the code of the graph as it is."""
        return super().recompile()

    def _first_call(self, *args: Any) -> Any:
        self.compile_now()
        return self.forward(*args)

    @property
    def code(self) -> str:
        """The Python code of the graph."""
        if type(self).forward is LazyModule._first_call:
            self.compile_now()
        return super().code

    def __reduce__(self) -> tuple[Any, ...]:
        return plain(self).__reduce__()


def plain(module: fx.GraphModule) -> fx.GraphModule:
    """The same graph, compiled, with the same tensors, as torch's own class, which exporters know."""
    made = fx.GraphModule(module, module.graph, class_name=type(module).__name__)
    made.meta |= module.meta
    for name, inner in module.named_children():
        if isinstance(inner, fx.GraphModule):
            setattr(made, name, plain(inner))
    return made
