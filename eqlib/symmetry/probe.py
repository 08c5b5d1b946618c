"""Calling a map on transformed inputs and comparing its outputs."""

from collections.abc import Callable, Mapping
from math import inf

import torch
from torch import Tensor

from eqlib.geometry import segment_mean
from eqlib.symmetry.arguments import (
    Represented,
    count_nodes,
    represented_outputs,
    results_by_name,
)
from eqlib.symmetry.elements import Element
from eqlib.symmetry.nodes import BatchIndex
from eqlib.symmetry.representations import Point, Representation
from eqlib.symmetry.signature import Signature


class Probe:
    """A map with its inputs, and the outputs that those of transformed inputs are compared with.

    The group acts in float64 on the CPU, so that a check adds no error but the rounding of the
    transformed inputs. Each call gets copies of the tensors, so that a map may write to them.

    Args:
        fn: the map, which takes the inputs by name.
        inputs: tensors by name, and whatever else ``fn`` takes.
        tensors: those of the inputs on which the group acts, with their representations.
        signature: group and representations.

    Raises:
        ValueError: the outputs do not fit the signature.
        TypeError: the outputs have the wrong type.
    """

    def __init__(
        self,
        fn: Callable[..., object],
        inputs: Mapping[str, object],
        tensors: Mapping[str, Represented],
        signature: Signature,
    ) -> None:
        self.fn, self.inputs, self.tensors, self.signature = fn, inputs, tensors, signature
        results = self._results(Element())
        outputs = represented_outputs(results, signature)
        nodes = count_nodes({**tensors, **outputs}) if signature.group.permutations else None
        self.batch = _graph_of_nodes(tensors, nodes)
        self.unchecked = tuple(name for name in results if name not in outputs)
        self.dtype = _least_precise([t for t, _ in (*tensors.values(), *outputs.values())])
        self.radius = self._radius()
        self.expected = {name: (_exact(t).clone(), r) for name, (t, r) in outputs.items()}
        self.scales = {name: self._scale(t, r) for name, (t, r) in self.expected.items()}

    def errors(self, element: Element) -> dict[str, float]:
        """The relative error of each output under one group element."""
        outputs = represented_outputs(self._results(element), self.signature)
        errors = {}
        for name, (reference, representation) in self.expected.items():
            actual, expected = _exact(outputs[name][0]), representation.act(element, reference)
            if actual.shape != expected.shape:
                raise ValueError(
                    f"output {name!r}: expected one shape under all group elements, "
                    f"got {tuple(expected.shape)} and {tuple(actual.shape)}"
                )
            difference = (actual - expected).abs().flatten()
            finite = bool(difference.isfinite().all())
            worst = float(difference.max()) if len(difference) else 0.0
            errors[name] = worst / self.scales[name] if finite else inf
        return errors

    def _results(self, element: Element) -> Mapping[str, object]:
        moved = {}
        for name, (tensor, representation) in self.tensors.items():
            result = representation.act(element, tensor.detach().cpu())
            copied = result.to(tensor.device, copy=True)
            moved[name] = copied.requires_grad_(tensor.requires_grad)
        return results_by_name(self.fn(**{**self.inputs, **moved}), self.signature)

    def _radius(self) -> float:
        """Largest distance of an input point from the centroid of its cloud."""
        clouds = (
            self._centred(_exact(t), r) for t, r in self.tensors.values() if r.contains(Point)
        )
        return max((_largest(cloud.norm(dim=-1)) for cloud in clouds), default=0.0)

    def _scale(self, output: Tensor, representation: Representation) -> float:
        """What the errors of an output are divided by."""
        scale = _largest(output)
        if representation.contains(Point):
            scale = max(self.radius, _largest(self._centred(output, representation)))
        return scale if 0 < scale < inf else 1.0

    def _centred(self, points: Tensor, representation: Representation) -> Tensor:
        """Points relative to the centroid of their cloud, in any order."""
        axes = representation.node_axes or tuple(range(points.ndim - 1))
        if points.numel() == 0 or not axes:
            return torch.zeros_like(points)
        if len(axes) > 1 or self.batch is None or points.shape[axes[0]] != len(self.batch):
            return points - points.mean(axes, keepdim=True)
        rows = points.movedim(axes[0], 0)
        return rows - segment_mean(rows, self.batch, int(self.batch[-1]) + 1)[self.batch]


def _graph_of_nodes(tensors: Mapping[str, Represented], nodes: int | None) -> Tensor | None:
    """Graph of each node: as given, or a single graph."""
    for tensor, representation in tensors.values():
        if representation.contains(BatchIndex):
            return tensor.cpu().long()
    return None if nodes is None else torch.zeros(nodes, dtype=torch.int64, device="cpu")


def _exact(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().double()


def _largest(tensor: Tensor) -> float:
    return float(tensor.abs().max()) if tensor.numel() else 0.0


def _least_precise(tensors: list[Tensor]) -> torch.dtype:
    """The floating-point type of the largest rounding; float64 if all are integers."""
    types = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
    return max(types, key=lambda dtype: torch.finfo(dtype).eps, default=torch.float64)
