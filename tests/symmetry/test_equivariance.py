"""The check: it passes what has the symmetry, and finds what breaks it under each kind."""

import pytest
import torch
from torch import nn

import eqlib
from eqlib.symmetry import (
    SE,
    SO,
    E,
    Irreps,
    NodeOrder,
    O,
    Permutations,
    Point,
    Pseudoscalar,
    Pseudovector,
    Scalar,
    Signature,
    assert_equivariant,
    equivariance_error,
)
from tests.symmetry.maps import (
    POINTS,
    VECTORS,
    Interaction,
    cloud,
    interaction,
    mlp,
    ragged_interaction,
    ragged_signature,
    signature,
)
from tests.tolerances import EQUIVARIANCE

EDGES = torch.tensor([[0, 1, 1, 2, 4, 5], [1, 0, 2, 1, 5, 4]])
BATCH = torch.tensor([0, 0, 0, 1, 3, 3])


def broken_kinds(fn, inputs, signature, generator=None):
    """The kinds of elements under which a map is wrong; in the others it must be exact."""
    report = equivariance_error(fn, inputs, signature, samples=12, generator=generator)
    assert all(error < 1e-12 or error > 1e-2 for error in report.kinds.values()), report
    return {kind for kind, error in report.kinds.items() if error > 1e-2}


@pytest.mark.parametrize("dtype", list(EQUIVARIANCE), ids=str)
@pytest.mark.parametrize("dimension", [2, 3], ids="{}-D".format)
@pytest.mark.parametrize("shape", [(5,), (2, 5), (3, 2, 7)], ids=str)
def test_equivariant_map_passes_in_every_dtype(shape, dimension, dtype, rng):
    inputs = cloud(rng, *shape, dtype=dtype, dimension=dimension)
    report = equivariance_error(interaction, inputs, signature(dimension), generator=rng)
    assert report.dtype == dtype
    assert report.tolerance == EQUIVARIANCE[dtype]
    assert report.passed
    assert report.max < EQUIVARIANCE[dtype]

    def shifted(points, charges):  # control: the same map about another origin
        moved = interaction(points, charges)
        return moved._replace(points=moved.points + 0.5 * points.square())

    assert equivariance_error(shifted, inputs, signature(dimension)).max > 0.2


def test_mlp_fails_under_every_kind_but_the_identity(rng):
    net = mlp(15, 32, 15)

    def flat(points):
        return net(points.flatten()).reshape(5, 3)

    kinds = broken_kinds(
        flat,
        {"points": cloud(rng, 5)["points"]},
        Signature(E(3) * Permutations(), {"points": POINTS}, VECTORS),
    )
    assert kinds == set((E(3) * Permutations()).kinds) - {"identity"}


@pytest.mark.parametrize(
    ("group", "kinds"),
    [
        (SO(3), {"rotation"}),
        (O(3), {"rotation", "reflection"}),
        (SE(3), {"rotation", "translation", "rotation + translation"}),
        (Permutations(), {"permutation"}),
    ],
    ids=["SO(3)", "O(3)", "SE(3)", "permutations"],
)
def test_mlp_fails_under_the_kinds_of_the_group(group, kinds, rng):
    net = mlp(15, 32, 1)
    points = cloud(rng, 5)["points"]
    found = broken_kinds(
        lambda points: net(points.flatten()),
        {"points": points},
        Signature(group, {"points": POINTS}, Scalar()),
    )
    assert found == kinds


def test_cross_products_declared_vectors_fail_only_under_reflections(rng):
    def torque(points, forces):
        return torch.linalg.cross(points - points.mean(-2, keepdim=True), forces)

    inputs = {"points": cloud(rng, 5)["points"], "forces": cloud(rng, 5)["points"]}
    reps = {"points": POINTS, "forces": VECTORS}
    group = E(3) * Permutations()
    wrong = Signature(group, reps, VECTORS)
    assert broken_kinds(torque, inputs, wrong) == {
        "reflection",
        "reflection + translation + permutation",
    }
    assert_equivariant(torque, inputs, Signature(group, reps, Pseudovector() * NodeOrder(-2)))
    assert_equivariant(torque, inputs, Signature(SE(3), reps, VECTORS))


@pytest.mark.parametrize("dimension", [2, 3], ids="{}-D".format)
def test_chirality_is_a_pseudoscalar(dimension, rng):
    def volume(points):
        return torch.linalg.det(points[..., 1:, :] - points[..., :1, :])

    inputs = {"points": cloud(rng, 4, dimension + 1, dimension=dimension)["points"]}
    group = E(dimension)
    assert_equivariant(volume, inputs, Signature(group, {"points": Point()}, Pseudoscalar()))
    mirrored = broken_kinds(volume, inputs, Signature(group, {"points": Point()}, Scalar()))
    assert mirrored == {"reflection", "reflection + translation"}


def test_dependence_on_the_origin_fails_only_under_translations(rng):
    def inertia(points):
        return points.square().sum((-1, -2))

    found = broken_kinds(
        inertia,
        {"points": cloud(rng, 5)["points"]},
        Signature(E(3) * Permutations(), {"points": POINTS}, Scalar()),
    )
    assert found == {
        "translation",
        "rotation + translation + permutation",
        "reflection + translation + permutation",
    }


def test_dependence_on_the_order_fails_only_under_permutations(rng):
    def first_force(points, charges):
        moved = interaction(points, charges)
        return moved._replace(energy=moved.forces[..., 0, :].norm(dim=-1))

    assert broken_kinds(first_force, cloud(rng, 5), signature()) == {
        "permutation",
        "rotation + translation + permutation",
        "reflection + translation + permutation",
    }


def test_only_the_broken_output_is_blamed(rng):
    def skewed(points, charges):
        moved = interaction(points, charges)
        return moved._replace(forces=moved.forces * moved.forces.new_tensor([1, 1, 2]))

    report = equivariance_error(skewed, cloud(rng, 5), signature())
    assert report.outputs["forces"] > 0.1
    assert report.outputs["points"] < 1e-12
    assert report.outputs["energy"] < 1e-12


def test_ragged_batches_permute_inside_their_graphs(rng):
    seen = []

    def recorded(points, edge_index, batch, num_graphs):
        seen.append((edge_index, batch))
        return ragged_interaction(points, edge_index, batch, num_graphs)

    inputs = {
        "points": cloud(rng, 6)["points"],
        "edge_index": EDGES,
        "batch": BATCH,
        "num_graphs": 5,
    }
    assert equivariance_error(recorded, inputs, ragged_signature()).max < 1e-12
    assert all(torch.equal(batch, BATCH) for _, batch in seen)
    assert any(not torch.equal(edges, EDGES) for edges, _ in seen)

    def by_slot(points, edge_index, batch, num_graphs):  # control
        weights = torch.arange(1.0, 7.0).unsqueeze(-1)
        return ragged_interaction(points * weights, edge_index, batch, num_graphs)

    assert equivariance_error(by_slot, inputs, ragged_signature()).kinds["permutation"] > 0.1


def test_masks_move_with_the_slots(rng):
    masked = Signature(
        E(3) * Permutations(),
        {**signature().inputs, "mask": Scalar() * NodeOrder(-1)},
        signature().outputs,
    )
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    inputs = {**cloud(rng, 2, 5), "mask": mask}
    assert_equivariant(Interaction(), inputs, masked)
    unmoved = equivariance_error(Interaction(), inputs, signature())  # control
    assert unmoved.kinds["permutation"] > 1e-2
    assert unmoved.kinds["rotation"] < 1e-12


def test_adjacency_matrices_permute_along_both_axes(rng):
    adjacency = torch.rand(5, 5, dtype=torch.float64, generator=rng)

    def paths(adjacency):
        return adjacency @ adjacency

    pair = NodeOrder(-2, -1)
    assert_equivariant(
        paths, {"adjacency": adjacency}, Signature(Permutations(), {"adjacency": pair}, pair)
    )
    wrong = Signature(Permutations(), {"adjacency": pair}, NodeOrder(-2))
    assert broken_kinds(paths, {"adjacency": adjacency}, wrong) == {"permutation"}


def test_irreps_are_checked(rng):
    features = torch.randn(5, 9, dtype=torch.float64, generator=rng)
    inputs = {"features": features}

    def norms(features):
        return torch.cat((features[..., :1], features[..., 1:4] * features[..., :1]), -1)

    right = Signature(O(3), {"features": Irreps("0e+1o+2e")}, Irreps("0e+1o"))
    assert_equivariant(norms, inputs, right)
    wrong = Signature(O(3), {"features": Irreps("0e+1o+2e")}, Irreps("0e+1e"))
    assert broken_kinds(norms, inputs, wrong) == {"reflection"}


def test_far_translations_are_reported_apart(rng):
    inputs = cloud(rng, 5, dtype=torch.float32)
    report = equivariance_error(interaction, inputs, signature())
    eps = torch.finfo(torch.float32).eps
    assert list(report.far["energy"]) == [1e3, 1e6]
    for radii, ratio in report.far["points"].items():
        assert 0 < ratio < 10
        assert ratio * eps * radii > report.max  # did not enter the maximum

    def inertia(points, charges):  # control
        return interaction(points, charges)._replace(energy=points.square().sum())

    assert equivariance_error(inertia, inputs, signature()).far["energy"][1e3] > 1e6


def test_far_translations_that_the_dtype_cannot_hold_are_left_out(rng):
    inputs = cloud(rng, 5, dtype=torch.float16)
    report = equivariance_error(interaction, inputs, signature())
    assert list(report.far["energy"]) == [1e3]


def test_check_is_reproducible_and_follows_the_generator(rng):
    inputs = cloud(rng, 5)
    first, second = (equivariance_error(interaction, inputs, signature()) for _ in range(2))
    assert first.errors == second.errors
    other = equivariance_error(interaction, inputs, signature(), generator=rng)
    assert first.errors != other.errors


def test_samples_cover_every_kind_and_then_the_combinations(rng):
    report = equivariance_error(interaction, cloud(rng, 5), signature(), samples=11)
    counts = {kind: len(errors) for kind, errors in report.errors["energy"].items()}
    assert counts == {
        "identity": 1,
        "rotation": 1,
        "reflection": 1,
        "translation": 1,
        "permutation": 1,
        "rotation + translation + permutation": 3,
        "reflection + translation + permutation": 3,
    }
    with pytest.raises(ValueError, match=r"samples: .* has 7 kinds of elements .*, got 6"):
        equivariance_error(interaction, cloud(rng, 5), signature(), samples=6)


def test_translations_reach_ten_radii(rng):
    longest = []

    def recorded(points):
        longest.append(float(points.mean(0).norm()))
        return points

    points = torch.tensor([[3.0, 0, 0], [-3.0, 0, 0]], dtype=torch.float64)
    moving = Signature(SE(3), {"points": Point()}, Point())
    equivariance_error(recorded, {"points": points}, moving, samples=100)
    near = [length for length in longest if length < 1e3]
    assert 25 < max(near) <= 30


def test_random_modules_are_told_from_wrong_ones(rng):
    class Dropped(nn.Module):
        signature = signature()

        def __init__(self):
            super().__init__()
            self.dropout = nn.Dropout(0.5)

        def forward(self, points, charges):
            return interaction(points, self.dropout(charges))

    inputs = cloud(rng, 64)  # two draws of the mask agree once in 2^64
    with pytest.raises(ValueError, match=r"not deterministic: .* call \.eval\(\)"):
        equivariance_error(Dropped(), inputs)
    assert eqlib.check(Dropped().eval(), inputs).passed
