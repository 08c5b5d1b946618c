"""Refusal of what does not fit: implementations read memory without looking."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from eqlib.kernels.pair_linear.arguments import Pairs

Made = TypeVar("Made")


class _Mark(NamedTuple):
    """What tells a tensor, its memory and its content from others and from what they were."""

    tensor: Callable[[], Tensor | None]
    version: int
    place: int
    """Sharing memory with a process moves it, and counts as no writing."""
    shape: torch.Size

    @classmethod
    def of(cls, tensor: Tensor) -> "_Mark":
        return cls(weakref.ref(tensor), tensor._version, tensor.data_ptr(), tensor.shape)

    def fits(self, tensor: Tensor) -> bool:
        return (
            self.tensor() is tensor
            and self.version == tensor._version
            and self.place == tensor.data_ptr()
            and self.shape == tensor.shape
        )


_PASSED: dict[tuple[Any, ...], tuple[list[_Mark], Any]] = {}
_REMEMBERED = 64
_REAL = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def check_tensor(name: str, tensor: Tensor, x: Tensor, axes: int, real: bool) -> None:
    """Raise unless number of axes, device and dtype are as they should be.

    Raises:
        ValueError: the number of axes or the device is another.
        TypeError: the dtype is.
    """
    if tensor.ndim != axes:
        raise ValueError(f"{name}: expected {axes} axes, got shape {tuple(tensor.shape)}")
    if tensor.device != x.device:
        raise ValueError(
            f"{name} is on {tensor.device} and x on {x.device}; move them to one device"
        )
    if tensor.dtype not in _REAL if real else tensor.dtype != torch.int64:
        expected = "float64, float32, bfloat16 or float16" if real else "int64"
        raise TypeError(f"{name}: expected {expected}, got {tensor.dtype}")


def check_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Raise a ValueError unless a tensor has a shape."""
    if tensor.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {tuple(tensor.shape)}")


def check_features(x: Tensor, scale: Tensor | None, transpose: Tensor) -> None:
    """Raise unless features, their factors and the transpose fit.

    Raises:
        ValueError: they do not.
        TypeError: a tensor has another dtype than its kind may have.
    """
    check_tensor("x", x, x, 2, real=True)
    if scale is not None:
        check_tensor("scale", scale, x, 1, real=True)
        check_shape("scale", scale, (len(x),))
    check_tensor("transpose", transpose, x, 1, real=False)
    check_shape("transpose", transpose, (len(x),))
    if x.device.type == "cpu":  # elsewhere looking would wait for the device
        remember(_check_transpose, [transpose])


def check_pairs(x: Tensor, pairs: Pairs) -> None:
    """Raise unless the subgraphs fit the features.

    Raises:
        ValueError: they do not.
        TypeError: a tensor has another dtype than its kind may have.
    """
    _check_presence(pairs)
    for name, index in pairs._asdict().items():
        if index is not None:
            check_tensor(name, index, x, 1, real=False)
    if not len(pairs.starts):
        raise ValueError("starts: expected one entry more than there are subgraphs, got none")
    subgraphs, count = len(pairs.starts) - 1, len(pairs.row)
    expected = {
        "pair_starts": (pairs.pair_starts, subgraphs + 1),
        "column": (pairs.column, count),
        "root": (pairs.root, subgraphs),
        "slot": (pairs.slot, count),
        "slot_order": (pairs.slot_order, count),
        "slot_starts": (pairs.slot_starts, len(x) + 1),
    }
    for name, (index, size) in expected.items():
        if index is not None:
            check_shape(name, index, (size,))
    if pairs.slot is None and count != len(x):
        raise ValueError(
            f"x: expected one row for each of {count} pairs, got {len(x)}; pass slot, slot_order "
            "and slot_starts where pairs share rows"
        )
    if x.device.type == "cpu":
        remember(_check_indices, list(pairs))


def check_nodes(
    x: Tensor,
    pairs: Pairs,
    node: Tensor | None,
    member_order: Tensor | None,
    member_starts: Tensor | None,
) -> None:
    """Raise unless the nodes of members fit the pairs.

    Raises:
        ValueError: they do not.
        TypeError: a tensor has another dtype than its kind may have.
    """
    given = {"node": node, "member_order": member_order, "member_starts": member_starts}
    if any((index is None) != (pairs.slot is None) for index in given.values()):
        raise ValueError(
            "node, member_order, member_starts: expected tensors where there are slots, else None"
        )
    if node is None or member_order is None or member_starts is None:
        return
    for name, index in given.items():
        check_tensor(name, index, x, 1, real=False)  # type: ignore[arg-type]
    check_shape("node", node, (len(pairs.subgraph),))
    check_shape("member_order", member_order, (len(node),))
    if x.device.type == "cpu":
        remember(_check_nodes, [node, member_order, member_starts, *pairs])


def _check_nodes(node: Tensor, order: Tensor, starts: Tensor, *tensors: Any) -> None:
    pairs = Pairs(*tensors)
    by_node = _check_order("member", "node", node, order, starts)
    place = torch.arange(len(node)) - pairs.starts[pairs.subgraph]
    size = pairs.starts.diff()[pairs.subgraph]
    diagonal = pairs.slot[pairs.pair_starts[pairs.subgraph] + place * (size + 1)]  # type: ignore[index]
    slots = diagonal[order]
    same = by_node[1:] == by_node[:-1]
    if not torch.equal(slots[1:][same], slots[:-1][same]):
        raise ValueError("node: expected the pairs (i, i) of all members of a node to be one slot")


def _check_order(prefix: str, key: str, values: Tensor, order: Tensor, starts: Tensor) -> Tensor:
    """Raise unless an order sorts values stably and each begins where it is said; return them."""
    what = {"member": "members", "slot": "pairs"}[prefix]
    _check_range(f"{prefix}_order", order, len(values))
    _check_starts(f"{prefix}_starts", starts, len(values), what)
    ordered = values[order]
    if not torch.equal(ordered, _repeat(starts.diff(), len(values))):
        raise ValueError(
            f"{prefix}_order, {prefix}_starts: expected the {what} sorted by {key}, and where "
            f"those of each {key} begin"
        )
    rising = (ordered[1:] > ordered[:-1]) | (order[1:] > order[:-1])
    if not bool(rising.all()):
        raise ValueError(
            f"{prefix}_order: expected the {what} sorted stably by {key}, as "
            f"{key}.argsort(stable=True) gives"
        )
    return ordered


def _check_presence(pairs: Pairs) -> None:
    absent = [
        name for name in ("slot", "slot_order", "slot_starts") if getattr(pairs, name) is None
    ]
    if absent and len(absent) < 3:
        raise ValueError(
            f"{', '.join(absent)}: expected slot, slot_order and slot_starts together, or none"
        )


def remember(make: Callable[..., Made], tensors: Sequence[Tensor | None]) -> Made:
    """Return what is made of tensors, from memory where it was made of these very tensors before.

    Looking at indices takes a tenth of the time of an operation, and layers and derivatives share
    them. What somebody has written to since is looked at again.

    Args:
        make: what to call; it raises where a tensor does not fit.
        tensors: its arguments.
    """
    given = [tensor for tensor in tensors if tensor is not None]
    # Those of inference mode do not count what is written, and those of transforms have no memory.
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    if any(tensor.is_inference() or wrapped(tensor) for tensor in given):
        return make(*tensors)
    key = (make.__name__, *map(id, tensors))
    marks, made = _PASSED.get(key, ([], None))
    if marks and all(mark.fits(tensor) for mark, tensor in zip(marks, given, strict=True)):
        return cast(Made, made)
    found = make(*tensors)
    if len(_PASSED) >= _REMEMBERED:
        _PASSED.clear()
    _PASSED[key] = [_Mark.of(tensor) for tensor in given], found
    return found


def _check_transpose(transpose: Tensor) -> None:
    count = len(transpose)
    _check_range("transpose", transpose, count)
    if not torch.equal(transpose[transpose], torch.arange(count)):
        raise ValueError(
            "transpose: expected the row of (j, i) for that of (i, j), so that the transpose of a "
            f"transpose is where it was, got {_first_few(transpose)}"
        )


def _check_indices(*tensors: Any) -> None:
    pairs = Pairs(*tensors)
    members, count = len(pairs.subgraph), len(pairs.row)
    _check_starts("starts", pairs.starts, members, "members")
    _check_starts("pair_starts", pairs.pair_starts, count, "pairs")
    sizes, pair_counts = pairs.starts.diff(), pairs.pair_starts.diff()
    if not torch.equal(pair_counts, sizes * sizes):
        raise ValueError(
            "pair_starts: expected a subgraph of m members to have m * m pairs, got "
            f"{_first_few(pair_counts)} pairs for {_first_few(sizes)} members"
        )
    if not torch.equal(pairs.subgraph, _repeat(sizes, members)):
        raise ValueError("subgraph: expected the members to be sorted by subgraph, as starts says")
    _check_members(pairs, sizes)
    if pairs.slot is not None:
        _check_slots(pairs)


def _check_members(pairs: Pairs, sizes: Tensor) -> None:
    """Raise unless rows, columns and roots are the members that they should be."""
    width = sizes[pairs.subgraph]
    row = _repeat(width, len(pairs.row))
    begins = width.cumsum(0) - width
    place = torch.arange(len(row)) - begins[row]
    if not torch.equal(pairs.row, row):
        raise ValueError("row: expected the pairs to be sorted by subgraph and first member")
    if not torch.equal(pairs.column, pairs.starts[pairs.subgraph[row]] + place):
        raise ValueError("column: expected, for each row, the members of its subgraph in order")
    if pairs.root is not None:
        outside = (pairs.root < pairs.starts[:-1]) | (pairs.root >= pairs.starts[1:])
        outside &= sizes > 0
        if bool(outside.any()):
            raise ValueError(
                "root: expected a member of each subgraph, by its place among all members; that "
                f"of subgraph {int(outside.nonzero()[0, 0])} is {int(pairs.root[outside][0])}"
            )


def _check_slots(pairs: Pairs) -> None:
    """Raise unless slots fit the features, their order and each other."""
    slot, order, starts = pairs.slot, pairs.slot_order, pairs.slot_starts
    if slot is None or order is None or starts is None:
        return
    _check_range("slot", slot, len(pairs.transpose))
    _check_order("slot", "slot", slot, order, starts)
    begins = pairs.pair_starts[pairs.subgraph] - pairs.starts[pairs.subgraph]
    width = pairs.starts.diff()[pairs.subgraph]
    row, column = pairs.row, pairs.column
    turned = begins[row] + row + (column - pairs.starts[pairs.subgraph][row]) * width[row]
    if not torch.equal(slot[turned], pairs.transpose[slot]):
        raise ValueError(
            "slot: expected the slot of the pair (j, i) to be the transpose of that of (i, j)"
        )


def _repeat(counts: Tensor, total: int) -> Tensor:
    """Return each index as often as is said."""
    return torch.arange(len(counts)).repeat_interleave(counts, output_size=total)


def _check_range(name: str, index: Tensor, size: int) -> None:
    if not len(index):
        return
    low, high = (int(bound) for bound in index.aminmax())
    if low < 0 or high >= size:
        raise ValueError(f"{name}: expected 0 <= {name} < {size}, got {low} to {high}")


def _check_starts(name: str, starts: Tensor, count: int, what: str) -> None:
    fits = int(starts[0]) == 0 and int(starts[-1]) == count and bool((starts.diff() >= 0).all())
    if not fits:
        raise ValueError(
            f"{name}: expected to ascend from 0 to the number of {what}, {count}, got "
            f"{_first_few(starts)}"
        )


def _first_few(index: Tensor) -> str:
    values = index[:8].tolist()
    return f"{values}{'...' if len(index) > 8 else ''}"
