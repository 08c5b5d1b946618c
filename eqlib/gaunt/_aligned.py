"""The convolution in a frame in which every edge points along the polar axis."""

import torch
from torch import Tensor

from eqlib.gaunt._convolution_tables import Degrees, aligned_blocks
from eqlib.geometry import safe_direction, segment_sum
from eqlib.harmonics import wigner_d


def aligned_convolution(
    x: Tensor,
    vectors: Tensor,
    radial: Tensor,
    edge_index: Tensor,
    num_nodes: int,
    degrees: Degrees,
) -> Tensor:
    r"""Sum over edges of the products of features with a filter, rotated there and back.

    With a rotation D that takes the polar axis to the edge,

    .. math:: x \otimes h = D \bigl( (D^T x) \otimes (D^T h) \bigr), \qquad
        (D^T h)_{lm} = \delta_{m0} \sqrt{(2l+1)/4\pi}\; R_l,

    and a filter with m = 0 alone changes no order m of the features.

    Args:
        x: features, (nodes, parities, (L1+1)^2, channels).
        vectors: of the edges.
        radial: (edges, parities, L2+1, channels): of the even paths, then of the odd ones.
        edge_index: source and target of each edge.
        num_nodes: number of target nodes.
        degrees: the largest ones of features, filter and result.

    Returns:
        (num_nodes, parities, (L3+1)^2, channels).
    """
    lmax1, _, lmax3 = degrees
    source, target = edge_index
    matrices = wigner_d(_frames(vectors), max(lmax1, lmax3))
    # At zero length there is no direction, and the filter has degree 0 alone.
    nonzero = (vectors != 0).any(-1)[:, None, None]
    radial = torch.cat([radial[:, :, :1], radial[:, :, 1:] * nonzero[..., None]], dim=2)
    matrices = [matrix.to(x.dtype) for matrix in matrices]
    sources = _rotate(x.index_select(0, source), [matrix.mT for matrix in matrices[: lmax1 + 1]])
    messages = _couple(sources, radial[:, 0], degrees, odd=False)
    if x.shape[1] == 2:
        messages = messages + _couple(sources.flip(1), radial[:, 1], degrees, odd=True)
    return segment_sum(_rotate(messages, matrices[: lmax3 + 1]), target, num_nodes)


def _frames(vectors: Tensor) -> Tensor:
    """Return rotations that take the y axis to the direction of each vector.

    On the upper half sphere it is the shortest one, on the lower one the same after half a turn
    about x. They jump at the equator, which changes nothing: rotations about the edge cancel.
    """
    unit = safe_direction(vectors)
    x, y, z = unit.unbind(-1)
    y = torch.where((unit == 0).all(-1), 1.0, y)
    sign = torch.where(y < 0, -1.0, 1.0).to(unit.dtype)
    y, z = sign * y, sign * z
    scale = 1 / (1 + y)
    rows = [
        torch.stack([1 - x * x * scale, x, -x * z * scale], -1),
        torch.stack([-x, y, -z], -1) * sign[..., None],
        torch.stack([-x * z * scale, z, 1 - z * z * scale], -1) * sign[..., None],
    ]
    return torch.stack(rows, -2)


def _rotate(features: Tensor, matrices: list[Tensor]) -> Tensor:
    parts = features.split([matrix.shape[-1] for matrix in matrices], dim=-2)
    return torch.cat([D[:, None] @ part for D, part in zip(matrices, parts, strict=True)], dim=-2)


def _couple(x: Tensor, radial: Tensor, degrees: Degrees, odd: bool) -> Tensor:
    """Multiply features with a filter along the polar axis, order by order."""
    edges, copies, _, channels = x.shape
    lmax1, _, lmax3 = degrees
    parts, places = [], []
    for order, block in enumerate(aligned_blocks(degrees, odd, x.dtype, x.device)):
        if odd and order == 0:
            continue
        # the components of orders -m and m, or of 0 alone
        signs = torch.tensor([-order, order] if order else [0])
        first, out = (torch.arange(order, lmax + 1) for lmax in (lmax1, lmax3))
        rows = ((first * (first + 1))[:, None] + signs).to(x.device)
        inputs = x[:, :, rows]  # (edges, copies, degrees in, signs, channels)
        if odd:
            inputs = inputs.flip(3) * inputs.new_tensor([1.0, -1.0])[:, None]
        weights = (block.flatten(0, 1) @ radial).unflatten(1, (-1, len(first)))
        total = x.new_zeros(edges, copies, len(out), len(signs), channels)
        for index in range(len(first)):
            total = total + weights[:, None, :, index, None] * inputs[:, :, None, index]
        places.append(((out * (out + 1))[:, None] + signs).flatten())
        parts.append(total.flatten(2, 3))
    result = x.new_zeros(edges, copies, (lmax3 + 1) ** 2, channels)
    if not parts:
        return result
    return result.index_copy(2, torch.cat(places).to(x.device), torch.cat(parts, dim=2))
