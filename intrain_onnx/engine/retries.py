"""Runs a job on items, and once more on those whose process was lost for what may not be their fault."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any, Generic

from intrain_onnx.engine.outcomes import Engine, Item, Job, Lost, Outcome, Result

TRIES = 2
"""Processes that an item may take down before it is set aside."""


class Queue(Generic[Item]):
    """Items in their order, then those that were put back; it may grow after it was empty."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items: Iterator[Item] = iter(items)
        self._again: deque[Item] = deque()

    def put_back(self, item: Item) -> None:
        """Give an item once more, after all others."""
        self._again.append(item)

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        for item in self._items:
            return item
        if self._again:
            return self._again.popleft()
        raise StopIteration


def with_retries(
    engine: Engine,
    job: Job[Item, Result],
    items: Iterable[Item],
    *,
    name: Callable[[Item], Hashable],
    lost_before: Mapping[Any, int] | None = None,
    on_loss: Callable[[Item, Lost], None] = lambda item, lost: None,
    told: Callable[[int, Any], None] | None = None,
) -> Generator[Outcome[Item, Result], None, None]:
    """Outcomes as they come, one an item.

    Args:
        engine: runs the job.
        job: run on each item.
        items: read lazily.
        name: what identifies an item.
        lost_before: how many processes an item has taken down in earlier runs.
        on_loss: called before an item is tried again.
        told: see `Engine.map`.
    """
    losses = Counter(lost_before or {})
    queue = Queue(items)
    with closing(engine.map(job, queue, told)) as outcomes:
        for outcome in outcomes:
            found = outcome.result
            if isinstance(found, Lost) and found.may_pass:
                losses[name(outcome.item)] += 1
                if losses[name(outcome.item)] < TRIES:
                    on_loss(outcome.item, found)
                    queue.put_back(outcome.item)
                    continue
            yield outcome
