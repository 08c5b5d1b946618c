"""Frame averaging: any backbone made equivariant."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from eqlib.frames.fold import LEVELS, Fold
from eqlib.frames.pca import PCAFrames, pca_frames
from eqlib.symmetry import (
    BatchIndex,
    EdgeIndex,
    Point,
    Representation,
    Scalar,
    Signature,
    Vector,
    as_group,
)
from eqlib.symmetry.arguments import results_by_name
from eqlib.symmetry.group import Group

# Graph structure and masks are understood under these names, in the signature or not.
_STRUCTURE: Mapping[str, Representation] = {
    "mask": Scalar(),
    "batch": BatchIndex(),
    "edge_index": EdgeIndex(),
}


class FrameAverage(nn.Module):
    r"""Average of a backbone over the principal frames of its input, which makes it equivariant.

    .. math::
        \langle \Phi \rangle(x) = \frac{1}{|F(x)|} \sum_{g \in F(x)}
        \rho_{out}(g)\, \Phi\bigl(\rho_{in}(g)^{-1} x\bigr)

    The backbone runs once, on a batch in which each cloud stands once per frame: 2^d times under
    O and E, 2^(d-1) times under SO and SE.

    * Dense batches, points (*batch, nodes, d): the backbone gets (frames * batch, nodes, d).
      A ``mask`` (*batch, nodes) is copied along; what it excludes is zero in all frames, and the
      backbone has to heed it.
    * Ragged batches, points (nodes, d) with ``batch`` and, best, ``num_graphs``: the backbone gets
      (frames * nodes, d), with ``batch`` and ``edge_index`` numbered on from copy to copy, and
      ``frames * num_graphs``. A single graph with an ``edge_index`` needs no ``batch``.

    Args:
        backbone: module or function that takes the inputs by name (a sole input of the signature
            by position), and returns a tensor, or a dict or a NamedTuple of tensors.
        group: such as ``"SE(3)"``; by default that of ``signature``, else SE(3).
        signature: representation of every tensor that the backbone takes and returns; by default
            one input ``points`` and one output, both points.
        cloud: name of the input whose frames are taken; by default the first that is a
            :class:`~eqlib.symmetry.Point`, else a :class:`~eqlib.symmetry.Vector`.
        levels: "node", "edge" or "graph" for inputs and outputs of ragged batches, by name (a
            single output is "output"): what their rows are. By default nodes; scalars need none.
        chunk: number of frames per call of the backbone, which bounds its memory; by default all.
        detach: treat frames as constants in the backward pass. Parameters get the right gradient,
            but gradients with respect to the inputs, such as forces, are then **wrong**.

    Raises:
        ValueError: the arguments contradict each other, or name what does not exist.

    Note:
        Exact where the gap of the frames is not zero; see :func:`pca_frames`. A backbone that mixes
        the clouds of a batch, as batch normalisation does in training, mixes frames as well.

    Source:
        Puny et al., Frame Averaging for Invariant and Equivariant Network Design, ICLR 2022.
    """

    def __init__(
        self,
        backbone: Callable[..., Any],
        group: str | Group | None = None,
        signature: Signature | None = None,
        cloud: str | None = None,
        levels: Mapping[str, str] | None = None,
        chunk: int | None = None,
        detach: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.signature = _signature(group, signature)
        self.cloud = _cloud(self.signature) if cloud is None else cloud
        self.levels = dict(levels or {})
        self.chunk = chunk
        self.detach = detach
        self._kinds = {**_STRUCTURE, **self.signature.inputs}
        self._batch = self._name_of(BatchIndex, "batch")
        self._edge_index = self._name_of(EdgeIndex, "edge_index")
        self._check_options()

    def frames(
        self,
        points: Float[Tensor, "*clouds d"],
        mask: Bool[Tensor, "*clouds"] | None = None,
        batch: Int[Tensor, "nodes"] | None = None,
        num_graphs: int | None = None,
    ) -> PCAFrames:
        """The frames that are averaged over, with their gap; see :func:`pca_frames`."""
        return pca_frames(points, self.signature.group, mask, batch, num_graphs, self.detach)

    def forward(self, *args: Any, **inputs: Any) -> Any:
        """The average of the backbone over the frames of its input.

        Args:
            args: inputs in the order of the signature.
            inputs: inputs by name: those of the signature, the structure of the batch
                (``mask``, ``batch``, ``num_graphs``, ``edge_index``), and whatever is no tensor.

        Returns:
            What the backbone returns, averaged: a tensor, or a dict or a NamedTuple of tensors.

        Raises:
            ValueError: a tensor is unknown to the signature, or a shape does not fit.
            TypeError: an argument is missing or has the wrong type.
        """
        named = self._named(args, inputs)
        fold = self._fold(named)
        copies = {
            name: fold.express(name, value, self._kinds[name], self._level(name))
            for name, value in named.items()
            if self._is_copied(name, value, fold)
        }
        size = fold.copies if self.chunk is None else self.chunk
        results = []
        for start in range(0, fold.copies, size):
            for name, copy in copies.items():
                named[name] = fold.merge(copy[start : start + size], self._kinds[name])
            if named.get("num_graphs") is not None:
                named["num_graphs"] = fold.clouds * min(size, fold.copies - start)
            results.append(self._call(named))
        return self._average(results, fold, copies[self.cloud].dtype)

    def extra_repr(self) -> str:
        """Group and options."""
        return f"group={self.signature.group!r}, chunk={self.chunk}, detach={self.detach}"

    def _name_of(self, kind: type[Representation], default: str) -> str:
        """The input of a kind, under the name that the signature gives it."""
        named = (name for name, given in self.signature.inputs.items() if isinstance(given, kind))
        return next(named, default)

    def _level(self, name: str) -> str:
        return self.levels.get(name, "node")

    def _named(self, args: tuple[Any, ...], inputs: dict[str, Any]) -> dict[str, Any]:
        """All inputs by name, checked."""
        names = list(self.signature.inputs)
        if len(args) > len(names) or any(name in inputs for name in names[: len(args)]):
            raise TypeError(
                f"inputs: got {len(args)} by position and {', '.join(inputs) or 'none'} by name; "
                f"by position they are {', '.join(names)}, all others go by name"
            )
        named = {**dict(zip(names, args, strict=False)), **inputs}
        if not isinstance(named.get(self.cloud), Tensor):
            raise TypeError(
                f"{self.cloud}: expected the tensor whose frames are taken, "
                f"got {type(named.get(self.cloud)).__name__}"
            )
        for name, value in named.items():
            if not isinstance(value, Tensor):
                continue
            if name not in self._kinds:
                raise ValueError(
                    f"{name}: the signature does not say how this tensor transforms; add it to the "
                    f"inputs, such as {{{name!r}: Scalar()}}"
                )
            if not isinstance(self._kinds[name], BatchIndex):  # whose check reads the entries
                self._kinds[name].validate(name, value, self.signature.group)
        return named

    def _fold(self, named: dict[str, Any]) -> Fold:
        points = named[self.cloud]
        batch, edge_index = named.get(self._batch), named.get(self._edge_index)
        mask = named.get("mask")
        frames = self.frames(points, mask, batch, named.get("num_graphs"))
        one_graph = edge_index is not None and points.ndim == 2
        nodes = len(points) if batch is not None or one_graph else None
        return Fold(frames, nodes, batch, edge_index, mask)

    def _is_copied(self, name: str, value: Any, fold: Fold) -> bool:
        """Whether an input has one copy per frame: edges that dense clouds share have not."""
        if not isinstance(value, Tensor):
            return False
        shared = fold.nodes is None and value.ndim == 2
        return not (shared and isinstance(self._kinds[name], EdgeIndex))

    def _call(self, named: dict[str, Any]) -> Any:
        if len(self.signature.inputs) > 1:
            return self.backbone(**named)
        others = {name: value for name, value in named.items() if name != self.cloud}
        return self.backbone(named[self.cloud], **others)

    def _average(self, results: list[Any], fold: Fold, dtype: torch.dtype) -> Any:
        """Average the results of all calls and return them as the backbone does."""
        parts: list[Mapping[str, Any]] = [
            results_by_name(result, self.signature) for result in results
        ]
        kinds = self.signature.named_outputs
        if set(parts[0]) != set(kinds):
            raise ValueError(
                f"outputs: the backbone returned {', '.join(parts[0]) or 'nothing'}, "
                f"but the signature has {', '.join(kinds)}"
            )
        averages = {}
        for name, kind in kinds.items():
            if not isinstance(parts[0][name], Tensor):
                found = type(parts[0][name]).__name__
                raise TypeError(f"{name}: expected a tensor from the backbone, got {found}")
            values = torch.cat([part[name] for part in parts])
            average = fold.average(name, values, kind, self._level(name))
            averages[name] = average.to(torch.promote_types(values.dtype, dtype))
        if isinstance(self.signature.outputs, Representation):
            return averages["output"]
        first = results[0]
        return type(first)(**averages) if isinstance(first, tuple) else averages

    def _check_options(self) -> None:
        inputs, outputs = self.signature.inputs, self.signature.named_outputs
        if self.cloud not in inputs:
            raise ValueError(f"cloud: {self.cloud!r} is none of the inputs {', '.join(inputs)}")
        for name, level in self.levels.items():
            if name not in (*inputs, *outputs) or level not in LEVELS:
                raise ValueError(
                    f"levels: expected {', '.join(LEVELS)} for some of "
                    f"{', '.join((*inputs, *outputs))}, got {name!r}: {level!r}"
                )
        if self.chunk is not None and self.chunk < 1:
            raise ValueError(f"chunk: expected at least one frame per call, got {self.chunk}")


def _signature(group: str | Group | None, signature: Signature | None) -> Signature:
    if signature is None:
        group = as_group("SE(3)" if group is None else group)
        signature = Signature(group, inputs={"points": Point()}, outputs=Point())
    elif group is not None and _traits(as_group(group)) != _traits(signature.group):
        raise ValueError(
            f"group: {as_group(group)!r} is not that of the signature, {signature.group!r}; "
            "give one of them, or the same"
        )
    if signature.group.dimension not in (2, 3):
        raise ValueError(
            f"group: expected SO, O, SE or E in 2 or 3 dimensions, got {signature.group!r}"
        )
    return signature


def _traits(group: Group) -> tuple[int | None, bool, bool]:
    """What the frames depend on: all but permutations."""
    return group.dimension, group.reflections, group.translations


def _cloud(signature: Signature) -> str:
    for kind in (Point, Vector):
        for name, representation in signature.inputs.items():
            if representation.contains(kind):
                return name
    raise ValueError("signature: frames need an input that is a Point or a Vector; there is none")
