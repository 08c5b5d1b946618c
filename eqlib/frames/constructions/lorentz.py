"""Frames of clouds in spacetime, under the Lorentz group."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eqlib.frames.constructions.axes import guard_of, sign_choices
from eqlib.frames.constructions.whitening import whiten
from eqlib.frames.types import Frames
from eqlib.geometry import symmetric_eigh
from eqlib.symmetry import Lorentz, as_group
from eqlib.symmetry.group import Group, moving_factor


def lorentz_frames(
    points: Float[Tensor, "*clouds d"],
    group: str | Group | None = None,
    mask: Bool[Tensor, "*clouds"] | None = None,
    batch: Int[Tensor, "nodes"] | None = None,
    num_graphs: int | None = None,
    orthochronous: bool = False,
    detach: bool = False,
) -> Frames:
    r"""Frames of clouds of d-vectors under O(1, d-1), which has time as component 0.

    The axes are the vectors :math:`u` with :math:`S \eta\, u = \lambda u`, where :math:`\eta =
    \operatorname{diag}(1, -1, \ldots, -1)` and :math:`S = \sum_i x_i x_i^\top`. With
    :math:`S = A A^\top` and the eigenvectors :math:`W` of :math:`A^\top \eta A = W \Lambda W^\top`
    they are the columns of :math:`U = A W |\Lambda|^{-1/2}`, which is a Lorentz matrix:
    :math:`U^\top \eta U = \eta`. By Sylvester's law exactly one :math:`\lambda` is positive; its
    axis is column 0. The signs of the columns run over all :math:`2^d` choices. As a set, the
    frames satisfy :math:`F(M X) = M\,F(X)` for every Lorentz matrix :math:`M`, and do not depend on
    the order of the points.

    Args:
        points: clouds of d-vectors such as momenta, in any unit: a dense batch, or with ``batch`` a
            ragged one, where a node may hold several (nodes, *channels, d).
        group: a name, or a group: Lorentz(d), which is the default, or the same orthochronous.
        mask: True where a point of a dense batch exists; the others may hold anything, NaN too.
        batch: graph of each node of a ragged batch, sorted.
        num_graphs: number of graphs of a ragged batch; by default up to the last one that has a
            node, which is read from ``batch`` (on a GPU this waits for the device).
        orthochronous: keep the :math:`2^{d-1}` frames that do not reverse time, so that a network
            can tell future from past, as with ``group="Lorentz(d, orthochronous=True)"``.
        detach: treat the frames as constants in the backward pass. Outputs keep their values, but
            their gradients with respect to ``points`` are then **wrong**.

    Returns:
        Frames with their inverses :math:`\eta U^\top \eta` and gaps, in the dtype of ``points``, at
        least float32; the centroid is zero. The gap is the smallest difference of neighbouring
        :math:`\lambda`, divided by the sum of their sizes; in two dimensions it is 1.

    Raises:
        ValueError: shapes do not fit, the group is another, or the points of a cloud lie in a
            subspace: their rank is below d. The rank is read on the host, so on a GPU this waits
            for the device. Under torch.compile and torch.export nothing is read, and such a cloud
            has NaN.
        TypeError: ``points``, ``mask`` or ``batch`` has the wrong dtype.

    Note:
        A boost by rapidity :math:`\varphi` has the condition number :math:`e^{2\varphi}`; errors
        are rounding errors times that, divided by the gap: give float64. Frames jump where two
        :math:`\lambda` cross. A cloud without points has the coordinate axes and gap 0. A
        coordinate that is not finite makes NaN of its own cloud's frames only.

    Source:
        The O(1, d-1) frame of Puny et al., Frame Averaging for Invariant and Equivariant Network
        Design, ICLR 2022, here from eigenvectors, so that it does not depend on the order of the
        points.
    """
    lorentz = _lorentz(group, points.shape[-1], orthochronous)
    root, _, centroid, _, empty = whiten(points, lorentz, mask, batch, num_graphs)
    root = root / root.detach().abs().amax((-2, -1), keepdim=True)  # lest squares overflow
    metric = -torch.eye(lorentz.dimension, dtype=root.dtype, device=root.device)
    metric[0, 0] = 1
    values, vectors = symmetric_eigh(root.mT @ metric @ root, guard=guard_of(points.dtype))
    size = values.abs().sum(-1)
    gap = torch.where(empty, 0.0, values.diff(dim=-1).amin(-1) / size)
    axes = ((root @ vectors) * values.abs().rsqrt()[..., None, :]).flip(-1)
    signs = sign_choices(lorentz, axes)
    if lorentz.orthochronous:
        future = axes[..., :1, :1].detach().sign()
        axes = torch.cat([axes[..., :1] * future, axes[..., 1:]], dim=-1)
        signs = signs[signs[:, 0] > 0]
    if detach:
        axes, gap = axes.detach(), gap.detach()
    frames = axes.unsqueeze(-3) * signs.unsqueeze(-2)
    dtype = torch.promote_types(points.dtype, torch.float32)
    return Frames(
        frames=frames.to(dtype),
        centroid=centroid.to(dtype),
        gap=gap.to(dtype),
        inverse=(metric @ frames.mT @ metric).to(dtype),
        signs=signs.to(dtype),
    )


def _lorentz(group: str | Group | None, dimension: int, orthochronous: bool) -> Lorentz:
    if group is None:
        return Lorentz(dimension, orthochronous=orthochronous)
    moving = moving_factor(as_group(group))
    if not isinstance(moving, Lorentz):
        raise ValueError(f"group: expected Lorentz(n), got {as_group(group)!r}")
    if orthochronous and not moving.orthochronous:
        raise ValueError(
            f"orthochronous: {moving!r} reverses time; "
            f"give group='Lorentz({moving.dimension}, orthochronous=True)' alone"
        )
    return moving
