"""Products on the sphere from e3nn's harmonics and a quadrature of numpy: independent of eqlib."""

import functools

import numpy as np
import torch

VALUE = {torch.float64: 1e-12, torch.float32: 5e-6, torch.bfloat16: 8e-3, torch.float16: 2e-3}
"""Largest difference from float64, relative to the largest entry."""


@functools.cache
def coefficients(lmax, odd):
    """Integrals of three harmonics, or of the bracket of two with a third: (S, S, S)."""
    from e3nn import o3

    cosine, weights = np.polynomial.legendre.leggauss(3 * lmax // 2 + 2)
    count = 3 * lmax + 2
    phi = 2 * np.pi * np.arange(count) / count
    sine = np.sqrt(1 - cosine**2)[:, None]
    points = np.stack(
        np.broadcast_arrays(sine * np.sin(phi), cosine[:, None], sine * np.cos(phi)), -1
    )
    points = torch.from_numpy(points.reshape(-1, 3)).requires_grad_()
    weights = torch.from_numpy(np.repeat(weights * 2 * np.pi / count, count))
    degrees = list(range(lmax + 1))
    values = o3.spherical_harmonics(degrees, points, normalize=True, normalization="integral")
    if odd:
        slopes = torch.stack(
            [torch.autograd.grad(y.sum(), points, retain_graph=True)[0] for y in values.unbind(1)],
            dim=1,
        )
        pairs = torch.linalg.cross(slopes[:, :, None], slopes[:, None])
        pairs = (pairs * points.detach()[:, None, None]).sum(-1)
    else:
        pairs = values.detach()[:, :, None] * values.detach()[:, None]
    return torch.einsum("gab,g,gc->abc", pairs, weights, values.detach())


def product(x, y, lmax_out, odd, weights=(None, None, None)):
    """The product in float64, by the dense sum over coefficients; its derivatives by autograd."""
    sizes = (x.shape[-2], y.shape[-2], (lmax_out + 1) ** 2)
    lmax = max(int(max(sizes) ** 0.5) - 1, 1)
    one, two, three = sizes
    table = coefficients(lmax, odd)[:one, :two, :three]
    x, y = (weighted(t.double(), w) for t, w in zip((x, y), weights[:2], strict=True))
    return weighted(torch.einsum("abc,...ak,...bk->...ck", table, x, y), weights[2])


def weighted(x, weight):
    if weight is None:
        return x
    return x * weight.double().repeat_interleave(2 * torch.arange(len(weight)) + 1, 0)


def error(result, expected):
    """Largest difference, relative to the largest expected entry."""
    result, expected = result.detach().double(), expected.detach()
    return float((result - expected).abs().max() / expected.abs().max().clamp(min=1e-300))
