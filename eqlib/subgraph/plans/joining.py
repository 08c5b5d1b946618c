"""The plan of a batch from the plans of its graphs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from eqlib.subgraph.plans.plan import SubgraphPlan


def join_plans(plans: Sequence[SubgraphPlan]) -> SubgraphPlan:
    """The plan of all graphs of some plans, one after the other.

    It is the plan that would be made of the batch of all these graphs. For batches of one data set,
    :meth:`SubgraphPlan.select` is faster.

    Args:
        plans: at least one; all of one policy, on one device.

    Returns:
        Their plan; the graphs keep their order.

    Raises:
        TypeError: an entry is no plan.
        ValueError: there is no plan, or plans differ in policy or device, or in whether subgraphs
            have roots or centers.
    """
    plans = list(plans)
    _check(plans)
    nodes = _shifts([plan.num_nodes for plan in plans])
    subgraphs = _shifts([plan.num_subgraphs for plan in plans])
    members = _shifts([plan.num_members for plan in plans])
    pairs = _shifts([plan.num_pairs for plan in plans])
    slots = _shifts([plan.num_slots for plan in plans])
    graphs = _shifts([plan.num_graphs for plan in plans])
    return SubgraphPlan(
        node=_cat([plan.node for plan in plans], nodes),
        subgraph=_cat([plan.subgraph for plan in plans], subgraphs),
        starts=_cat_starts([plan.starts for plan in plans], members),
        pair_starts=_cat_starts([plan.pair_starts for plan in plans], pairs),
        row=_cat([plan.row for plan in plans], members),
        column=_cat([plan.column for plan in plans], members),
        transpose=_cat([plan.transpose for plan in plans], pairs),
        diagonal=_cat([plan.diagonal for plan in plans], pairs),
        root=_cat_if_any([plan.root for plan in plans], members),
        center=_cat_if_any([plan.center for plan in plans], nodes),
        graph=_cat([plan.graph for plan in plans], graphs),
        pair_index=_cat([plan.pair_index for plan in plans], nodes),
        slot_transpose=_cat([plan.slot_transpose for plan in plans], slots),
        slot_order=_cat([plan.slot_order for plan in plans], pairs),
        slot_starts=_cat_starts([plan.slot_starts for plan in plans], pairs),
        slot=_cat([plan.slot for plan in plans], slots),
        member_order=_cat([plan.member_order for plan in plans], members),
        member_starts=_cat_starts([plan.member_starts for plan in plans], members),
        batch=_cat([plan.batch for plan in plans], graphs),
        num_graphs=graphs[-1],
        policy=plans[0].policy,
    )


def _check(plans: list[SubgraphPlan]) -> None:
    if not plans:
        raise ValueError("plans is empty; expected at least one plan")
    for plan in plans:
        if not isinstance(plan, SubgraphPlan):
            raise TypeError(
                f"plans has an entry of type {type(plan).__name__}; expected a list of plans"
            )
    kinds = {
        "policies": sorted({plan.policy for plan in plans}),
        "devices": sorted({str(plan.device) for plan in plans}),
        "roots": sorted({str(plan.is_rooted) for plan in plans}),
        "centers": sorted({str(plan.has_centers) for plan in plans}),
    }
    for name, found in kinds.items():
        if len(found) > 1:
            raise ValueError(
                f"plans have different {name}: {', '.join(found)}; expected plans of one kind"
            )


def _shifts(counts: list[int]) -> list[int]:
    """Rows before each plan, and all rows."""
    total = [0]
    for count in counts:
        total.append(total[-1] + count)
    return total


def _cat(parts: list[Tensor], shifts: list[int]) -> Tensor:
    return torch.cat([part + shift for part, shift in zip(parts, shifts, strict=False)], -1)


def _cat_if_any(parts: list[Tensor | None], shifts: list[int]) -> Tensor | None:
    """Join indices that either all plans have or none."""
    given = [part for part in parts if part is not None]
    return _cat(given, shifts) if given else None


def _cat_starts(parts: list[Tensor], shifts: list[int]) -> Tensor:
    """Join bounds, each without its end, and the end of all."""
    end = parts[0].new_tensor(shifts[-1:])
    return torch.cat([_cat([part[:-1] for part in parts], shifts), end])
