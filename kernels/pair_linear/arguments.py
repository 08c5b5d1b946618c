"""What every implementation is given."""

from typing import NamedTuple

from torch import Tensor


class Pairs(NamedTuple):
    """The pairs of all subgraphs, in the order in which the operations take them; all int64.

    Members are sorted by subgraph; pairs by subgraph, first member i and second member j. A slot is
    a row of the features: pairs of several subgraphs may share one. The slot of (j, i) is the
    transpose of that of (i, j).
    """

    transpose: Tensor
    """Row of the features of each transposed pair, (slots,); its own inverse."""
    starts: Tensor
    """First member of each subgraph, then the number of members, (subgraphs + 1,)."""
    pair_starts: Tensor
    """First pair of each subgraph, then the number of pairs, (subgraphs + 1,)."""
    subgraph: Tensor
    """Subgraph of each member, (members,)."""
    row: Tensor
    """Member i of each pair, (pairs,)."""
    column: Tensor
    """Member j of each pair, (pairs,)."""
    root: Tensor | None
    """Member that is the root of each subgraph, (subgraphs,), or None: there are no roots."""
    slot: Tensor | None
    """Slot of each pair, (pairs,), or None: every pair has its own, in order."""
    slot_order: Tensor | None
    """The pairs, sorted stably by slot, (pairs,); None where ``slot`` is."""
    slot_starts: Tensor | None
    """Where those of each slot begin, then the number of pairs, (slots + 1,); likewise."""

    @property
    def parts(self) -> int:
        """Number of features of a member: diagonal, row, column, and, rooted, to and from root."""
        return count_parts(self.root)

    @classmethod
    def without_members(cls, transpose: Tensor) -> "Pairs":
        """Return what a linear map without a spread needs: the rest is empty."""
        none = transpose.new_empty(0)
        return cls(transpose, none, none, none, none, none, None, None, None, None)


class Reduction(NamedTuple):
    """Arguments of ``reduce``; ``op.py`` states what holds for them."""

    x: Tensor
    """Features of pairs, (slots, channels)."""
    scale: Tensor | None
    """Factor of each slot, (slots,)."""
    pairs: Pairs


class Linear(NamedTuple):
    """Arguments of ``linear``; ``op.py`` states what holds for them."""

    x: Tensor
    """Features of pairs, (slots, channels)."""
    weight: Tensor
    """Of the pair and of its transpose, (2, channels, outputs)."""
    spread: Tensor | None
    """Features of members to add to pairs, (members, parts x outputs)."""
    scale: Tensor | None
    """Factor of what is spread, (slots,)."""
    pairs: Pairs


class WeightGradient(NamedTuple):
    """Arguments of ``weight_gradient``; ``op.py`` states what holds for them."""

    x: Tensor
    """Features of pairs, (slots, channels)."""
    grad: Tensor
    """Gradient of the result, (slots, outputs)."""
    transpose: Tensor
    """As in :class:`Pairs`."""


def count_parts(root: Tensor | None) -> int:
    """Return the number of features that a member has, for each channel."""
    return 3 if root is None else 5
