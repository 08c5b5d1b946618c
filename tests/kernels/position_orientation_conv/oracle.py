"""The convolution in loops over edges and orientations, in float64 numbers."""

from itertools import combinations_with_replacement
from math import erf, isinf, prod, sqrt

import torch


def gelu(x):
    return x * (1 + erf(x / sqrt(2))) / 2


def attributes_of(r, axes, kind, softening):
    """Attributes of one offset and one orientation, in numbers."""
    if kind == "distance":
        return [sqrt(float(r @ r) + softening**2) - softening]
    along = [float(axis @ r) for axis in axes]
    if kind == "axes":
        return along
    across = r - along[0] * axes[0]
    return [along[0], sqrt(float(across @ across) + softening**2) - softening]


def kernel(arguments, edge, orientation):
    """The kernel of one edge and orientation, (channels,)."""
    a = arguments
    r = a.offsets[edge].double()
    axes = a.axes[int(a.frame[edge]) if len(a.frame) else 0, orientation].double()
    values = attributes_of(r, axes, a.attributes, a.softening)
    inputs = [
        prod(chosen)
        for order in range(1, a.degree + 1)
        for chosen in combinations_with_replacement(values, order)
    ] + a.scalars[edge].tolist()
    inputs = torch.tensor(inputs, dtype=torch.float64)
    hidden = a.w1.double() @ inputs + a.b1.double()
    hidden = torch.tensor([gelu(float(h)) for h in hidden], dtype=torch.float64)
    basis = a.w2.double() @ hidden + a.b2.double()
    basis = torch.tensor([gelu(float(h)) for h in basis], dtype=torch.float64)
    u = 0.0 if isinf(a.radius) else float(r.norm()) / a.radius
    window = (1 - u) ** 3 * (1 + 3 * u + 6 * u**2 + 10 * u**3 + 15 * u**4 + 21 * u**5)
    return a.w3.double() @ basis * (window if u < 1 else 0.0)


def by_loop(arguments):
    """The sum over edges, orientations and ways, one after the other."""
    a = arguments
    y = torch.zeros(len(a.starts) - 1, *a.x.shape[1:], dtype=torch.float64)
    opposite = a.opposite.tolist()
    for edge, (j, i) in enumerate(zip(a.source.tolist(), a.target.tolist(), strict=True)):
        kernels = [kernel(a, edge, o) for o in range(a.x.shape[1])]
        for o, K in enumerate(kernels):
            y[i, o] += K * a.x[j, o].double()
            if opposite and i != j:
                y[j, o] += kernels[opposite[o]] * a.x[i, o].double()
    return y
