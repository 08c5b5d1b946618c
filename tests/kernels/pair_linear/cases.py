"""Small problems on which all implementations are compared."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch

from eqlib.kernels.pair_linear import Pairs, pick
from eqlib.kernels.problems import SUBGRAPHS

TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6, torch.bfloat16: 2e-2, torch.float16: 2e-3}
"""Largest error over the largest entry, beside float64 on the same rounded operands."""

_FASTEST = pick(torch.device("cpu"), torch.float64)
implementations = pytest.mark.parametrize(
    "implementation",
    [
        "naive",
        "blocked",
        pytest.param(
            "compiled", marks=pytest.mark.skipif(_FASTEST[0] != "compiled", reason=_FASTEST[1])
        ),
    ],
)
"""Those that run on a CPU."""


@dataclass(frozen=True)
class Case:
    """Subgraphs by their numbers of nodes, and settings."""

    sizes: tuple[int, ...] = (1, 2, 3, 5, 1, 4)
    nodes: int = 7
    channels: int = 5
    outputs: int = 6
    rooted: bool = False
    shared: bool = True
    scaled: bool = True


class Problem(NamedTuple):
    """The operands, and where pairs are, as the oracle wants it."""

    x: torch.Tensor
    weight: torch.Tensor
    spread: torch.Tensor
    scale: torch.Tensor | None
    pairs: Pairs
    slots: list[torch.Tensor]
    """Slot of each pair of each subgraph, (m, m)."""
    roots: list[int | None]
    """Node of each subgraph, counted from its first, that is the root."""

    def linear(self):
        """The arguments of pair_linear but for the implementation."""
        return (*self[:4], *self.pairs)

    def reduction(self):
        """The arguments of pair_reduce but for the implementation."""
        return (self.x, self.scale, *self.pairs)


def _all_forms():
    for name, (sizes, nodes) in SUBGRAPHS.items():
        for rooted in (False, True):
            for shared in (False, True):
                form = [name] + ["rooted"] * rooted + ["shared"] * shared
                yield (
                    ", ".join(form),
                    Case(sizes, nodes, rooted=rooted, shared=shared, scaled=shared != rooted),
                )


CASES = dict(_all_forms()) | {
    "one channel": Case(channels=1, outputs=1, rooted=True),
    "no channel": Case(channels=0),
    "no channel, rooted": Case(channels=0, rooted=True, scaled=False, shared=False),
    "wide": Case(channels=67, outputs=35, rooted=True),
    "narrowing": Case(channels=40, outputs=2),
    "widening": Case(channels=2, outputs=130, shared=False),
}


def make(case, rng, dtype=torch.float64, device="cpu"):
    """Draw the operands of a case; slots without a pair are there too where pairs share slots."""

    def normal(*shape):
        values = torch.randn(*shape, dtype=torch.float64, generator=rng)
        return values.to(device, dtype)

    nodes = [torch.randperm(case.nodes, generator=rng)[:m].sort().values for m in case.sizes]
    slots, transpose = _shared_slots(nodes, case, rng) if case.shared else _own_slots(case.sizes)
    roots = [_draw(m, rng) if case.rooted else None for m in case.sizes]
    pairs = _pairs(case, slots, transpose, roots)
    parts, count = pairs.parts, len(transpose)
    scale = torch.rand(count, dtype=torch.float64, generator=rng) + 0.5
    return Problem(
        normal(count, case.channels),
        normal(2, case.channels, case.outputs),
        normal(sum(case.sizes), parts * case.outputs),
        scale.to(device, torch.promote_types(dtype, torch.float32)) if case.scaled else None,
        Pairs(*[index if index is None else index.to(device) for index in pairs]),
        slots,
        roots,
    )


def _draw(count, rng):
    return int(torch.randint(count, (1,), generator=rng))


def _own_slots(sizes):
    """Number the pairs of all subgraphs one after the other."""
    slots, begin = [], 0
    for m in sizes:
        slots.append(begin + torch.arange(m * m).view(m, m))
        begin += m * m
    transposes = [block.T.reshape(-1) for block in slots]
    return slots, torch.cat([torch.zeros(0, dtype=torch.int64), *transposes])


def _shared_slots(nodes, case, rng):
    """Number the pairs of nodes that share a subgraph, and one pair that does not, at random."""
    found = {(int(i), int(j)) for members in nodes for i in members for j in members}
    if case.nodes > 1:
        found |= {(0, case.nodes - 1), (case.nodes - 1, 0)}
    keys = sorted(found)
    order = torch.randperm(len(keys), generator=rng).tolist()
    number = dict(zip(keys, order, strict=True))
    transpose = torch.zeros(len(keys), dtype=torch.int64)
    for (i, j), place in number.items():
        transpose[place] = number[j, i]
    slots = [
        torch.tensor([[number[int(i), int(j)] for j in members] for i in members])
        for members in nodes
    ]
    return slots, transpose


def _pairs(case, slots, transpose, roots):
    sizes = torch.tensor(case.sizes, dtype=torch.int64)
    zero = sizes.new_zeros(1)
    starts = torch.cat([zero, sizes.cumsum(0)])
    member = [
        begin + torch.arange(m) for begin, m in zip(starts.tolist(), case.sizes, strict=False)
    ]
    subgraph = torch.arange(len(sizes)).repeat_interleave(sizes)
    row = [index.repeat_interleave(len(index)) for index in member]
    column = [index.repeat(len(index)) for index in member]
    root = starts[:-1] + torch.tensor(roots, dtype=torch.int64) if case.rooted else None
    slot = order = slot_starts = None
    if case.shared:
        slot = torch.cat([zero[:0], *[block.flatten() for block in slots]])
        order = slot.argsort(stable=True)
        slot_starts = torch.searchsorted(slot[order], torch.arange(len(transpose) + 1))
    return Pairs(
        transpose,
        starts,
        torch.cat([zero, (sizes * sizes).cumsum(0)]),
        subgraph,
        torch.cat([zero[:0], *row]),
        torch.cat([zero[:0], *column]),
        root,
        slot,
        order,
        slot_starts,
    )


def close(found, expected, tolerance):
    """Whether the largest error is small beside the largest entry."""
    scale = expected.abs().max().clamp(min=1e-30) if expected.numel() else 1.0
    error = (found.double() - expected.double()).abs()
    return found.shape == expected.shape and bool((error <= tolerance * scale).all())
