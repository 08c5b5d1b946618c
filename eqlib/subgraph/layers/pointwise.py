"""Activations of all features, entry by entry."""

from torch import Tensor, nn

from eqlib.subgraph.features import Features
from eqlib.subgraph.plans.plan import SubgraphPlan
from eqlib.subgraph.representations import feature_signature
from eqlib.symmetry import Signature


class Pointwise(nn.Module):
    """Apply a module that acts on each row, or each entry, to the features of all orders.

    Args:
        module: such as ``nn.ELU()`` or ``nn.Dropout()``; it maps rows (rows, channels) one by one.

    Raises:
        TypeError: it is no module.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        if not callable(module):
            raise TypeError(f"module is {module!r}; expected a module, such as nn.ELU()")
        self.module = module

    @property
    def signature(self) -> Signature:
        """Permutations of the nodes, with a plan: rows of the graph follow it."""
        return feature_signature((2, 1, 0), (2, 1, 0))

    def forward(
        self,
        pairs: Tensor | None = None,
        nodes: Tensor | None = None,
        scalars: Tensor | None = None,
        plan: SubgraphPlan | None = None,
    ) -> Features:
        """The features after the module.

        Args:
            pairs: of any shape, or None.
            nodes: of any shape, or None.
            scalars: of any shape, or None.
            plan: not looked at; layers that follow each other may all be called alike.
        """
        given = (pairs, nodes, scalars)
        return Features(*(None if rows is None else self.module(rows) for rows in given))
