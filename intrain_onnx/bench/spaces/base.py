"""Type of a search space, and helpers to parse descriptions."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from intrain_onnx import untrusted
from intrain_onnx.errors import SettingsError

if TYPE_CHECKING:
    import onnx


Genes = tuple[int, ...]
"""A choice for each gene, from 0."""

_TRIES = 10_000
"""Draws after which a space without a valid architecture is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Genome:
    """The architectures of a space as sequences of choices, by which a search walks it.

    Attributes:
        alleles: number of choices of each gene.
        express: description of the architecture that genes stand for; raises SettingsError where they stand
            for none.
        mutate: ``mutate(genes, generator)`` changes genes; None: one gene takes another of its alleles.
        cross: ``cross(one, other, generator)`` combines two parents; None: each gene is of one of them.
        start: genes that a search begins from, changed at random; empty: it begins with drawn ones.
        sizes: places of genes whose choice, plus one, is in proportion to a width: a search scales them so
            that an architecture keeps a budget and fills it.
    """

    alleles: tuple[int, ...]
    express: Callable[[Genes], str]
    mutate: Callable[[Genes, random.Random], Genes] | None = None
    cross: Callable[[Genes, Genes, random.Random], Genes] | None = None
    start: Genes = ()
    sizes: tuple[int, ...] = ()

    def draw(self, generator: random.Random) -> Genes:
        """Draw each gene for itself, until the genes are valid.

        Raises:
            SettingsError: 10,000 draws were not.
        """
        for _ in range(_TRIES):
            genes = tuple(generator.randrange(number) for number in self.alleles)
            if self.is_valid(genes):
                return genes
        raise SettingsError(f"none of {_TRIES:,} random genomes is valid", hint="Look at what refuses them")

    def is_valid(self, genes: Genes) -> bool:
        """Whether genes stand for an architecture."""
        try:
            self.express(genes)
        except SettingsError:
            return False
        return True

    def mutated(self, genes: Genes, generator: random.Random) -> Genes:
        """Changed genes, which may be invalid."""
        if self.mutate is not None:
            return self.mutate(genes, generator)
        free = [place for place, number in enumerate(self.alleles) if number > 1]
        if not free:
            return genes
        place = generator.choice(free)
        other = (genes[place] + generator.randrange(1, self.alleles[place])) % self.alleles[place]
        return (*genes[:place], other, *genes[place + 1 :])

    def crossed(self, one: Genes, other: Genes, generator: random.Random) -> Genes:
        """A child of two parents, which may be invalid."""
        if self.cross is not None:
            return self.cross(one, other, generator)
        return tuple(generator.choice(pair) for pair in zip(one, other, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A set of architectures, each identified by a description from which its network is built.

    A table needs ``describe``, a search needs ``genome``, and both build the network alike.

    Attributes:
        name: short name for commands.
        title: name in its publication; empty for its name.
        source: the publication.
        describe: canonical description of the architecture in a row of a table; raises SettingsError.
        build: ``build(description, *, fold, size=None, classes=None)`` builds the network, BatchNorm folded
            or kept, for the image size and classes of this space or others, or returns the path of an ONNX
            file; raises SettingsError.
        accuracies: column of the test accuracy, by data set.
        losses: the data sets whose column holds a loss or a perplexity, of which less is better.
        sample: draws the description of a random architecture; None: by the genome.
        keep: whether a row of a table was trained as the others were; None if all are.
        family: of a description, within which ranks are compared too; None for a space of one family.
        size: default height and width of images, or number of tokens.
        batch: default number of samples.
        classes: default number of classes, or of words.
        genome: how a search walks the space; None where it cannot.
        counted_at: size of images that operations are counted at for a budget; 0 for ``size``.
    """

    name: str
    title: str = ""
    source: str = ""
    describe: Callable[[Mapping[str, str]], str]
    build: Callable[..., onnx.ModelProto | str]
    accuracies: Mapping[str, str] = field(default_factory=lambda: {"accuracy": "accuracy"})
    losses: frozenset[str] = frozenset()
    sample: Callable[[random.Random], str] | None = None
    keep: Callable[[Mapping[str, str]], bool] | None = None
    family: Callable[[str], str] | None = None
    size: int = 64
    batch: int = 16
    classes: int = 10
    genome: Genome | None = None
    counted_at: int = 0

    def draw(self, generator: random.Random) -> str:
        """The description of a random architecture.

        Raises:
            SettingsError: the space has neither ``sample`` nor ``genome``, or no valid architecture.
        """
        if self.sample is not None:
            return self.sample(generator)
        if self.genome is None:
            raise SettingsError(f"space {self.name} cannot be sampled", hint="Give it sample, or a genome")
        return self.genome.express(self.genome.draw(generator))


def column(row: Mapping[str, str], name: str) -> str:
    """A cell of a table, stripped of whitespace.

    Raises:
        SettingsError: the table lacks the column, or the row a value in it.
    """
    value = (row.get(name) or "").strip()
    if not value:
        raise SettingsError(
            f"no value in column {name!r}", hint=f"The table needs a column {name!r} in each row"
        )
    return value


def bad(description: str, space: str, why: str) -> SettingsError:
    """The error for a description that is not an architecture of a space."""
    return SettingsError(f"{description!r} is no architecture of {space}: {why}")


def fields(description: str, space: str) -> dict[str, Any]:
    """Keys and values of a description that is a JSON object.

    Raises:
        SettingsError: it is not a JSON object.
    """
    try:
        values = untrusted.json_value(description)
    except untrusted.UnreadableError as error:
        raise bad(description, space, str(error)) from error
    if not isinstance(values, dict):
        raise bad(description, space, "not a JSON object")
    return values


def compact(values: Mapping[str, object]) -> str:
    """A description as JSON without whitespace."""
    return json.dumps(values, separators=(",", ":"))


def common(value: Any) -> Any:
    """The value that all entries of a list repeat: published code writes some settings once per block."""
    if isinstance(value, list) and value and all(entry == value[0] for entry in value):
        return value[0]
    return value


def is_count(value: object, most: int) -> bool:
    """Whether a value is an integer from 1 to a limit that bounds the network's size."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def is_ratio(value: object) -> bool:
    """Whether a value is a valid ratio of widths, in (0, 16]."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 16
