"""How permutations act: on axes of nodes, and on integer graph structure."""

from dataclasses import dataclass

import torch
from torch import Tensor

from eqlib.symmetry.elements import Element
from eqlib.symmetry.group import Group
from eqlib.symmetry.representations import Representation


@dataclass(frozen=True, init=False, repr=False)
class NodeOrder(Representation):
    """One or more axes of a tensor that permutations act on.

    ``NodeOrder(-2)`` suits node features (..., nodes, channels), dense or ragged;
    ``NodeOrder(-2, -1)`` suits adjacency matrices.

    Args:
        axes: axes of the nodes, negative ones counted from the end.

    Raises:
        ValueError: no axis is given, or one is given twice.
        TypeError: an axis is not an integer.
    """

    node_axes: tuple[int, ...]

    def __init__(self, *axes: int) -> None:
        if not all(isinstance(axis, int) for axis in axes):
            raise TypeError(f"axes: expected integers, got {axes}")
        if not axes or len(set(axes)) < len(axes):
            raise ValueError(f"axes: expected different axes such as NodeOrder(-2), got {axes}")
        object.__setattr__(self, "node_axes", axes)

    def __repr__(self) -> str:
        return f"NodeOrder({', '.join(map(str, self.node_axes))})"

    def act(self, element: Element, tensor: Tensor) -> Tensor:
        r"""The tensor whose slot :math:`\sigma(i)` holds node :math:`i`, along each axis."""
        if element.permutation is None:
            return tensor
        source = element.permutation.argsort(dim=-1).to(tensor.device)
        for axis in self.node_axes:
            axis %= tensor.ndim
            _require_nodes(source, tensor.shape[axis])
            shape = [*source.shape[:-1], *(1 for _ in tensor.shape[source.ndim - 1 :])]
            shape[axis] = source.shape[-1]
            tensor = torch.take_along_dim(tensor, source.reshape(shape), dim=axis)
        return tensor

    def validate(self, name: str, tensor: Tensor, group: Group) -> None:
        """Refuse a tensor that lacks one of the axes."""
        for axis in self.node_axes:
            if not -tensor.ndim <= axis < tensor.ndim:
                raise ValueError(
                    f"{name}: shape {tuple(tensor.shape)} has no axis {axis}, which {self!r} names"
                )
        if len({axis % tensor.ndim for axis in self.node_axes}) < len(self.node_axes):
            raise ValueError(
                f"{name}: {self!r} names one axis of shape {tuple(tensor.shape)} twice"
            )


@dataclass(frozen=True)
class EdgeIndex(Representation):
    """Node indices, such as an ``edge_index`` (2, edges): permutations relabel the nodes.

    The order of the edges stays, so edge features need no representation of permutations.
    """

    def act(self, element: Element, tensor: Tensor) -> Tensor:
        r"""The indices :math:`\sigma(i)`."""
        if element.permutation is None:
            return tensor
        permutation = element.permutation.to(tensor.device)
        rows = tensor.reshape(*permutation.shape[:-1], -1).long()
        nodes = permutation.shape[-1]
        if rows.numel() and not 0 <= rows.min() <= rows.max() < nodes:
            raise ValueError(
                f"tensor: node indices must lie in 0 ... {nodes - 1}, "
                f"got {int(rows.min())} ... {int(rows.max())}"
            )
        relabelled = torch.take_along_dim(permutation, rows, dim=-1)
        return relabelled.reshape(tensor.shape).to(tensor.dtype)

    def validate(self, name: str, tensor: Tensor, group: Group) -> None:
        """Refuse all but integers."""
        _require_integers(name, tensor)


@dataclass(frozen=True)
class BatchIndex(Representation):
    """The graph of each node, (nodes,) and sorted; permutations keep each node in its graph."""

    node_axes = (-1,)

    def act(self, element: Element, tensor: Tensor) -> Tensor:
        """The graph of the node that is now in each slot."""
        return NodeOrder(-1).act(element, tensor)

    def validate(self, name: str, tensor: Tensor, group: Group) -> None:
        """Refuse all but a sorted vector of integers."""
        _require_integers(name, tensor)
        if tensor.ndim != 1:
            raise ValueError(f"{name}: expected shape (nodes,), got {tuple(tensor.shape)}")
        if bool((tensor.diff() < 0).any()):
            raise ValueError(
                f"{name}: expected sorted graph indices, so that the nodes of a graph stand "
                "together; reorder the nodes by .argsort(stable=True) of these"
            )


def _require_integers(name: str, tensor: Tensor) -> None:
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name}: expected integers, got {tensor.dtype}; convert with .long()")


def _require_nodes(permutation: Tensor, nodes: int) -> None:
    if permutation.shape[-1] != nodes:
        raise ValueError(
            f"tensor: has {nodes} nodes, but the permutation acts on {permutation.shape[-1]}"
        )
