"""The basis maps written out one by one, and layers to compare with them."""

import torch
from torch import nn

from eqlib.subgraph import PermutationLinear

NAMES = ("scalars", "nodes", "pairs")
ORDERS = [(p, q) for p in (0, 1, 2) for q in (0, 1, 2)]


def normal(rng, *shape, dtype=torch.float64):
    return torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype)


def randomised(module, rng):
    """Give every parameter a random value."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5, generator=rng)
    return module


def linear(rng, *arguments, dtype=torch.float64, **options):
    """Return a PermutationLinear with random weights and biases."""
    return randomised(PermutationLinear(*arguments, **options), rng).to(dtype)


def apply(layer, x, order, **options):
    """Apply a layer to features of one order."""
    return layer(**{NAMES[order]: x}, **options)


def places_of_vector(v, order, e, rooted):
    if order == 1:
        return [v]
    one = torch.ones_like(v)
    found = [torch.diag(v), torch.outer(v, one), torch.outer(one, v)]
    return found + [torch.outer(v, e), torch.outer(e, v)] * rooted


def places_of_scalar(g, order, e, rooted):
    one = torch.ones_like(e)
    if order == 0:
        return [g]
    if order == 1:
        return [g * one, g * e][: 1 + rooted]
    eye, outer = torch.diag(one), torch.outer
    found = [eye, outer(one, one), outer(e, e), outer(e, one), outer(one, e)]
    return [g * each for each in found[: 5 if rooted else 2]]


def vectors_and_scalars(x, order, root, mean):
    """The vectors and scalars of one channel; sums are means where asked for."""
    if order == 0:
        return [], [x]
    m = len(x)
    n = m if mean else 1
    if order == 1:
        return [x], [x.sum() / n] + ([] if root is None else [x[root]])
    d, r, c = torch.diag(x), x.sum(1) / n, x.sum(0) / n
    vectors, scalars = [d, r, c], [d.sum() / n, x.sum() / n**2]
    if root is not None:
        vectors += [x[:, root], x[root]]
        scalars += [x[root, root], r[root], c[root]]
    return vectors, scalars


def stack(x, order_in, order_out, root=None, mean=True, nodes=None):
    """All basis maps of one channel, (maps, *axes), as the 15 are written in papers."""
    nodes = len(x) if order_in else nodes
    rooted = root is not None
    e = torch.zeros(nodes, dtype=x.dtype)
    if rooted:
        e[root] = 1
    vectors, scalars = vectors_and_scalars(x, order_in, root, mean)
    found = [x, x.T] if order_in == order_out == 2 else []
    if order_out:
        placed = [places_of_vector(v, order_out, e, rooted) for v in vectors]
        found += [v for place in zip(*placed, strict=True) for v in place]
    filled = [places_of_scalar(g, order_out, e, rooted) for g in scalars]
    found += [g for place in zip(*filled, strict=True) for g in place]
    return torch.stack(found)


def by_stack(layer, x, order_in, order_out, root=None, nodes=None):
    """What a layer should give for features of one order, from the stack of its basis maps."""
    channels = [
        stack(channel, order_in, order_out, root, layer.normalised, nodes)
        for channel in x.unbind(-1)
    ]
    maps = torch.stack(channels, -1)
    y = torch.einsum("k...c,kcs->...s", maps, layer.coefficients(nodes)[order_in, order_out])
    if layer.bias:
        e = torch.zeros(nodes, dtype=x.dtype)
        if root is not None:
            e[root] = 1
        ones = torch.ones((), dtype=x.dtype)
        fixed = torch.stack(places_of_scalar(ones, order_out, e, root is not None))
        y = y + torch.einsum("k...,ks->...s", fixed, layer.bias[str(order_out)])
    return y


def permuted(x, permutation, order):
    """Features after node i has become node permutation[i], along the axes before the last."""
    inverse = permutation.argsort()
    for axis in range(order):
        x = x.index_select(x.ndim - 2 - axis, inverse)
    return x
