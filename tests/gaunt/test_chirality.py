"""What brackets add: telling a cloud of points from its mirror image."""

import pytest
import torch

from eqlib.harmonics import spherical_harmonics
from tests.gaunt.many_bodies import CHANNELS, layer


def densities(points, lmax):
    """Harmonics of a cloud, summed with a radial weight for each channel."""
    radii = points.norm(dim=-1, keepdim=True)
    radial = torch.exp(-4 * (radii - 0.5 * torch.arange(1, CHANNELS + 1)) ** 2)
    return torch.einsum("pa,pc->ac", spherical_harmonics(points, lmax), radial)


def chiral_cloud(rng):
    """Four points with a handedness, and the matrix of a mirror."""
    points = torch.randn(4, 3, dtype=torch.float64, generator=rng)
    return points, torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))


@pytest.mark.parametrize("order", [3, 4])
@pytest.mark.parametrize("lmax", [1, 2, 3])
def test_complete_layers_tell_a_cloud_from_its_mirror_image(lmax, order, rng):
    module = layer(rng, lmax, order, 0, complete=True, species=1)
    points, mirror = chiral_cloud(rng)

    def scalars(points):
        natural = densities(points, lmax)
        return module(torch.stack([natural, torch.zeros_like(natural)]))[:, 0]

    (scalar, pseudoscalar), mirrored = scalars(points), scalars(points @ mirror)
    assert pseudoscalar.abs().max() > 1e-6 * scalar.abs().max()
    torch.testing.assert_close(mirrored[1], -pseudoscalar, rtol=0, atol=1e-12)
    torch.testing.assert_close(mirrored[0], scalar, rtol=1e-12, atol=1e-12)
    # control: a cloud in a plane is its own mirror image
    flat = scalars(points * torch.tensor([1.0, 1.0, 0.0]))
    assert flat[1].abs().max() < 1e-12 * flat[0].abs().max()


@pytest.mark.parametrize("order", [2, 3, 4])
def test_natural_layers_cannot_tell_a_cloud_from_its_mirror_image(order, rng):
    module = layer(rng, 3, order, 0, species=1)
    points, mirror = chiral_cloud(rng)
    scalars, mirrored = (module(densities(p, 3)) for p in (points, points @ mirror))
    torch.testing.assert_close(scalars, mirrored, rtol=1e-12, atol=1e-12)
    moved = module(densities(points + 0.1, 3))
    assert (scalars - moved).abs().max() > 1e-3 * scalars.abs().max()


def test_two_factors_have_no_pseudoscalar(rng):
    """The mean of a bracket is zero: it takes a third function."""
    module = layer(rng, 3, 2, 1, complete=True, species=1)
    points, _ = chiral_cloud(rng)
    natural = densities(points, 3)
    z = module(torch.stack([natural, torch.zeros_like(natural)]))
    assert z[1, 0].abs().max() < 1e-12 < 1e-3 < z[1, 1:].abs().max()
