"""Networks with a turned grid are equivariant to rounding; those without are not."""

import pytest
import torch

from eqlib.frames import FrameAverage
from eqlib.geometry import complete_graph
from eqlib.position_orientation import OrientationGrid, TurnOptions
from eqlib.position_orientation.fields.readout import read_vectors
from eqlib.symmetry import as_group, equivariance_error
from tests.position_orientation.nets import cloud, network, uneven_grid
from tests.tolerances import EQUIVARIANCE

ORIENTED = [
    ("R3xS2", "SE(3)"),
    ("R3xS2", "E(3)"),
    ("SE3", "SE(3)"),
    ("R2xS1", "SE(2)"),
    ("R2xS1", "E(2)"),
    ("SE2", "SE(2)"),
]
POSITIONS = [("R2", "SE(2)"), ("R2", "E(2)"), ("R3", "SE(3)"), ("R3", "E(3)")]


def worst_error(net, inputs, group, rng):
    """Return the largest relative error under motions by up to one radius."""
    plain, worst = net(**inputs), {}
    motions = as_group(group).sample(rng, 8, kinds=as_group(group).kinds, reach=1.0)
    kinds = net.signature
    for motion in (motions[i] for i in range(8)):
        moved = dict(inputs)
        for name in ("points", "scalars", "vectors"):
            moved[name] = kinds.inputs[name].factors[0].act(motion, inputs[name])
        for name, found in net(**moved)._asdict().items():
            if name == "gap":
                continue
            kind, value = kinds.outputs[name].factors[0], getattr(plain, name)
            expected = kind.act(motion, value.double())
            error = float((found - expected).abs().max() / expected.abs().max())
            worst[name] = max(worst.get(name, 0.0), error)
    return max(worst.values())


@pytest.mark.parametrize(("space", "group"), [*ORIENTED, *POSITIONS])
def test_networks_commute_with_motions_and_permutations(space, group, rng):
    net, inputs = network(space, group), cloud(rng, space)
    report = equivariance_error(net, inputs, samples=16, generator=rng)
    assert net.signature.exact
    assert report.max < EQUIVARIANCE[torch.float64], report


@pytest.mark.parametrize(("space", "group"), ORIENTED)
def test_the_plain_grid_does_not(space, group, rng):
    net = network(space, group, exact=False)
    assert not net.signature.exact
    assert equivariance_error(net, cloud(rng, space), samples=16, generator=rng).max > 1e-3


@pytest.mark.parametrize(("space", "group"), ORIENTED)
def test_a_grid_without_symmetry_needs_all_signs(space, group, rng):
    sizes = {"R3xS2": 13, "R2xS1": 5, "SE2": 5, "SE3": 11}
    grid = uneven_grid(space, sizes[space])
    inputs = cloud(rng, space)
    full = network(space, group, orientations=grid)
    assert full.turns.signs == "full"
    assert equivariance_error(full, inputs, samples=16, generator=rng).max < 1e-12
    # control: one pass with arbitrary signs is not exact, and does not say that it is
    one = network(space, group, orientations=grid, turns=TurnOptions(signs="one"))
    assert not one.signature.exact
    assert equivariance_error(one, inputs, samples=16, generator=rng).max > 1e-3


@pytest.mark.parametrize(
    ("dtype", "gap"), [(torch.float64, 1e-3), (torch.float32, 2e-2)], ids=["float64", "float32"]
)
@pytest.mark.parametrize(
    ("space", "group"),
    [("R3xS2", "SE(3)"), ("R3xS2", "E(3)"), ("R2xS1", "SE(2)"), ("R2xS1", "E(2)")],
)
def test_small_gaps_are_enough(space, group, dtype, gap, rng):
    inputs = cloud(rng, space, sizes=(12, 16), gap=1.05 * gap, dtype=dtype)
    net = network(space, group, dtype=dtype)
    assert gap < net(**inputs).gap.min() < 1.1 * gap
    with torch.no_grad():
        assert worst_error(net, inputs, group, rng) < EQUIVARIANCE[dtype]
        plain = network(space, group, dtype=dtype, exact=False)
        assert worst_error(plain, inputs, group, rng) > 1e-3


@pytest.mark.parametrize(("space", "group"), [("R3xS2", "SE(3)"), ("R2xS1", "SE(2)")])
def test_nets_without_reflections_are_not_equivariant_under_them(space, group, rng):
    net, inputs = network(space, group), cloud(rng, space)
    reflecting = network(space, group.replace("SE", "E")).signature
    assert equivariance_error(net, inputs, reflecting, samples=16, generator=rng).max > 1e-3


@pytest.mark.parametrize("space", ["R3xS2", "SE3", "R2xS1"])
def test_mirror_images_are_told_apart_without_reflections_only(space, rng):
    inputs = {name: part[:7] for name, part in cloud(rng, space, sizes=(7,)).items()}
    inputs["vectors"] = torch.zeros_like(inputs["vectors"])  # only the points are handed
    mirror = torch.ones(inputs["points"].shape[-1], dtype=torch.float64)
    mirror[0] = -1
    mirrored = {**inputs, "points": inputs["points"] * mirror}
    n = len(mirror)
    handed = network(space, f"SE({n})", pool="mean")
    difference = handed(**inputs).scalars - handed(**mirrored).scalars
    assert difference.abs().max() > 1e-5
    if space == "SE3":
        return
    blind = network(space, f"E({n})", pool="mean")
    difference = blind(**inputs).scalars - blind(**mirrored).scalars
    assert difference.abs().max() < 1e-13


def test_the_turned_grid_is_what_is_computed(rng):
    """Offsets in the axes of the frame give what a grid turned by it gives."""
    net, inputs = network(layers=1, readout="last"), cloud(rng, sizes=(6,))
    del inputs["batch"]
    found = net.encode(**inputs)
    turned = OrientationGrid("R3xS2", 20)
    turned.orientations = net.kernels.grid.orientations @ found.rotations[0].mT
    plain = network(layers=1, readout="last", exact=False, orientations=turned)
    plain.load_state_dict({**net.state_dict(), "kernels.grid.orientations": turned.orientations})
    torch.testing.assert_close(plain.encode(**inputs).features, found.features)
    torch.testing.assert_close(plain(**inputs).vectors, net(**inputs).vectors)
    # control: the grid matters
    untouched = network(layers=1, readout="last", exact=False)
    assert (untouched(**inputs).vectors - net(**inputs).vectors).abs().max() > 1e-3


@pytest.mark.parametrize("pool", ["mean", "sum"])
def test_pooled_outputs_are_equivariant(pool, rng):
    net, inputs = network(pool=pool), cloud(rng)
    out = net(**inputs)
    assert out.scalars.shape == (2, 2)
    assert out.vectors.shape == (2, 1, 3)
    assert equivariance_error(net, inputs, samples=16, generator=rng).max < 1e-12


@pytest.mark.parametrize("space", ["R3xS2", "R3", "SE3"])
def test_edges_and_their_scalars_are_equivariant(space, rng):
    net, inputs = network(space, edge_scalars=1), cloud(rng, space)
    inputs["edge_index"] = complete_graph(inputs["batch"], 2)
    inputs["edge_scalars"] = torch.randn(
        inputs["edge_index"].shape[1], 1, dtype=torch.float64, generator=rng
    )
    assert equivariance_error(net, inputs, samples=16, generator=rng).max < 1e-12
    changed = net(**{**inputs, "edge_scalars": inputs["edge_scalars"] + 1})
    assert (changed.scalars - net(**inputs).scalars).abs().max() > 1e-3


def test_vectors_of_positions_come_from_offsets_and_vectors(rng):
    net, inputs = network("R3"), cloud(rng, "R3", sizes=(1,))
    out = net(**inputs)
    v = inputs["vectors"][0, 0]
    assert torch.linalg.cross(out.vectors[0, 0], v).abs().max() < 1e-14
    assert out.vectors.abs().max() > 1e-4
    assert torch.equal(out.gap, torch.ones(1, dtype=torch.float64))


def test_frame_average_makes_the_plain_network_exact_at_symmetric_clouds(rng):
    """The way out where no frame is determined: weighted frames of a cube."""
    net = network(exact=False, orientations=12, channels=4, layers=1)
    averaged = FrameAverage(net, mode="weighted", signature=net.signature)
    inputs = cloud(rng, sizes=(8,))
    inputs["points"] = torch.cartesian_prod(*3 * [torch.tensor([-1.0, 1.0])]).double()
    inputs["scalars"], inputs["vectors"] = torch.ones(8, 2).double(), inputs["points"][:, None]
    inputs["edge_index"] = complete_graph(inputs["batch"], 1)
    assert equivariance_error(averaged, inputs, samples=16, generator=rng).max < 1e-12
    assert equivariance_error(network(), inputs, samples=16, generator=rng).max > 1e-4


def test_encoded_features_are_functions_on_the_turned_grid(rng):
    net, inputs = network(), cloud(rng)
    turn = as_group("SO(3)").sample(rng, 1).matrix[0]
    found = net.encode(**inputs)
    moved = {**inputs, "points": inputs["points"] @ turn.mT, "vectors": inputs["vectors"] @ turn.mT}
    other = net.encode(**moved)

    def vectors(code):
        own = (net.kernels.grid.orientations @ code.rotations.mT)[inputs["batch"]]
        return read_vectors(code.features, own, net.kernels.grid.weights)

    torch.testing.assert_close(vectors(other), vectors(found) @ turn.mT)
