"""Local frames: one for the patch around every point of a cloud."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from eqlib.frames.average import FrameAverage
from eqlib.frames.constructions.pca import moving_factor
from eqlib.frames.dispatch import FrameFunction, frame_function
from eqlib.frames.local.patches import (
    Patches,
    check_clouds,
    gather_patches,
    nearest_patches,
    patches_of_edges,
)
from eqlib.frames.sampling import Draws
from eqlib.frames.types import Frames, RaggedFrames
from eqlib.symmetry import (
    SO,
    Axial,
    BatchIndex,
    O,
    Point,
    Representation,
    RepresentationProduct,
    Scalar,
    Signature,
    Vector,
    as_group,
)
from eqlib.symmetry.arguments import results_by_name
from eqlib.symmetry.euclidean import EuclideanGroup
from eqlib.symmetry.group import Group
from eqlib.symmetry.representations import Components, spread

Origin = Literal["point", "centroid"]
Neighbours = Int[Tensor, "2 edges"] | Patches

_STRUCTURE = ("neighbours", "mask", "batch", "num_graphs")


def local_frames(
    points: Float[Tensor, "*clouds d"],
    k: int = 20,
    group: str | Group = "SO(3)",
    origin: Origin = "point",
    neighbours: Neighbours | None = None,
    mask: Bool[Tensor, "*clouds"] | None = None,
    batch: Int[Tensor, "nodes"] | None = None,
    num_graphs: int | None = None,
    detach: bool = False,
    mode: str | FrameFunction = "full",
    frame_options: Mapping[str, Any] | None = None,
) -> Frames | RaggedFrames:
    r"""Frames of the patch around each point, of its k nearest points.

    In the mode "full" the axes at point i are the eigenvectors of
    :math:`\sum_{j \in N(i)} (x_j - t_i)(x_j - t_i)^\top`, with all signs for groups with
    reflections and the right-handed ones for others, as in :func:`pca_frames`. The origin
    :math:`t_i` is :math:`x_i` or the centroid of the patch; either moves with the cloud, so that
    :math:`F_i(R X + s) = R\,F_i(X)` for all rigid motions, for the groups SO and O as well.

    Args:
        points: clouds in any unit of length: a dense batch, or with ``batch`` a ragged one.
        k: number of points of a patch, the point itself counted; smaller clouds give all.
        group: a name, or a group of isometries, its translations immaterial. With a fixed axis, as
            in "SE(3) about z", frames turn about it only.
        origin: "point" or "centroid", that of the patch.
        neighbours: the patches, instead of the k nearest points: edges, whose sources are the
            neighbours of their targets, or :class:`Patches`. The clouds of a dense batch share
            edges. A point is in its own patch only where it is among its neighbours.
        mask: True where a point of a dense batch exists; the others may hold anything, NaN too.
        batch: graph of each node of a ragged batch, sorted.
        num_graphs: number of graphs of a ragged batch.
        detach: treat the frames as constants in the backward pass; gradients with respect to
            ``points`` are then **wrong**.
        mode: as in :class:`FrameAverage`: "weighted" frames do not jump at patches without gap.
        frame_options: further arguments of the function that makes the frames.

    Returns:
        Frames with the batch axes (*batch, points) or (nodes,), their origins and their gaps, in
        the dtype of ``points``, at least float32.

    Raises:
        ValueError: shapes do not fit, or ``origin`` is none of the two.
        TypeError: ``points``, ``mask`` or ``batch`` has the wrong dtype.

    Note:
        Exact where the gap is not zero and no tie decides which point is the k-th: a patch of a
        plane has a gap as others have, that of a lattice or of an evenly sampled surface has
        none and needs the mode "weighted". A patch of one point, or of coincident ones, has gap 0
        and coordinate axes. Where the k-th neighbour changes, frames jump in every mode. A point
        that is not finite has NaN frames, and is in no other patch. Which points are in a patch is
        not differentiated, their positions are.

    Source:
        Puny et al., Frame Averaging for Invariant and Equivariant Network Design, ICLR 2022, where
        a network sees patches of 20 points in frames of their own.
    """
    patches = _patches(points, k, neighbours, mask, batch, num_graphs)
    relative, origins = _relative(points, patches, origin, mask)
    dtype = torch.promote_types(points.dtype, torch.float32)
    function = frame_function(rotations_of(group), mode, detach, frame_options or {}, Draws(1))
    return function(relative.to(dtype))._replace(centroid=origins.to(dtype))


class LocalFrameAverage(nn.Module):
    r"""Average of a network on patches over the local frames of each point.

    .. math::
        \Phi_i(x) = \frac{1}{|F_i|} \sum_{g \in F_i}
        \rho_{out}(g)\, \phi\bigl(\rho_{in}(g)^{-1} x_{N(i)}\bigr)

    Each point collects its patch, the network maps the patch, in each frame of the point, to the
    outputs of this point, and these are brought back and averaged. The network runs once: it gets
    positions relative to the origin of the frame, (frames * points, k, d), other inputs collected
    in the same way, (frames * points, k, ...), and returns (frames * points, ...). In clouds of
    fewer than k points the missing slots hold the origin of the frame, and the other inputs of the
    point itself.

    Args:
        backbone: module or function that takes the inputs by name (a sole input of the signature
            by position), and returns a tensor, or a dict or a NamedTuple of tensors.
        group: such as ``"SE(3)"``; by default that of ``signature``, else SE(3). Translations are
            always among what the outputs follow.
        k: number of points of a patch, the point itself counted.
        signature: representation of every tensor per point, in and out; by default one input
            ``points`` and one vector per point. The first :class:`~eqlib.symmetry.Point` is what
            patches and frames are taken of.
        origin: "point" or "centroid", that of the patch.
        mode: of training, as in :class:`FrameAverage`.
        eval_mode: of evaluation, as in :class:`FrameAverage`.
        chunk: as in :class:`FrameAverage`, where a patch is a cloud.
        detach: treat frames as constants in the backward pass. Gradients with respect to the
            inputs, such as forces, are then **wrong**.
        samples: number of frames drawn for each point in the mode "stochastic".
        generator: source of these draws.
        frame_options: further arguments of the functions that make the frames.

    Raises:
        ValueError: the arguments contradict each other, or name what does not exist.

    Note:
        Exact where the frames are; see :func:`local_frames`. Features that are invariant in each
        patch see the shape of each patch but not how patches lie to one another.

    Source:
        Puny et al., Frame Averaging for Invariant and Equivariant Network Design, ICLR 2022.
    """

    def __init__(
        self,
        backbone: Callable[..., Any],
        group: str | Group | None = None,
        k: int = 20,
        signature: Signature | None = None,
        origin: Origin = "point",
        mode: str | FrameFunction = "full",
        eval_mode: str | FrameFunction | None = None,
        chunk: int | None = None,
        detach: bool = False,
        samples: int = 1,
        generator: torch.Generator | None = None,
        frame_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        signature = signature_of(group, signature, Vector())
        self.signature, self.k, self.origin = signature, _at_least_one(k), _known(origin)
        self.average = FrameAverage(
            backbone,
            None,
            mode,
            eval_mode,
            _of_patches(signature),
            chunk=chunk,
            detach=detach,
            samples=samples,
            generator=generator,
            frame_options=frame_options,
        )
        self.cloud = str(self.average.cloud)

    @property
    def backbone(self) -> Callable[..., Any]:
        """What runs on the patches."""
        return self.average.backbone

    def frames(
        self,
        points: Float[Tensor, "*clouds d"],
        mask: Bool[Tensor, "*clouds"] | None = None,
        batch: Int[Tensor, "nodes"] | None = None,
        num_graphs: int | None = None,
        neighbours: Neighbours | None = None,
    ) -> Frames | RaggedFrames:
        """The frames of each point, with their gap.

        Args:
            points: as in :func:`local_frames`.
            mask: as in :func:`local_frames`.
            batch: as in :func:`local_frames`.
            num_graphs: as in :func:`local_frames`.
            neighbours: as in :func:`local_frames`.

        Returns:
            Those of training or of evaluation, whichever the module is in.
        """
        patches = _patches(points, self.k, neighbours, mask, batch, num_graphs)
        relative, origins = _relative(points, patches, self.origin, mask)
        dtype = torch.promote_types(points.dtype, torch.float32)
        return self.average.frames(relative.to(dtype))._replace(centroid=origins.to(dtype))

    def forward(self, *args: Any, **inputs: Any) -> Any:
        """The outputs at each point.

        Args:
            args: inputs in the order of the signature.
            inputs: inputs by name, and the structure of the batch: ``mask`` of a dense batch,
                ``batch`` and ``num_graphs`` of a ragged one, and ``neighbours`` as for
                :func:`local_frames`.

        Returns:
            What the backbone returns, averaged, with one row per point: a tensor, or a dict or a
            NamedTuple of tensors. Points that the mask excludes get zero.

        Raises:
            ValueError: a shape does not fit, or an input is unknown or missing.
            TypeError: an argument has the wrong type.
        """
        named = self._named(args, inputs)
        structure = {name: named.pop(name, None) for name in _STRUCTURE}
        points, mask = named[self.cloud], structure["mask"]
        patches = _patches(points, self.k, **structure)
        relative, origins = _relative(points, patches, self.origin, mask)
        collected = {self.cloud: relative.to(points.dtype)}
        for name, kind in self.average.signature.inputs.items():
            if name != self.cloud:
                values = gather_patches(_without_padding(named.pop(name), mask), patches)
                if isinstance(kind, Point):
                    values = (values - spread(origins, values, own_axes=1)).to(values.dtype)
                collected[name] = values
        named.pop(self.cloud)
        return self._finish(self.average(**collected, **named), origins, mask)

    def extra_repr(self) -> str:
        """Group and options."""
        return f"group={self.signature.group!r}, k={self.k}, origin={self.origin!r}"

    def _named(self, args: tuple[Any, ...], inputs: dict[str, Any]) -> dict[str, Any]:
        """All inputs by name, checked."""
        names = list(self.signature.inputs)
        named = {**dict(zip(names, args, strict=False)), **inputs}
        if len(args) + len(inputs) != len(named):
            raise TypeError(
                f"inputs: got {len(args)} by position and {', '.join(inputs) or 'none'} by name; "
                f"by position they are {', '.join(names)}, all others go by name"
            )
        for name, kind in self.average.signature.inputs.items():
            if not isinstance(named.get(name), Tensor):
                found = type(named.get(name)).__name__
                raise TypeError(f"{name}: expected a tensor with a row per point, got {found}")
            kind.validate(name, named[name], self.signature.group)
        return named

    def _finish(self, result: Any, origins: Tensor, mask: Tensor | None) -> Any:
        """Move points to the origins, and clear the rows that the mask excludes."""
        signature = self.average.signature
        outputs: dict[str, Any] = dict(results_by_name(result, signature))
        for name, kind in signature.named_outputs.items():
            if isinstance(kind, Point):
                outputs[name] = outputs[name] + spread(origins, outputs[name], own_axes=1)
            outputs[name] = _without_padding(outputs[name], mask)
        if isinstance(signature.outputs, Representation):
            return outputs["output"]
        return type(result)(**outputs) if isinstance(result, tuple) else outputs


def signature_of(
    group: str | Group | None, signature: Signature | None, output: Representation
) -> Signature:
    """The signature that is given, or that of one input of points.

    Args:
        group: has to be that of the signature if both are given; by default SE(3).
        signature: representations of the inputs and outputs.
        output: the one output where there is no signature.

    Raises:
        ValueError: the groups differ.
    """
    if signature is None:
        group = as_group("SE(3)" if group is None else group)
        return Signature(group, inputs={"points": Point()}, outputs=output)
    if group is not None and as_group(group) != moving_factor(signature.group):
        raise ValueError(
            f"group: {as_group(group)!r} is not that of the signature, {signature.group!r}; "
            "give one of them, or the same"
        )
    return signature


def _patches(
    points: Tensor,
    k: int,
    neighbours: Neighbours | None = None,
    mask: Tensor | None = None,
    batch: Tensor | None = None,
    num_graphs: int | None = None,
) -> Patches:
    """The patches as given, or of the nearest points."""
    if neighbours is None:
        return nearest_patches(points, k, mask, batch, num_graphs)
    check_clouds(points, mask, batch)
    if isinstance(neighbours, Tensor):
        patches = patches_of_edges(neighbours, points.shape[-2])
        shape = (*points.shape[:-1], patches.nodes.shape[-1])
        patches = Patches(patches.nodes.expand(shape), patches.exists.expand(shape))
    else:
        patches = neighbours
    if mask is None:
        return patches
    exists = patches.exists & gather_patches(mask, patches) & mask[..., None]
    own = torch.arange(points.shape[-2], device=points.device)[:, None]
    return Patches(torch.where(exists, patches.nodes, own), exists)


def _relative(
    points: Float[Tensor, "*clouds d"], patches: Patches, origin: Origin, mask: Tensor | None
) -> tuple[Float[Tensor, "*clouds slots d"], Float[Tensor, "*clouds d"]]:
    """Points of each patch relative to its origin, zero in missing slots, and the origin."""
    points = _without_padding(points.double(), mask)
    relative = gather_patches(points, patches) - points[..., None, :]
    if _known(origin) == "point":
        return relative, points
    exists = patches.exists[..., None]
    shift = (relative * exists).sum(-2) / exists.sum(-2).clamp(min=1)
    return relative - shift[..., None, :] * exists, points + shift


def _without_padding(values: Tensor, mask: Tensor | None) -> Tensor:
    """Clear the rows of points that do not exist."""
    return values if mask is None else torch.where(spread(mask, values, own_axes=0), values, 0)


def rotations_of(group: str | Group) -> Group:
    """The group without its translations and permutations."""
    moving = moving_factor(as_group(group))
    if isinstance(moving, Axial):
        return replace(moving, translations=False)
    if not isinstance(moving, EuclideanGroup):
        raise ValueError(f"group: expected one of isometries, such as SE(3), got {group!r}")
    return (O if moving.reflections else SO)(moving.dimension)


def _of_patches(signature: Signature) -> Signature:
    """The signature of the network on patches, whose origin is the one point that stays."""
    inputs = {
        name: components_of(kind)
        for name, kind in signature.inputs.items()
        if not kind.contains(BatchIndex) and name not in _STRUCTURE
    }
    outputs = signature.outputs
    if isinstance(outputs, Mapping):
        return Signature(
            rotations_of(signature.group),
            inputs,
            {name: components_of(kind) for name, kind in outputs.items()},
        )
    return Signature(rotations_of(signature.group), inputs, components_of(outputs))


def components_of(kind: Representation) -> Components:
    """What acts on the components, without the order of the nodes."""
    factors = kind.factors if isinstance(kind, RepresentationProduct) else (kind,)
    return next((factor for factor in factors if isinstance(factor, Components)), Scalar())


def _known(origin: Origin) -> Origin:
    if origin not in ("point", "centroid"):
        raise ValueError(f"origin: expected 'point' or 'centroid', got {origin!r}")
    return origin


def _at_least_one(k: int) -> int:
    if k < 1:
        raise ValueError(f"k: expected at least one point in a patch, got {k}")
    return k
