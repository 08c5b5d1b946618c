"""Features of pairs, nodes and scalars: what all layers on subgraphs take and return."""

from typing import NamedTuple, no_type_check

from torch import Tensor

ORDERS = (0, 1, 2)
"""Order of a feature: the number of nodes that it depends on."""

ORDER_NAMES = ("scalars", "nodes", "pairs")
"""Names of the features of each order."""


class Features(NamedTuple):
    """Features of orders 2, 1 and 0; None where there are none of an order.

    On the level of the graph there is one row per stored pair of nodes, per node, and per owner of
    a subgraph: its center, or its graph where the plan knows no centers. On the level of the
    subgraphs there is one row per pair of members, per member, and per subgraph.

    Args:
        pairs: order 2, (rows, channels).
        nodes: order 1, (rows, channels).
        scalars: order 0, (rows, channels).
    """

    pairs: Tensor | None = None
    nodes: Tensor | None = None
    scalars: Tensor | None = None

    @no_type_check  # a type checker at run time would wrap what torch.compile has to trace
    def by_order(self) -> dict[int, Tensor]:
        """The features that there are, by order."""
        given = zip((2, 1, 0), self, strict=True)
        return {order: rows for order, rows in given if rows is not None}


def features_of(by_order: dict[int, Tensor]) -> Features:
    """Features from tensors by order.

    Args:
        by_order: a tensor for each order that there is.
    """
    return Features(by_order.get(2), by_order.get(1), by_order.get(0))
