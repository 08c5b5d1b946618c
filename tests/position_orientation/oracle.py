"""The convolution written out edge by edge, in float64: an independent source of values."""

from itertools import combinations_with_replacement
from math import erf, inf, prod, sqrt

import torch


def gelu(x):
    return x * 0.5 * (1 + x.detach().clone().apply_(lambda t: erf(t / sqrt(2))))


def products(values, degree):
    """Return all products of values, lowest degree first."""
    return torch.tensor(
        [
            prod(float(values[i]) for i in chosen)
            for order in range(1, degree + 1)
            for chosen in combinations_with_replacement(range(len(values)), order)
        ],
        dtype=torch.float64,
    )


def soft(length, softening):
    return sqrt(length**2 + softening**2) - softening


def seen(offset, orientation, kind, softening):
    """Return what an orientation sees of an offset."""
    if kind == "distance":
        return [soft(float(offset.norm()), softening)]
    if kind == "rotation":
        return (orientation.T @ offset).tolist()
    along = float(offset @ orientation)
    if kind == "signed":
        across = orientation[0] * offset[1] - orientation[1] * offset[0]
        return [along, float(across)]
    return [along, soft(float((offset - along * orientation).norm()), softening)]


def window(offset, radius):
    u = float(offset.norm()) / radius if radius < inf else 0.0
    return 1 - 28 * u**6 + 48 * u**7 - 21 * u**8 if u < 1 else 0.0


def network(inputs, module):
    hidden = gelu(module.hidden.weight @ inputs + module.hidden.bias)
    return gelu(module.basis.weight @ hidden + module.basis.bias)


def rescaled(offset, length=1.0, reach=None):
    offset = offset / length
    return offset if reach is None else offset / sqrt(1 + float(offset @ offset) / reach**2)


def spatial(features, points, edges, orientations, kernels, weight, kind, options):
    """Return y; edges are triples of source, target and scalars, orientations those of nodes."""
    y = torch.zeros_like(features)
    radius = options.get("radius", inf)
    length, reach = options.get("length", 1.0), options.get("reach")
    if radius < inf:
        probe = torch.tensor([radius, 0.0], dtype=torch.float64)
        radius = float(rescaled(probe, length, reach).norm())
    for source, target, scalars in edges:
        offset = rescaled(points[source] - points[target], length, reach)
        for o, orientation in enumerate(orientations[target]):
            values = seen(offset, orientation, kind, kernels.softening)
            inputs = torch.cat([products(values, kernels.degree), scalars])
            basis = window(offset, radius) * network(inputs, kernels)
            y[target, o] += (weight @ basis) * features[source, o]
    return y


def fibre(features, orientations, weights, kernels, weight, bias, kind):
    """Return z; the orientations are those of the grid."""
    z = torch.zeros_like(features) + bias
    for p, second in enumerate(orientations):
        for o, first in enumerate(orientations):
            if kind == "rotation":
                values = (first.T @ second).flatten()
            else:
                values = [first @ second]
                if kind == "signed":
                    values.append(first[0] * second[1] - first[1] * second[0])
            kernel = weight @ network(products(values, kernels.degree), kernels)
            z[:, p] += weights[o] * kernel * features[:, o]
    return z


def handed(features, orientations, weights, mix):
    """Return the term that tells left from right; orientations are those of nodes."""
    term = torch.zeros_like(features)
    for i, directions in enumerate(orientations):
        moments = 3 * torch.einsum("o,ox,oc->cx", weights, directions, features[i])
        mixed = mix @ moments
        cross = torch.cross(moments, mixed, dim=1)
        scale = (1 + moments.square().sum(1) + mixed.square().sum(1)).sqrt()
        term[i] = directions @ (cross / scale[:, None]).T
    return term


def block(features, convolved, module):
    mean = convolved.mean(-1, keepdim=True)
    variance = (convolved - mean).square().mean(-1, keepdim=True)
    normed = (convolved - mean) / (variance + module.norm.eps).sqrt()
    normed = normed * module.norm.weight + module.norm.bias
    hidden = gelu(normed @ module.widen.weight.T + module.widen.bias)
    added = hidden @ module.narrow.weight.T + module.narrow.bias
    return features + (added if module.scale is None else added * module.scale)
