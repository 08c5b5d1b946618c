"""Lifts give the values that they state, and move with rotations."""

import math

import pytest
import torch

from eqlib.harmonics import spherical_harmonics, wigner_d
from eqlib.position_orientation.fields.lift import (
    lift_harmonics,
    lift_matrices,
    lift_scalars,
    lift_vectors,
)
from eqlib.position_orientation.grids import OrientationGrid
from eqlib.symmetry import SO


def rotation(rng, n=3):
    return SO(n).sample(rng, 1).matrix[0]


def directions(rng, count, n=3):
    return torch.nn.functional.normalize(
        torch.randn(count, n, dtype=torch.float64, generator=rng), dim=-1
    )


def normal(rng, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=rng)


def test_scalars_are_copied(rng):
    scalars = normal(rng, 5, 2)
    lifted = lift_scalars(scalars, 4)
    assert lifted.shape == (5, 4, 2)
    for k in range(4):
        assert torch.equal(lifted[:, k], scalars)


@pytest.mark.parametrize("n", [2, 3])
def test_vectors_become_products_with_directions(n, rng):
    vectors, orientations = normal(rng, 5, 2, n), directions(rng, 7, n)
    lifted = lift_vectors(vectors, orientations)
    for node, k, channel in ((0, 0, 0), (4, 6, 1), (2, 3, 0)):
        expected = math.fsum((vectors[node, channel] * orientations[k]).tolist())
        assert lifted[node, k, channel].item() == pytest.approx(expected, abs=1e-15)


def test_vectors_become_components_in_frames(rng):
    vectors = normal(rng, 5, 2, 3)
    frames = torch.stack([rotation(rng) for _ in range(4)])
    lifted = lift_vectors(vectors, frames, frames=True)
    assert lifted.shape == (5, 4, 6)
    torch.testing.assert_close(lifted[2, 3, 3:], frames[3].mT @ vectors[2, 1])


def test_every_node_may_have_orientations_of_its_own(rng):
    vectors = normal(rng, 3, 2, 3)
    own = torch.stack([directions(rng, 4) for _ in range(3)])
    lifted = lift_vectors(vectors, own)
    for node in range(3):
        torch.testing.assert_close(
            lifted[node], lift_vectors(vectors[node : node + 1], own[node])[0]
        )


def test_matrices_become_quadratic_forms(rng):
    matrices, orientations = normal(rng, 5, 2, 3, 3), directions(rng, 7)
    lifted = lift_matrices(matrices, orientations)
    o = orientations[6]
    torch.testing.assert_close(lifted[4, 6, 1], o @ matrices[4, 1] @ o)


def test_matrices_become_entries_in_frames(rng):
    matrices = normal(rng, 5, 2, 3, 3)
    frames = torch.stack([rotation(rng) for _ in range(4)])
    lifted = lift_matrices(matrices, frames, frames=True)
    expected = frames[3].mT @ matrices[4, 1] @ frames[3]
    torch.testing.assert_close(lifted[4, 3, 9:], expected.flatten())


def test_harmonics_become_functions_on_the_sphere(rng):
    coefficients, orientations = normal(rng, 5, 9, 2), directions(rng, 7)
    lifted = lift_harmonics(coefficients, orientations)
    values = spherical_harmonics(orientations[6], 2)
    torch.testing.assert_close(lifted[4, 6], values @ coefficients[4])


def test_lifted_at_turned_orientations_is_turned_and_lifted(rng):
    turn, orientations = rotation(rng), directions(rng, 7)
    vectors, matrices, tensors = normal(rng, 5, 2, 3), normal(rng, 5, 2, 3, 3), normal(rng, 5, 9, 2)
    blocks = torch.block_diag(*wigner_d(turn, 2))
    for lift, given, turned in (
        (lift_vectors, vectors, vectors @ turn.mT),
        (lift_matrices, matrices, turn @ matrices @ turn.mT),
        (lift_harmonics, tensors, blocks @ tensors),
    ):
        torch.testing.assert_close(lift(turned, orientations @ turn.mT), lift(given, orientations))
        # control: the grid has to be turned as well
        assert (lift(turned, orientations) - lift(given, orientations)).abs().max() > 0.1


def test_frames_see_turned_tensors_as_before(rng):
    turn = rotation(rng)
    frames = torch.stack([rotation(rng) for _ in range(4)])
    tensors, vectors = normal(rng, 5, 9, 2), normal(rng, 5, 2, 3)
    blocks = torch.block_diag(*wigner_d(turn, 2))
    torch.testing.assert_close(
        lift_harmonics(blocks @ tensors, turn @ frames, frames=True),
        lift_harmonics(tensors, frames, frames=True),
    )
    torch.testing.assert_close(
        lift_vectors(vectors @ turn.mT, turn @ frames, frames=True),
        lift_vectors(vectors, frames, frames=True),
    )


def test_dtype_is_that_of_what_is_lifted(rng):
    grid = OrientationGrid("R3xS2", 12).orientations
    frames = OrientationGrid("SE3", 12).orientations
    for given, turned in ((grid, False), (frames, True)):
        assert lift_vectors(normal(rng, 5, 2, 3).float(), given, turned).dtype == torch.float32
        assert lift_matrices(normal(rng, 5, 2, 3, 3).float(), given, turned).dtype == torch.float32
        assert lift_harmonics(normal(rng, 5, 9, 2).float(), given, turned).dtype == torch.float32


@pytest.mark.unchecked
def test_positions_see_no_vector(rng):
    with pytest.raises(ValueError, match="spaces of positions have none and see no vector"):
        lift_vectors(normal(rng, 5, 2, 3), torch.zeros(1, 0, dtype=torch.float64))
    with pytest.raises(ValueError, match="does not fit orientations"):
        lift_matrices(normal(rng, 5, 2, 3, 3), directions(rng, 4, 2))
