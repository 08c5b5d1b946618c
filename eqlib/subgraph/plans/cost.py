"""What subgraphs cost: pairs and memory, before these are taken."""

from typing import Literal, NamedTuple, get_args

LIMIT = 8 * 2**30
"""Largest memory of a plan and one channel by default, in bytes."""

PAIR_BYTES = 76
"""Five indices, at most four of its stored pair, and one float32 channel."""

MEMBER_BYTES = 32
SUBGRAPH_BYTES = 40
NODE_BYTES = 16

Policy = Literal["ego", "node_deleted", "node_marked", "whole_graph"]
POLICIES = get_args(Policy)


class CostWarning(UserWarning):
    """Subgraphs hold more pairs of nodes than the whole graphs."""


class PlanCost(NamedTuple):
    """Sizes of a plan, known before it is made.

    Attributes:
        policy: how the subgraphs are chosen, in words.
        pairs: number of pairs, the sum of m^2 over subgraphs of m nodes.
        whole_pairs: number of pairs of nodes in one graph, the sum of n^2 over graphs of n nodes.
        members: the sum of m over the subgraphs.
        subgraphs: number of subgraphs.
        nodes: number of nodes.
        bounded: whether ``pairs`` and ``members`` are lower bounds, as counting stopped early.
    """

    policy: str
    pairs: int
    whole_pairs: int
    members: int
    subgraphs: int
    nodes: int
    bounded: bool = False

    @property
    def num_bytes(self) -> int:
        """Memory of the plan and of one float32 channel of its pairs, in bytes: at most this."""
        return (
            PAIR_BYTES * self.pairs
            + MEMBER_BYTES * self.members
            + SUBGRAPH_BYTES * self.subgraphs
            + NODE_BYTES * self.nodes
        )

    @property
    def is_dearer(self) -> bool:
        """Whether the subgraphs hold more pairs than the whole graphs; of a bound: surely so."""
        return self.pairs > self.whole_pairs

    def __str__(self) -> str:
        """Both sums and the memory in one line."""
        least = "at least " if self.bounded else ""
        return (
            f"{self.policy}: sum m^2 = {least}{self.pairs:,}, sum n^2 = {self.whole_pairs:,}, "
            f"{least}{self.num_bytes / 1e6:,.1f} MB"
        )


def check_limit(limit: int | None) -> None:
    """Raise unless a limit is None or a positive number."""
    if limit is None:
        return
    if not isinstance(limit, int | float) or isinstance(limit, bool):
        raise TypeError(f"limit is {limit!r}; expected a number of bytes, or None for no limit")
    if not limit > 0:
        raise ValueError(f"limit is {limit}; expected a positive number of bytes, or None")


def check_cost(cost: PlanCost, limit: int | None) -> None:
    """Raise where a plan would take more memory than it may."""
    if limit is None or cost.num_bytes <= limit:
        return
    raise ValueError(
        f"edge_index: the plan is too large: {cost}; limit is {limit / 1e6:,.1f} MB. Make plans of "
        "smaller batches or of sampled graphs, choose smaller subgraphs (fewer hops, no hubs), or "
        "give a larger limit in bytes"
    )
