"""What a group is, and the product of groups."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import cycle, islice, product

import torch
from jaxtyping import Int
from torch import Tensor

from eqlib.symmetry.elements import Element


class Group(ABC):
    """A group: it samples, composes and inverts elements, which act through representations.

    ``dimension`` is that of the space the group moves, None if it moves none; ``reflections``,
    ``translations`` and ``permutations`` say which of them the group contains. ``preserves`` says
    what motions of space keep: "lengths", "angles" (similarities), "intervals" of spacetime
    (Lorentz) or only straight "lines".
    """

    dimension: int | None = None
    preserves: str = "lengths"
    reflections: bool = False
    translations: bool = False
    permutations: bool = False

    @property
    @abstractmethod
    def pure_kinds(self) -> tuple[str, ...]:
        """The kinds of elements that do one thing only, such as "translation"."""

    @property
    @abstractmethod
    def full_kinds(self) -> tuple[str, ...]:
        """The kinds of elements that do all at once, such as "rotation + translation"."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The identity, the pure and the full kinds: what a check has to cover."""
        return tuple(dict.fromkeys(("identity", *self.pure_kinds, *self.full_kinds)))

    @abstractmethod
    def identity(self, nodes: int = 0) -> Element:
        """The element that changes nothing.

        Args:
            nodes: number of nodes that permutations act on.
        """

    @abstractmethod
    def compose(self, first: Element, second: Element) -> Element:
        """The product: it acts as ``second`` does, then as ``first`` does."""

    @abstractmethod
    def inverse(self, element: Element) -> Element:
        """The element that undoes ``element``."""

    def sample(
        self,
        generator: torch.Generator,
        samples: int = 1,
        *,
        kinds: Sequence[str] = (),
        reach: float = 1.0,
        batch: Int[Tensor, " nodes"] | None = None,
    ) -> Element:
        """Draw a batch of elements in float64, on the device of the generator.

        Rotations and reflections are Haar-uniform and translations uniform in a ball. Groups that
        are not of isometries say how they draw the rest.
        Permutations are uniform among those that keep each node in its graph, but where the
        identity is drawn the order of the nodes is reversed instead.

        Args:
            generator: the source of randomness.
            samples: number of elements.
            kinds: the kinds of the elements, in turn; by default ``full_kinds``.
            reach: largest length of a translation, in the unit of the points.
            batch: graph of each node, sorted; zeros for a single graph.

        Raises:
            ValueError: the group has no such kind, or permutes nodes and ``batch`` is missing.
        """
        labels = [frozenset(kind.split(" + ")) for kind in kinds or self.full_kinds]
        possible = ("identity", *self.pure_kinds)
        if unknown := sorted(frozenset().union(*labels).difference(possible)):
            raise ValueError(
                f"kinds: {self!r} has no {unknown[0]!r}; "
                f"it has {', '.join(possible)} and sums of them such as {self.full_kinds[-1]!r}"
            )
        return self._draw(generator, list(islice(cycle(labels), samples)), reach, batch)

    def __mul__(self, other: "Group") -> "GroupProduct":
        """The direct product with a group that acts on something else."""
        return GroupProduct((self,)) * other

    @abstractmethod
    def _draw(
        self,
        generator: torch.Generator,
        labels: Sequence[frozenset[str]],
        reach: float,
        batch: Tensor | None,
    ) -> Element:
        """Draw one element per label; a label names what its element does."""


@dataclass(frozen=True, repr=False)
class GroupProduct(Group):
    """Direct product of groups that act on different things: ``E(3) * Permutations()``.

    Args:
        factors: the groups; permutations are put last.

    Raises:
        ValueError: two factors do the same thing, such as rotate, or both move space.
        TypeError: a factor is no group.
    """

    factors: tuple[Group, ...]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for factor in self.factors:
            if not isinstance(factor, Group):
                raise TypeError(f"factors: expected groups, got {factor!r}")
            if shared := seen.intersection(factor.pure_kinds):
                raise ValueError(f"{self!r}: two factors contain every {min(shared)}")
            seen.update(factor.pure_kinds)
        moving = [factor for factor in self.factors if factor.dimension is not None]
        if len(moving) > 1:
            raise ValueError(
                f"{self!r}: both {moving[0]!r} and {moving[1]!r} move space; use one group that "
                "contains both, such as Similarity(3) for scalings and rotations"
            )
        ordered = tuple(sorted(self.factors, key=lambda factor: factor.permutations))
        object.__setattr__(self, "factors", ordered)
        for factor in moving:
            object.__setattr__(self, "dimension", factor.dimension)
            object.__setattr__(self, "preserves", factor.preserves)
        for flag in ("reflections", "translations", "permutations"):
            object.__setattr__(self, flag, any(getattr(f, flag) for f in self.factors))

    def __repr__(self) -> str:
        return " * ".join(map(repr, self.factors))

    def __mul__(self, other: Group) -> "GroupProduct":
        """The product of all factors of both."""
        others = other.factors if isinstance(other, GroupProduct) else (other,)
        return GroupProduct((*self.factors, *others))

    @property
    def pure_kinds(self) -> tuple[str, ...]:
        """The pure kinds of all factors."""
        return tuple(kind for factor in self.factors for kind in factor.pure_kinds)

    @property
    def full_kinds(self) -> tuple[str, ...]:
        """All combinations of the full kinds of the factors."""
        return tuple(map(" + ".join, product(*(factor.full_kinds for factor in self.factors))))

    def identity(self, nodes: int = 0) -> Element:
        """The element that changes nothing."""
        return reduce(Element.merge, (factor.identity(nodes) for factor in self.factors))

    def compose(self, first: Element, second: Element) -> Element:
        """The product, factor by factor."""
        return reduce(Element.merge, (factor.compose(first, second) for factor in self.factors))

    def inverse(self, element: Element) -> Element:
        """The inverse, factor by factor."""
        return reduce(Element.merge, (factor.inverse(element) for factor in self.factors))

    def _draw(
        self,
        generator: torch.Generator,
        labels: Sequence[frozenset[str]],
        reach: float,
        batch: Tensor | None,
    ) -> Element:
        parts = [factor._draw(generator, labels, reach, batch) for factor in self.factors]
        return reduce(Element.merge, parts)


def moving_factor(group: Group) -> Group:
    """The factor of a product that moves space; the group itself if it is no product.

    Args:
        group: of any kind.
    """
    factors = group.factors if isinstance(group, GroupProduct) else (group,)
    return next((factor for factor in factors if factor.dimension is not None), group)
