"""Checks of arguments."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from eqlib.kernels.autocast import is_autocasting
from eqlib.kernels.pair_linear import NAMES
from eqlib.subgraph.features import ORDER_NAMES, ORDERS, Features
from eqlib.subgraph.levels import row_counts
from eqlib.subgraph.plans.plan import SubgraphPlan

WEIGHTS = ("shared", "per_size", "size_embedding")


def check_channels(name: str, channels: Mapping[int, int]) -> None:
    """Raise unless channels are positive integers by order."""
    if not isinstance(channels, Mapping):
        raise TypeError(
            f"{name} is of type {type(channels).__name__}; expected channels by order, such as "
            "{2: 8, 1: 4}"
        )
    if not channels:
        raise ValueError(f"{name} is empty; expected channels by order, such as {{2: 8, 1: 4}}")
    for order, count in channels.items():
        if order not in ORDERS or isinstance(order, bool):
            raise ValueError(
                f"{name} has order {order!r}; expected 2 (pairs), 1 (nodes) or 0 (scalars)"
            )
        if not isinstance(count, int) or isinstance(count, bool):
            raise TypeError(f"{name}[{order}] is {count!r}; expected an integer")
        if count < 1:
            raise ValueError(
                f"{name}[{order}] is {count}; expected at least 1: leave out orders without "
                "channels"
            )


def check_weights(weights: str, sizes: Sequence[int]) -> None:
    """Raise unless there is such a way to share weights, and it has the sizes that it needs."""
    if weights not in WEIGHTS:
        raise ValueError(f"weights is {weights!r}; expected one of {', '.join(WEIGHTS)}")
    if weights == "per_size" and not sizes:
        raise ValueError(
            'sizes is empty; weights="per_size" expects the sizes of subgraphs that get weights of '
            "their own, such as sizes=(1, 2, 3)"
        )
    if weights != "per_size" and sizes:
        raise ValueError(f'sizes is {tuple(sizes)}; expected none with weights="{weights}"')
    for size in sizes:
        if not isinstance(size, int) or isinstance(size, bool):
            raise TypeError(f"sizes has {size!r}; expected integers")
        if size < 1:
            raise ValueError(f"sizes has {size}; expected at least 1")
    if len(set(sizes)) < len(sizes):
        raise ValueError(f"sizes is {tuple(sizes)}; expected each size once")


def check_implementation(implementation: str) -> None:
    """Raise unless there is such an implementation of the sums over pairs."""
    names = ("auto", *NAMES)
    if implementation not in names:
        raise ValueError(
            f"implementation is {implementation!r}; expected one of {', '.join(names)}"
        )


def check_features(
    features: Features, channels: Mapping[int, int], weight: Tensor
) -> dict[int, Tensor]:
    """Return the features by order.

    Args:
        features: of all orders that ``channels`` names, and no others.
        channels: number of them by order.
        weight: a parameter of the layer.

    Raises:
        ValueError: an order is missing or unexpected, or has another number of channels.
        TypeError: a dtype is not that of the layer, or there is something else than tensors.
    """
    found = features.by_order()
    _check_tensors(found)
    for order, name in enumerate(ORDER_NAMES):
        if order in channels and order not in found:
            raise ValueError(f"{name} is None; expected {channels[order]} channels")
        if order in found and order not in channels:
            raise ValueError(f"{name} is given; the layer has no channels of order {order}")
    for order, rows in found.items():
        name = ORDER_NAMES[order]
        if not rows.is_floating_point():
            raise TypeError(f"{name} has dtype {rows.dtype}; expected floating point: use .float()")
        if rows.ndim == 0 or rows.shape[-1] != channels[order]:
            raise ValueError(
                f"{name} has shape {tuple(rows.shape)}; expected {channels[order]} channels in the "
                "last axis"
            )
        if rows.dtype != weight.dtype and not is_autocasting(rows.device.type):
            raise TypeError(
                f"{name} has dtype {rows.dtype}, the layer {weight.dtype}; convert it with "
                f".to({weight.dtype})"
            )
    return found


def check_levels(features: Features, plan: SubgraphPlan, local: bool) -> dict[int, Tensor]:
    """Return the features by order.

    Args:
        features: of any orders.
        plan: the subgraphs.
        local: whether rows are those of the subgraphs, or of the graph.

    Raises:
        ValueError: there are none, or they have other rows.
        TypeError: they are no features, or the plan is none.
    """
    if not isinstance(features, Features):
        raise TypeError(
            f"features is of type {type(features).__name__}; expected Features, such as "
            "Features(nodes=x)"
        )
    given = features.by_order()
    _check_tensors(given)
    if not given:
        raise ValueError("features has none of pairs, nodes and scalars; expected at least one")
    check_rows(given, plan, local)
    return given


def _check_tensors(found: Mapping[int, Tensor]) -> None:
    """Raise unless features are tensors."""
    for order, rows in found.items():
        if isinstance(rows, Tensor):
            continue
        mend = ": write layer(*features, plan=plan)" if isinstance(rows, Features) else ""
        raise TypeError(
            f"{ORDER_NAMES[order]} is of type {type(rows).__name__}; expected a tensor{mend}"
        )


def check_how(how: str) -> None:
    """Raise unless there is such a way to join copies."""
    if how not in ("mean", "sum"):
        raise ValueError(f"how is {how!r}; expected mean or sum")


def check_rows(found: Mapping[int, Tensor], plan: SubgraphPlan, local: bool) -> None:
    """Raise unless features have the rows of a plan.

    Args:
        found: features by order.
        plan: the subgraphs.
        local: whether rows are those of the subgraphs, or of the graph.

    Raises:
        ValueError: there are other rows.
        TypeError: the plan is none.
    """
    if not isinstance(plan, SubgraphPlan):
        raise TypeError(
            f"plan is of type {type(plan).__name__}; expected a SubgraphPlan, such as "
            "ego_plan makes"
        )
    expected, other = row_counts(plan, local), row_counts(plan, not local)
    level, mend = ("subgraphs", "extract") if local else ("graph", "aggregate")
    for order, rows in found.items():
        if rows.ndim == 2 and rows.shape[0] == expected[order]:
            continue
        hint = ""
        if rows.shape[:1] == (other[order],):
            hint = f"; these look like rows of the other level: {mend}(features, plan) first"
        raise ValueError(
            f"{ORDER_NAMES[order]} has shape {tuple(rows.shape)}; expected {expected[order]} rows "
            f"on the level of the {level}{hint}"
        )


def check_root(plan: SubgraphPlan) -> None:
    """Raise unless the subgraphs of a plan have roots."""
    if not plan.is_rooted:
        raise ValueError(
            f"plan ({plan.policy}) has no roots, which the layer expects: make it with rooted=True"
        )


def dense_shape(found: Mapping[int, Tensor], size: int | None) -> tuple[tuple[int, ...], int]:
    """Return the batch shape of dense features, and the number of nodes.

    Args:
        found: features by order.
        size: number of nodes, where only scalars are given.

    Raises:
        ValueError: shapes do not fit together, or the number of nodes is not known.
    """
    shapes = {}
    for order, rows in found.items():
        if rows.ndim <= order:
            axes = ", ".join([*["m"] * order, "channels"])
            raise ValueError(
                f"{ORDER_NAMES[order]} has shape {tuple(rows.shape)}; expected (..., {axes}), or a "
                "plan"
            )
        end = rows.ndim - 1 - order
        shapes[order] = (tuple(rows.shape[:end]), tuple(rows.shape[end:-1]))
    batch = next(shape for shape, _ in shapes.values())
    nodes = next((nodes[0] for _, nodes in shapes.values() if nodes), size)
    if nodes is None:
        raise ValueError("size is None; scalars alone do not tell the number of nodes: give size")
    for order, (shape, sizes) in shapes.items():
        if shape != batch or sizes != (nodes,) * order or (size is not None and size != nodes):
            raise ValueError(
                f"{ORDER_NAMES[order]} has shape {tuple(found[order].shape)}; expected "
                f"{(*batch, *[nodes] * order, found[order].shape[-1])} for subgraphs of {nodes} "
                f"nodes{'' if size is None else f', with size={size}'}"
            )
    return batch, nodes


def check_aggregation(aggregation: str) -> None:
    """Raise unless there is such a way to bring features of subgraphs back."""
    if aggregation not in ("mean", "sum", "attention"):
        raise ValueError(f"aggregation is {aggregation!r}; expected mean, sum or attention")


def check_residual(channels_in: Mapping[int, int], channels_out: Mapping[int, int]) -> None:
    """Raise unless the input can be added to the output."""
    if any(channels_in.get(order) != count for order, count in channels_out.items()):
        raise ValueError(
            f"channels_out is {dict(channels_out)} and channels_in {dict(channels_in)}; "
            "residual=True expects each order of the output in the input, with as many channels"
        )
