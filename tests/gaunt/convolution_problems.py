"""Problems of the convolution, and sums of functions over edges to hold it against."""

from math import pi, sqrt

import pytest
import torch

VALUE = {torch.float64: 1e-12, torch.float32: 5e-6, torch.bfloat16: 2e-2, torch.float16: 2e-3}
DEGREES = {
    "0, 0 -> 0": (0, 0, 0),
    "1, 1 -> 1": (1, 1, 1),
    "2, 2 -> 2": (2, 2, 2),
    "1, 3 -> 2": (1, 3, 2),
    "3, 1 -> 4": (3, 1, 4),
    "2, 0 -> 3": (2, 0, 3),
    "4, 4 -> 4": (4, 4, 4),
    "6, 6 -> 6": (6, 6, 6),
}
EDGE_INDEX = torch.tensor([[0, 1, 1, 3, 2, 1, 0, 3], [2, 0, 2, 2, 0, 2, 3, 3]])  # unsorted
NODES = 5  # node 4 has no edge, two edges lead from 1 to 2
methods = pytest.mark.parametrize("method", ["grid", "aligned", "naive"])
parities = pytest.mark.parametrize("complete", [False, True], ids=["natural", "complete"])


def problem(lmaxes, complete, rng, dtype=torch.float64, channels=2):
    """Features, vectors and radial weights on the graph above."""
    lead = (2,) if complete else ()
    edges = EDGE_INDEX.shape[1]
    shapes = [
        (NODES, *lead, (lmaxes[0] + 1) ** 2, channels),
        (edges, 3),
        (edges, *lead, lmaxes[1] + 1, channels),
    ]
    return [torch.randn(shape, dtype=torch.float64, generator=rng).to(dtype) for shape in shapes]


def harmonics(points, lmax):
    from e3nn import o3

    return o3.spherical_harmonics(list(range(lmax + 1)), points, True, "integral")


def by_functions(x, vectors, radial, lmax_out, complete):
    """Multiply the functions of both operands on a fine grid, edge by edge, and project."""
    from scipy.integrate import lebedev_rule

    points, weights = (torch.tensor(part) for part in lebedev_rule(35))
    points = points.T.contiguous().requires_grad_()
    lead = (2,) if complete else (1,)
    x, radial = (t.double().reshape(len(t), *lead, *t.shape[-2:]) for t in (x, radial))
    lmax1, lmax2 = round(x.shape[2] ** 0.5) - 1, radial.shape[2] - 1
    project = weights[:, None] * harmonics(points, lmax_out).detach()
    degree = torch.arange((lmax2 + 1) ** 2).sqrt().long()
    z = torch.zeros(NODES, *lead, (lmax_out + 1) ** 2, x.shape[-1], dtype=torch.float64)
    for vector, weight, (i, j) in zip(vectors.double(), radial, EDGE_INDEX.T.tolist(), strict=True):
        values = harmonics(vector, lmax2)
        if not vector.any():
            values = torch.eye(len(degree), dtype=torch.float64)[0] / sqrt(4 * pi)
        h = values[:, None] * weight[:, degree]
        f = [harmonics(points, lmax1) @ part for part in x[i]]
        even, *odd = (harmonics(points, lmax2) @ part for part in h)
        for parity, function in enumerate(f):
            z[j, parity] += project.T @ (function * even).detach()
            if complete:
                z[j, 1 - parity] += project.T @ bracket(function, odd[0], points)
    return z if complete else z[:, 0]


def bracket(f, h, points):
    """The Poisson bracket of functions (grid, channels) of the points."""
    if not (f.requires_grad and h.requires_grad):  # a constant
        return torch.zeros_like(f)
    slopes = [
        torch.stack(
            [torch.autograd.grad(c.sum(), points, retain_graph=True)[0] for c in function.unbind(1)]
        )
        for function in (f, h)
    ]
    return (torch.linalg.cross(*slopes) * points).sum(-1).T.detach()


def relative_error(found, expected):
    assert found.shape == expected.shape
    found, expected = found.detach().double(), expected.detach()
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
