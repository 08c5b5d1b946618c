"""Tensors in the coordinates of frames, and back: the two halves of frame averaging."""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from eqlib.frames.pca import PCAFrames
from eqlib.geometry import gather_nodes
from eqlib.symmetry import (
    Element,
    O,
    Point,
    Pseudoscalar,
    Pseudovector,
    Representation,
    RepresentationProduct,
    Scalar,
    Vector,
)
from eqlib.symmetry.representations import Components, rotate_rows, spread

_ROTATED = (Point, Vector, Pseudovector)
_MIRRORED = (Pseudoscalar, Pseudovector)


def to_frames(
    values: Shaped[Tensor, "*shape"],
    kind: Representation,
    frames: PCAFrames,
    batch: Int[Tensor, "nodes"] | None = None,
) -> Shaped[Tensor, "frames *shape"]:
    r"""Express values in every frame of their cloud, :math:`g_k^{-1} x` for frame :math:`g_k`.

    With matrix :math:`F_k` and centroid :math:`t`, points become :math:`(x - t) F_k`, vectors
    :math:`x F_k`, pseudovectors :math:`\det(F_k)\, x F_k`, pseudoscalars :math:`\det(F_k)\, x`;
    scalars are repeated.

    Args:
        values: their first axes are the batch axes of ``frames``, or the nodes with ``batch``.
        kind: how the group acts on the values; permutations play no part here.
        frames: those of the clouds.
        batch: graph of each node of a ragged batch.

    Returns:
        One copy of the values per frame, in the dtype of ``values``.

    Raises:
        ValueError: the shapes do not fit.
        TypeError: values other than scalars are not floating-point.

    Note:
        Computed in the higher precision of values and frames, under autocast too.
    """
    component = _component(kind, values, frames)
    copies = values.expand(len(frames.signs), *values.shape)
    if isinstance(component, Scalar):
        return copies
    _check_rows(values.shape, frames, batch)
    with torch.autocast(values.device.type, enabled=False):
        exact = _raised(values, frames)
        if isinstance(component, Point):
            exact = exact - spread(_per_row(frames.centroid, batch), exact, own_axes=1)
        if isinstance(component, _ROTATED):
            rotated = rotate_rows(_per_row(frames.axes, batch).mT, exact)
            exact = rotated * _columns(frames.signs, rotated)
        elif not isinstance(component, Pseudoscalar):
            exact = _act(component, _per_row(frames.frames, batch).mT, copies.to(exact.dtype))
        if isinstance(component, _MIRRORED):
            exact = exact * _handedness(frames, batch, values.ndim)
    return exact.to(values.dtype)


def from_frames(
    values: Float[Tensor, "frames *shape"],
    kind: Representation,
    frames: PCAFrames,
    batch: Int[Tensor, "nodes"] | None = None,
) -> Float[Tensor, "*shape"]:
    r"""Bring values in frames back and average, :math:`\frac1{|F|} \sum_k g_k y_k`.

    The inverse of :func:`to_frames` in each frame, followed by the mean over frames.

    Args:
        values: one copy per frame, then the axes as in :func:`to_frames`.
        kind: how the group acts on the values; permutations play no part here.
        frames: those of the clouds.
        batch: graph of each node of a ragged batch.

    Returns:
        The average, in the higher precision of ``values`` and ``frames``.

    Raises:
        ValueError: the shapes do not fit.
        TypeError: ``values`` is not floating-point.
    """
    if values.ndim == 0 or len(values) != len(frames.signs):
        raise ValueError(
            f"values: expected one copy for each of the {len(frames.signs)} frames, "
            f"got shape {tuple(values.shape)}"
        )
    if not values.is_floating_point():
        raise TypeError(f"values: expected floating-point numbers to average, got {values.dtype}")
    component = _component(kind, values, frames)
    exact = _raised(values, frames)
    if isinstance(component, Scalar):
        return exact.mean(0)
    _check_rows(values.shape[1:], frames, batch)
    with torch.autocast(values.device.type, enabled=False):
        if isinstance(component, _MIRRORED):
            exact = exact * _handedness(frames, batch, values.ndim - 1)
        if isinstance(component, _ROTATED):
            mean = (exact * _columns(frames.signs, exact[0])).mean(0)
            exact = rotate_rows(_per_row(frames.axes, batch), mean)
        elif isinstance(component, Pseudoscalar):
            exact = exact.mean(0)
        else:
            exact = _act(component, _per_row(frames.frames, batch), exact).mean(0)
        if isinstance(component, Point):
            exact = exact + spread(_per_row(frames.centroid, batch), exact, own_axes=1)
    return exact


def _component(kind: Representation, values: Tensor, frames: PCAFrames) -> Components:
    """What acts on the components of the values."""
    factors = kind.factors if isinstance(kind, RepresentationProduct) else (kind,)
    found = next((factor for factor in factors if isinstance(factor, Components)), Scalar())
    found.validate("values", values, O(frames.frames.shape[-1]))
    return found


def _check_rows(shape: torch.Size, frames: PCAFrames, batch: Tensor | None) -> None:
    expected = frames.gap.shape if batch is None else batch.shape
    if shape[: len(expected)] != expected:
        source = "the batch of the frames" if batch is None else "one row per entry of batch"
        raise ValueError(
            f"values: expected shape ({', '.join(map(str, expected))}, ...), {source}, "
            f"got {tuple(shape)}"
        )


def _per_row(part: Tensor, batch: Tensor | None) -> Tensor:
    return part if batch is None else gather_nodes(part, batch)


def _raised(values: Tensor, frames: PCAFrames) -> Tensor:
    return values.to(torch.promote_types(values.dtype, frames.frames.dtype))


def _columns(signs: Float[Tensor, "frames d"], values: Tensor) -> Tensor:
    """Signs, broadcast over one copy of the values per frame."""
    return signs.reshape(len(signs), *(1 for _ in values.shape[:-1]), signs.shape[-1])


def _handedness(frames: PCAFrames, batch: Tensor | None, axes: int) -> Tensor:
    """Determinant of each frame per row of values, broadcast over their other axes."""
    first = _per_row(torch.linalg.det(frames.axes.detach()).sign(), batch)
    each = torch.tensordot(frames.signs.prod(-1), first, dims=0)
    return each.reshape(*each.shape, *(1 for _ in range(axes - first.ndim)))


def _act(component: Components, rotations: Tensor, copies: Tensor) -> Tensor:
    """Apply the matrices (*rows, frames, d, d) to one copy (frames, *rows, ...) each."""
    rows = rotations.ndim - 3
    moved = component.act(Element(matrix=rotations), copies.movedim(0, rows))
    return moved.movedim(rows, 0)
