r"""Closed form for d = 2 and 3 in torch, branch-free, in blocks of matrices that stay in the cache.

A 3x3 matrix is scaled by its largest entry and written :math:`A = q + p B` with B of trace 0 and
norm :math:`\sqrt 6`. The eigenvalue m of B that is farthest from zero is at least
:math:`\sqrt 3` from the others: it is a root of :math:`m^3 - 3 m = \det B`, well-conditioned, and
the longest column of the adjugate of :math:`B - m` is its vector v. Two vectors u and w complete
v; the remaining 2x2 block of B on them is diagonalised by a rotation. The usual formulas with three
cosines and three cross products lose half of the digits at equal eigenvalues, this one none.

Source:
    The complement of v is that of Duff et al., Building an Orthonormal Basis, Revisited, JCGT 2017.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

_BLOCK = 8192
ROOT = (1.73212376, 0.330808334, -0.0817620091, 0.0188871079)
"""Cubic near 2 cos(acos(t) / 3) for t from 0 to 1: two steps of Newton's method give all digits."""

_Components = tuple[Tensor, Tensor, Tensor]


def decompose(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues (n, d), ascending, and eigenvectors (n, d, d) of matrices (n, d, d)."""
    if matrices.device.type != "cpu" or len(matrices) <= _BLOCK:
        return closed_form(matrices)
    values, vectors = matrices.new_empty(matrices.shape[:2]), torch.empty_like(matrices)
    for start in range(0, len(matrices), _BLOCK):
        block = slice(start, start + _BLOCK)
        values[block], vectors[block] = closed_form(matrices[block])
    return values, vectors


def closed_form(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Do the same for all matrices at once; compilers may trace this function."""
    dimension = matrices.shape[-1]
    entries = matrices.flatten(1).mT.contiguous()
    lower = [entries[i * dimension + j] for i in range(dimension) for j in range(i + 1)]
    scale = torch.stack(lower).abs().amax(0).clamp(min=torch.finfo(matrices.dtype).tiny)
    poison = (entries * 0).sum(0)  # zero, or NaN where an entry is not finite
    solve = _planar if dimension == 2 else _spatial
    values, vectors = solve([entry / scale for entry in lower])
    eigenvalues = torch.stack([scale * value + poison for value in values], -1)
    eigenvectors = torch.stack([entry + poison for entry in vectors], -1)
    return eigenvalues, eigenvectors.unflatten(-1, (dimension, dimension))


def differentiate(
    grad_values: Tensor, grad_vectors: Tensor, values: Tensor, vectors: Tensor, guard: float
) -> Tensor:
    """Return the guarded gradient of the matrices; see ``derivatives.py``."""
    if values.device.type != "cpu" or len(values) <= _BLOCK:
        return _gradient(grad_values, grad_vectors, values, vectors, guard)
    gradient = torch.empty_like(vectors)
    for start in range(0, len(values), _BLOCK):
        i = slice(start, start + _BLOCK)
        gradient[i] = _gradient(grad_values[i], grad_vectors[i], values[i], vectors[i], guard)
    return gradient


def _gradient(
    grad_values: Tensor, grad_vectors: Tensor, values: Tensor, vectors: Tensor, guard: float
) -> Tensor:
    d = values.shape[1]
    g, l = grad_values.mT.contiguous(), values.mT.contiguous()  # noqa: E741
    G, V = (tensor.permute(1, 2, 0).contiguous() for tensor in (grad_vectors, vectors))
    scale = l.abs().amax(0)
    scale = torch.where(scale > 0, scale, 1.0)
    inner = [[g[i]] * d for i in range(d)]
    for i in range(d):
        for j in range(i):
            delta = (l[i] - l[j]) / scale
            twist = (V[:, j] * G[:, i] - V[:, i] * G[:, j]).sum(0)
            inner[i][j] = inner[j][i] = delta / (delta * delta + guard**2) / scale * twist / 2
    rows = [[_dot(V[a], [row[j] for row in inner]) for j in range(d)] for a in range(d)]
    broken = l[0].isnan()
    entries = {
        (a, b): torch.where(broken, 0.0, _dot(rows[a], V[b]))
        for a in range(d)
        for b in range(a + 1)
    }
    every = [entries[max(a, b), min(a, b)] for a in range(d) for b in range(d)]
    return torch.stack(every, -1).unflatten(-1, (d, d))


def _planar(lower: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    a00, a10, a11 = lower
    mean = (a00 + a11) / 2
    cosine, sine, height = _rotation((a00 - a11) / 2, a10)
    return [mean - height, mean + height], [sine, cosine, -cosine, sine]


def _spatial(lower: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    mean = (lower[0] + lower[2] + lower[5]) / 3
    a00, a11, a22 = lower[0] - mean, lower[2] - mean, lower[5] - mean
    a10, a20, a21 = lower[1], lower[3], lower[4]
    size = (
        (a00 * a00 + a11 * a11 + a22 * a22 + 2 * (a10 * a10 + a20 * a20 + a21 * a21)) / 6
    ).sqrt()
    # What is left of equal eigenvalues are rounding errors.
    size = torch.where(size <= 4 * torch.finfo(size.dtype).eps, 0.0, size)
    shrink = torch.where(size > 0, 1 / size, 0.0)
    reduced = [entry * shrink for entry in (a00, a10, a11, a20, a21, a22)]
    isolated, is_largest = _isolated(reduced)
    v = _vector(reduced, isolated)
    u, w = _complement(v)
    low, high, lower_vector, higher_vector = _remaining(reduced, u, w)
    pairs = ((low, isolated), (high, low), (isolated, high))
    values = [mean + size * torch.where(is_largest, *pair) for pair in pairs]
    columns = ((lower_vector, v), (higher_vector, lower_vector), (v, higher_vector))
    rows = [[torch.where(is_largest, a[i], b[i]) for a, b in columns] for i in range(3)]
    return values, [entry for row in rows for entry in row]


def _isolated(reduced: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the eigenvalue that is farthest from zero, and whether it is the largest."""
    a00, a10, a11, a20, a21, a22 = reduced
    minor = a10 * (a20 * a21 - a10 * a22) + a20 * (a10 * a21 - a11 * a20)
    half = (a00 * (a11 * a22 - a21 * a21) + minor) / 2
    t = half.abs().clamp(max=1.0)
    root = ROOT[0] + t * (ROOT[1] + t * (ROOT[2] + t * ROOT[3]))
    for _ in range(2):
        square = root * root
        root = root - (root * (square - 3) - 2 * t) / (3 * (square - 1))
    is_largest = half >= 0
    return torch.where(is_largest, root, -root), is_largest


def _vector(reduced: list[Tensor], m: Tensor) -> _Components:
    """Return the unit vector of an isolated eigenvalue."""
    a00, a10, a11, a20, a21, a22 = reduced
    a00, a11, a22 = a00 - m, a11 - m, a22 - m
    c00, c11, c22 = a11 * a22 - a21 * a21, a00 * a22 - a20 * a20, a00 * a11 - a10 * a10
    c10, c20, c21 = a21 * a20 - a10 * a22, a10 * a21 - a20 * a11, a10 * a20 - a00 * a21
    first, second = (c00 > c11) & (c00 > c22), c11 > c22
    x = torch.where(first, c00, torch.where(second, c10, c20))
    y = torch.where(first, c10, torch.where(second, c11, c21))
    z = torch.where(first, c20, torch.where(second, c21, c22))
    length = (x * x + y * y + z * z).sqrt()
    return x / length, y / length, z / length


def _complement(v: _Components) -> tuple[_Components, _Components]:
    """Return u and w with u x w = v."""
    x, y, z = v
    sign = torch.where(z < 0, -1.0, 1.0).to(z.dtype)
    a = -1 / (sign + z)
    b = x * y * a
    return (1 + sign * x * x * a, sign * b, -sign * x), (b, sign + y * y * a, -y)


def _remaining(
    reduced: list[Tensor], u: _Components, w: _Components
) -> tuple[Tensor, Tensor, _Components, _Components]:
    """Return the other two eigenvalues of B, ascending, and their vectors."""
    Bu, Bw = _times(reduced, u), _times(reduced, w)
    uu, uw, ww = _dot(u, Bu), _dot(w, Bu), _dot(w, Bw)
    mean = (uu + ww) / 2
    cosine, sine, height = _rotation((uu - ww) / 2, uw)
    u0, u1, u2 = u
    w0, w1, w2 = w
    lower = (sine * u0 - cosine * w0, sine * u1 - cosine * w1, sine * u2 - cosine * w2)
    higher = (cosine * u0 + sine * w0, cosine * u1 + sine * w1, cosine * u2 + sine * w2)
    return mean - height, mean + height, lower, higher


def _rotation(d: Tensor, b: Tensor) -> _Components:
    """Return the larger eigenvector of ((d, b), (b, -d)), (cosine, sine), and its eigenvalue."""
    square = d * d + b * b
    height = square.sqrt()
    # Below this the two are equal to rounding, and the square may have lost its digits.
    equal = square <= torch.finfo(d.dtype).eps ** 2 * 2**-20
    along = torch.where(equal, 1.0, d.abs() + height)
    across = torch.where(equal, 0.0, b)
    length = (along * along + across * across).sqrt()
    along, across = along / length, across / length
    positive = d > 0
    return torch.where(positive, along, across), torch.where(positive, across, along), height


def _times(reduced: list[Tensor], x: _Components) -> _Components:
    a00, a10, a11, a20, a21, a22 = reduced
    return (
        a00 * x[0] + a10 * x[1] + a20 * x[2],
        a10 * x[0] + a11 * x[1] + a21 * x[2],
        a20 * x[0] + a21 * x[1] + a22 * x[2],
    )


def _dot(x: Sequence[Tensor] | Tensor, y: Sequence[Tensor] | Tensor) -> Tensor:
    total = x[0] * y[0]
    for k in range(1, len(x)):
        total = total + x[k] * y[k]
    return total
