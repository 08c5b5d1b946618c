"""Calling a map on transformed inputs and comparing its outputs."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from math import inf

import torch
from torch import Tensor

from eqlib.geometry import segment_mean
from eqlib.symmetry.arguments import (
    Represented,
    Structured,
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
    transformed inputs. Each call gets copies of what the group acts on, so that a map may write to
    it.

    Args:
        fn: the map, which takes the inputs by name.
        inputs: tensors by name, and whatever else ``fn`` takes.
        tensors: those of the inputs on which the group acts, with their representations.
        structures: the same of inputs that are no tensors.
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
        structures: Mapping[str, Structured],
        signature: Signature,
    ) -> None:
        self.fn, self.inputs, self.signature = fn, inputs, signature
        self.tensors, self.structures = tensors, structures
        self.optional = [name for name in signature.inputs if inputs.get(name) is None]
        results = self._results(tensors, structures)
        outputs = represented_outputs(results, signature, self.optional)
        nodes = None
        if signature.group.permutations:
            nodes = count_nodes({**tensors, **outputs}, structures)
        self.batch = _graph_of_nodes(tensors, structures, nodes)
        given = (name for name, value in results.items() if value is not None)
        self.unchecked = tuple(name for name in given if name not in outputs)
        self.dtype = _least_precise([t for t, _ in (*tensors.values(), *outputs.values())])
        self.radius = self._radius(tensors)
        self.expected = {name: (_exact(t).clone(), r) for name, (t, r) in outputs.items()}
        self.scales = self._scales(self.expected, self.radius)

    def errors(self, element: Element) -> dict[str, float]:
        """The relative error of each output under one group element."""
        moved = {
            name: (representation.act(element, tensor.detach().cpu()), representation)
            for name, (tensor, representation) in self.tensors.items()
        }
        relabelled = {
            name: (structure.act(element, value), structure)
            for name, (value, structure) in self.structures.items()
        }
        results = self._results(moved, relabelled)
        outputs = represented_outputs(results, self.signature, self.optional)
        expected = {
            name: (r.act(element, tensor), r) for name, (tensor, r) in self.expected.items()
        }
        scales = self.scales
        if self.signature.group.preserves != "lengths":
            scales = self._scales(expected, self._radius(moved))
        errors = {}
        for name, (right, _) in expected.items():
            actual = _exact(outputs[name][0])
            if actual.shape != right.shape:
                raise ValueError(
                    f"output {name!r}: expected one shape under all group elements, "
                    f"got {tuple(right.shape)} and {tuple(actual.shape)}"
                )
            difference = (actual - right).abs().flatten()
            finite = bool(difference.isfinite().all())
            worst = float(difference.max()) if len(difference) else 0.0
            errors[name] = worst / scales[name] if finite else inf
        return errors

    def _results(
        self, tensors: Mapping[str, Represented], structures: Mapping[str, Structured]
    ) -> Mapping[str, object]:
        copies = {name: deepcopy(value) for name, (value, _) in structures.items()}
        for name, (tensor, _) in tensors.items():
            original = self.tensors[name][0]
            copy = tensor.detach().to(original.device, copy=True)
            copies[name] = copy.requires_grad_(original.requires_grad)
        return results_by_name(self.fn(**{**self.inputs, **copies}), self.signature)

    def _radius(self, tensors: Mapping[str, Represented]) -> float:
        """Largest distance of an input point from the centroid of its cloud."""
        clouds = (self._centred(_exact(t), r) for t, r in tensors.values() if r.contains(Point))
        return max((_largest(cloud.norm(dim=-1)) for cloud in clouds), default=0.0)

    def _scales(self, outputs: Mapping[str, Represented], radius: float) -> dict[str, float]:
        """What the errors of each output are divided by."""
        scales = {}
        for name, (output, representation) in outputs.items():
            scale = _largest(output)
            if representation.contains(Point):
                scale = max(radius, _largest(self._centred(output, representation)))
            scales[name] = scale if 0 < scale < inf else 1.0
        return scales

    def _centred(self, points: Tensor, representation: Representation) -> Tensor:
        """Points relative to the centroid of their cloud, in any order."""
        axes = representation.node_axes or tuple(range(points.ndim - 1))
        if points.numel() == 0 or not axes:
            return torch.zeros_like(points)
        if len(axes) > 1 or self.batch is None or points.shape[axes[0]] != len(self.batch):
            return points - points.mean(axes, keepdim=True)
        rows = points.movedim(axes[0], 0)
        return rows - segment_mean(rows, self.batch, int(self.batch[-1]) + 1)[self.batch]


def _graph_of_nodes(
    tensors: Mapping[str, Represented], structures: Mapping[str, Structured], nodes: int | None
) -> Tensor | None:
    """Graph of each node: as given, or a single graph."""
    for tensor, representation in tensors.values():
        if representation.contains(BatchIndex):
            return tensor.cpu().long()
    for value, structure in structures.values():
        return structure.batch_of(value).cpu().long()
    return None if nodes is None else torch.zeros(nodes, dtype=torch.int64, device="cpu")


def _exact(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().double()


def _largest(tensor: Tensor) -> float:
    return float(tensor.abs().max()) if tensor.numel() else 0.0


def _least_precise(tensors: list[Tensor]) -> torch.dtype:
    """The floating-point type of the largest rounding; float64 if all are integers."""
    types = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
    return max(types, key=lambda dtype: torch.finfo(dtype).eps, default=torch.float64)
