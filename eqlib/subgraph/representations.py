"""How permutations act on plans of subgraphs, and on the rows that follow them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from eqlib.subgraph.features import ORDER_NAMES, ORDERS
from eqlib.subgraph.levels import row_counts
from eqlib.subgraph.plans.plan import SubgraphPlan
from eqlib.subgraph.plans.relabelling import checked_permutation, relabel, source_rows
from eqlib.symmetry import Element, Group, Permutations, Representation, Signature, Structure


@dataclass(frozen=True)
class PlanIndex(Structure):
    """A :class:`SubgraphPlan`: permutations relabel the nodes, and sort what a plan has sorted.

    Plans of ego nets and of copies of graphs become those of the relabelled graph. Subgraphs
    without centers keep their numbers.
    """

    def act(self, element: Element, tensor: Any) -> Any:
        """The plan after the nodes have moved."""
        return tensor if element.permutation is None else relabel(tensor, element.permutation)

    def batch_of(self, structure: Any) -> Tensor:
        """The graph of each node."""
        batch: Tensor = structure.batch
        return batch

    def validate(self, name: str, tensor: Any, group: Group) -> None:
        """Refuse all but plans."""
        _checked_plan(name, tensor)


@dataclass(frozen=True, repr=False)
class FeatureRows(Representation):
    """Rows of :class:`Features`, in the first axis: they are in the order that a plan gives.

    Args:
        order: 2, 1 or 0: pairs, nodes or scalars.
        local: whether rows are those of the subgraphs, or of the graph; or the name of the input
            that tells, by default False.
        plan: name of the input that is the plan.
        bound: the plan of one call of a layer, which :meth:`bind` sets.

    Raises:
        ValueError: there is no such order.
    """

    order: int
    local: bool | str = False
    plan: str = "plan"
    bound: SubgraphPlan | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise ValueError(
                f"order is {self.order!r}; expected 2 (pairs), 1 (nodes) or 0 (scalars)"
            )

    def __repr__(self) -> str:
        local = f", local={self.local!r}" if self.local else ""
        plan = f", plan={self.plan!r}" if self.plan != "plan" else ""
        return f"FeatureRows({self.order}{local}{plan})"

    def bind(self, inputs: Mapping[str, object]) -> "FeatureRows":
        """The rows of the plan among the inputs."""
        plan = _checked_plan(f"input {self.plan!r}", inputs.get(self.plan))
        local = inputs.get(self.local, False) if isinstance(self.local, str) else self.local
        return replace(self, local=bool(local), bound=plan)

    def act(self, element: Element, tensor: Tensor) -> Tensor:
        """The rows in the order of the relabelled plan."""
        if element.permutation is None:
            return tensor
        plan = self._plan()
        permutation = checked_permutation(plan, element.permutation)
        source = source_rows(plan, permutation, self.order, bool(self.local))
        return tensor.index_select(0, source.to(tensor.device))

    def validate(self, name: str, tensor: Tensor, group: Group) -> None:
        """Refuse a tensor with another number of rows than the plan has."""
        count = row_counts(self._plan(), bool(self.local))[self.order]
        if tensor.shape[:1] != (count,):
            raise ValueError(
                f"{name}: expected {count} rows for {self!r}, got shape {tuple(tensor.shape)}"
            )

    def _plan(self) -> SubgraphPlan:
        if self.bound is None:
            raise ValueError(f"{self!r}: not bound to a plan; call .bind({{{self.plan!r}: plan}})")
        return self.bound


def feature_signature(
    orders_in: Iterable[int],
    orders_out: Iterable[int],
    local_in: bool | str = False,
    local_out: bool | str = False,
) -> Signature:
    """The signature of a layer that takes features and a plan, and returns features.

    Args:
        orders_in: orders of the features that go in.
        orders_out: orders of those that come out.
        local_in: whether rows that go in are those of the subgraphs; see :class:`FeatureRows`.
        local_out: the same of rows that come out.
    """
    inputs: dict[str, Representation] = {
        ORDER_NAMES[order]: FeatureRows(order, local_in) for order in orders_in
    }
    outputs = {ORDER_NAMES[order]: FeatureRows(order, local_out) for order in orders_out}
    return Signature(Permutations(), {**inputs, "plan": PlanIndex()}, outputs)


def _checked_plan(name: str, plan: object) -> SubgraphPlan:
    if not isinstance(plan, SubgraphPlan):
        raise TypeError(
            f"{name}: expected a SubgraphPlan, such as ego_plan(edge_index), got "
            f"{type(plan).__name__}"
        )
    return plan
