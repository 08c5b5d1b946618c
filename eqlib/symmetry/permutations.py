"""Permutations of the nodes of one graph or of each graph of a batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eqlib.symmetry.elements import Element
from eqlib.symmetry.group import Group


@dataclass(frozen=True)
class Permutations(Group):
    """Permutations of nodes; in a batch of graphs, a node stays in its graph."""

    permutations = True

    @property
    def pure_kinds(self) -> tuple[str, ...]:
        """Permutation."""
        return ("permutation",)

    @property
    def full_kinds(self) -> tuple[str, ...]:
        """Permutation."""
        return ("permutation",)

    def identity(self, nodes: int = 0) -> Element:
        """The permutation that leaves each node in its slot."""
        return Element(permutation=torch.arange(nodes, device="cpu"))

    def compose(self, first: Element, second: Element) -> Element:
        r"""The product :math:`\sigma_1 \circ \sigma_2`."""
        return Element(
            permutation=torch.take_along_dim(self._part(first), self._part(second), dim=-1)
        )

    def inverse(self, element: Element) -> Element:
        r"""The inverse :math:`\sigma^{-1}`."""
        return Element(permutation=self._part(element).argsort(dim=-1))

    def _part(self, element: Element) -> Tensor:
        if element.permutation is None:
            raise ValueError(f"element: it has no permutation, so it is not one of {self!r}")
        return element.permutation

    def _draw(
        self,
        generator: torch.Generator,
        labels: Sequence[frozenset[str]],
        reach: float,
        batch: Tensor | None,
    ) -> Element:
        if batch is None:
            raise ValueError(
                "batch: permutations need the graph of each node; "
                "for one graph of n nodes give torch.zeros(n, dtype=torch.int64)"
            )
        device = generator.device
        batch = batch.to(device)
        keys = torch.rand(
            len(labels), len(batch), generator=generator, dtype=torch.float64, device=device
        )
        slots = torch.arange(len(batch), device=device)
        permutation = _order(keys, batch)
        unmoved = (permutation == slots).all(-1, keepdim=True)
        permutation = torch.where(unmoved, _order(-keys, batch), permutation)
        chosen = ["permutation" in label for label in labels]
        moved = torch.tensor(chosen, dtype=torch.bool, device=device)
        return Element(permutation=torch.where(moved[:, None], permutation, slots))


def _order(keys: Tensor, batch: Tensor) -> Tensor:
    """Order the nodes by graph, and by key inside each graph."""
    by_key = keys.argsort(dim=-1)
    by_graph = batch[by_key].argsort(dim=-1, stable=True)
    return torch.take_along_dim(by_key, by_graph, dim=-1)
