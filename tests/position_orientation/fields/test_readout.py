"""Read-outs undo lifts, and move with rotations."""

import pytest
import torch

from eqlib.harmonics import lebedev_grid, wigner_d
from eqlib.position_orientation import OrientationGrid
from eqlib.position_orientation.fields.lift import lift_harmonics, lift_matrices, lift_vectors
from eqlib.position_orientation.fields.readout import (
    read_harmonics,
    read_matrices,
    read_scalars,
    read_vectors,
)
from eqlib.symmetry import SO

EXACT = {"rtol": 1e-13, "atol": 1e-13}


def normal(rng, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=rng)


def rotation(rng):
    return SO(3).sample(rng, 1).matrix[0]


@pytest.mark.parametrize(
    ("space", "size", "kind"),
    [
        ("R3xS2", 12, "auto"),
        ("R3xS2", 20, "auto"),
        ("R3xS2", 13, "fibonacci"),
        ("R3xS2", 7, "repulsion"),
        ("R2xS1", 8, "auto"),
        ("R2xS1", 3, "uniform"),
        ("SE3", 12, "auto"),
    ],
)
def test_vectors_come_back(space, size, kind, rng):
    grid = OrientationGrid(space, size, kind)
    frames = space == "SE3"
    vectors = normal(rng, 5, 2, grid.space.dimension)
    lifted = lift_vectors(vectors, grid.orientations, frames)
    found = read_vectors(lifted, grid.orientations, grid.weights, frames)
    torch.testing.assert_close(found, vectors, **EXACT)


def test_vectors_are_means_over_designs(rng):
    grid = OrientationGrid("R3xS2", 12)
    features = normal(rng, 5, 12, 2)
    expected = 3 * torch.einsum("noc,od->ncd", features, grid.orientations) / 12
    found = read_vectors(features, grid.orientations, grid.weights)
    torch.testing.assert_close(found, expected, **EXACT)
    # control: equal weights on a grid that is no design
    uneven = OrientationGrid("R3xS2", 12, "fibonacci", weights="equal")
    vectors = normal(rng, 5, 2, 3)
    lifted = lift_vectors(vectors, uneven.orientations)
    mean = 3 * torch.einsum("noc,od->ncd", lifted, uneven.orientations) / 12
    assert (mean - vectors).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("space", "size"), [("R3xS2", 12), ("R3xS2", 20), ("R2xS1", 6), ("SE3", 12)]
)
def test_matrices_come_back(space, size, rng):
    grid = OrientationGrid(space, size)
    frames, n = space == "SE3", grid.space.dimension
    matrices = normal(rng, 5, 2, n, n)
    if not frames:
        matrices = matrices + matrices.mT
        trace = matrices.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
        matrices = matrices - trace * torch.eye(n, dtype=torch.float64) / n
    lifted = lift_matrices(matrices, grid.orientations, frames)
    found = read_matrices(lifted, grid.orientations, grid.weights, frames)
    torch.testing.assert_close(found, matrices, **EXACT)


def test_matrices_have_the_factor_of_designs(rng):
    grid = OrientationGrid("R3xS2", 20)
    features, o = normal(rng, 5, 20, 2), grid.orientations
    traceless = torch.einsum("oi,oj->oij", o, o) - torch.eye(3, dtype=torch.float64) / 3
    expected = 7.5 * torch.einsum("o,noc,oij->ncij", grid.weights, features, traceless)
    found = read_matrices(features, grid.orientations, grid.weights)
    torch.testing.assert_close(found, expected, **EXACT)


def test_the_octahedron_sees_no_entry_off_the_diagonal(rng):
    grid = OrientationGrid("R3xS2", 6)
    swap = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.float64)[None, None]
    lifted = lift_matrices(swap, grid.orientations)
    assert read_matrices(lifted, grid.orientations, grid.weights).abs().max() < 1e-15


@pytest.mark.parametrize(("size", "lmax"), [(12, 2), (20, 2), (60, 4)])
def test_harmonics_come_back(size, lmax, rng):
    grid = OrientationGrid("R3xS2", size, "auto" if size < 60 else "fibonacci")
    coefficients = normal(rng, 5, (lmax + 1) ** 2, 2)
    lifted = lift_harmonics(coefficients, grid.orientations)
    found = read_harmonics(lifted, grid.orientations, grid.weights, lmax)
    torch.testing.assert_close(found, coefficients, rtol=1e-11, atol=1e-11)


def test_harmonics_are_integrals_on_designs(rng):
    grid = lebedev_grid(7)
    values = normal(rng, 3, len(grid.points), 2)
    weights = grid.weights / grid.weights.sum()
    from eqlib.harmonics import spherical_harmonics

    expected = spherical_harmonics(grid.points, 3).mT @ (grid.weights[:, None] * values)
    found = read_harmonics(values, grid.points, weights, 3)
    torch.testing.assert_close(found, expected, **EXACT)


def test_harmonics_of_frames_come_back(rng):
    grid = OrientationGrid("SE3", 12)
    coefficients = normal(rng, 5, 9, 2)
    lifted = lift_harmonics(coefficients, grid.orientations, frames=True)
    found = read_harmonics(lifted, grid.orientations, grid.weights, 2, frames=True)
    torch.testing.assert_close(found, coefficients, **EXACT)


def test_readouts_at_turned_orientations_are_turned(rng):
    turn, grid = rotation(rng), OrientationGrid("R3xS2", 12)
    features, blocks = normal(rng, 5, 12, 2), torch.block_diag(*wigner_d(turn, 2))
    o, turned = grid.orientations, grid.orientations @ turn.mT
    for read, move in (
        (read_vectors, lambda v: v @ turn.mT),
        (read_matrices, lambda m: turn @ m @ turn.mT),
        (lambda *args: read_harmonics(*args, 2), lambda c: blocks @ c),
    ):
        plain = read(features, o, grid.weights)
        torch.testing.assert_close(read(features, turned, grid.weights), move(plain), **EXACT)
        # control: what comes out does turn
        assert (move(plain) - plain).abs().max() > 0.1


def test_scalars_are_weighted_means(rng):
    grid = OrientationGrid("R3xS2", 32, "fibonacci")
    features = normal(rng, 5, 32, 2)
    expected = (features * grid.weights[:, None]).sum(1)
    torch.testing.assert_close(read_scalars(features, grid.weights), expected, **EXACT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_dtype_is_that_of_the_features(dtype, rng):
    grid = OrientationGrid("R3xS2", 12)
    features = normal(rng, 5, 12, 2)
    for read in (read_scalars, lambda f, w: read_vectors(f, grid.orientations, w)):
        found = read(features.to(dtype), grid.weights)
        assert found.dtype == dtype
        error = (found.double() - read(features, grid.weights)).abs().max()
        assert error < 16 * torch.finfo(dtype).eps


def test_gradients(rng):
    grid = OrientationGrid("R3xS2", 12)
    features = normal(rng, 2, 12, 2).requires_grad_()

    def read(features):
        args = (features, grid.orientations, grid.weights)
        return read_vectors(*args), read_matrices(*args), read_harmonics(*args, 2)

    assert torch.autograd.gradcheck(read, features)
    assert torch.autograd.gradgradcheck(read, features)


def test_no_node(rng):
    grid = OrientationGrid("R3xS2", 12)
    features = torch.zeros(0, 12, 2)
    assert read_vectors(features, grid.orientations, grid.weights).shape == (0, 2, 3)
    assert read_scalars(features, grid.weights).shape == (0, 2)


@pytest.mark.unchecked
def test_refusals(rng):
    grid, frames = OrientationGrid("R3xS2", 12), OrientationGrid("SE3", 12)
    features = normal(rng, 2, 12, 5)
    with pytest.raises(ValueError, match="lmax: degree 3 has 16 coefficients"):
        read_harmonics(features, grid.orientations, grid.weights, 3)
    with pytest.raises(ValueError, match="5 channels are not a multiple of 3"):
        read_vectors(features, frames.orientations, frames.weights, frames=True)
