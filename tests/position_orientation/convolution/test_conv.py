"""The convolution as a layer: spaces, inputs of every form, files, and dtypes."""

import copy
import dataclasses
import io

import pytest
import torch
from torch.autograd import grad, gradcheck, gradgradcheck

from eqlib.position_orientation.convolution.conv import PositionOrientationConv
from eqlib.position_orientation.convolution.given import PairConv
from eqlib.position_orientation.grids import OrientationGrid
from eqlib.position_orientation.options import EdgeOptions
from eqlib.position_orientation.spaces.invariants import pair_invariants
from eqlib.position_orientation.spaces.space import as_space
from eqlib.symmetry import Scalar, equivariance_error
from tests.position_orientation import oracle
from tests.position_orientation.convs import (
    GIVEN,
    KERNEL,
    WAVES,
    conv_of,
    given_of,
    inputs_of,
    orientations_of,
)
from tests.position_orientation.layers import (
    CASES,
    all_pairs,
    normal,
    randomised,
    rotation,
    turned,
)
from tests.tolerances import EQUIVARIANCE


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("attention", [0, 3], ids=["convolution", "attention"])
def test_commutes_with_motions_of_points_and_grid(name, dtype, attention, rng):
    layer = conv_of(name, rng, attention=attention).to(dtype)
    inputs = inputs_of(layer, rng, dtype=dtype)
    assert equivariance_error(layer, inputs, generator=rng).max < EQUIVARIANCE[dtype]
    if CASES[name][3] != "distance":
        # control: without the orientations among the inputs, the grid stays as it is
        orientations = inputs.pop("orientations")
        assert torch.equal(orientations, layer.grid.orientations.to(dtype))
        assert equivariance_error(layer, inputs, generator=rng).max > 1e-2


@pytest.mark.parametrize("name", list(GIVEN))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("kernel", [KERNEL, WAVES], ids=["polynomials", "waves"])
def test_given_orientations_commute_with_motions(name, dtype, kernel, rng):
    layer = given_of(name, rng, kernel=kernel).to(dtype)
    inputs = inputs_of(layer, rng, dtype=dtype)
    assert equivariance_error(layer, inputs, generator=rng).max < EQUIVARIANCE[dtype]
    if name != "SE3":
        mirror = rotation(rng, layer.space.dimension, reflected=True).to(dtype)
        moved = {
            "features": inputs["features"],
            "points": inputs["points"] @ mirror.mT,
            "orientations": inputs["orientations"] @ mirror.mT,
        }
        expected = layer(**inputs)
        error = (layer(**moved) - expected).abs().max() / expected.abs().max()
        assert (error < EQUIVARIANCE[dtype]) == name.endswith("E")


@pytest.mark.parametrize("name", list(GIVEN))
def test_given_orientations_agree_with_the_sum_over_pairs(name, rng):
    space, group = GIVEN[name]
    conv = PairConv(3, as_space(space), as_space(space).group(group), 6, 5, 2, 1)
    conv = randomised(conv.double(), rng)
    conv.implementation = "naive"
    layer = given_of(name, rng, edge_scalars=1)
    layer.spatial = conv
    inputs = inputs_of(layer, rng, nodes=4)
    edge_index, _ = all_pairs([4])
    scalars = normal(rng, edge_index.shape[1], 1)
    with torch.no_grad():
        expected = torch.zeros(4, 3, dtype=torch.float64)
        loops = [(i, i, torch.zeros(1, dtype=torch.float64)) for i in range(4)]
        for s, t, row in [*zip(*edge_index.tolist(), scalars, strict=True), *loops]:
            offset = oracle.rescaled(inputs["points"][s] - inputs["points"][t], reach=10.0)
            first, second = inputs["orientations"][t], inputs["orientations"][s]
            seen = pair_invariants(offset, first, second, space, group=group)
            basis = oracle.network(torch.cat([oracle.products(seen, 2), row]), conv)
            expected[t] += (conv.weight @ basis) * inputs["features"][s]
    found = layer(**inputs, edge_index=edge_index, edge_scalars=scalars)
    torch.testing.assert_close(found, layer.mix(expected), atol=1e-11, rtol=1e-11)


def test_azimuths_that_the_published_invariants_forget_are_seen(rng):
    offset = torch.tensor([1.0, 0.0, 0.3], dtype=torch.float64)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    outputs = {}
    for invariants in ("complete", "ponita"):
        conv = PairConv(3, as_space("R3xS2"), as_space("R3xS2").group(), invariants=invariants)
        conv = randomised(conv.double(), rng)
        conv.implementation = "naive"
        layer = given_of("R3xS2", rng)
        layer.spatial = conv
        found = []
        for azimuth in (0.0, 1.0, -1.0):
            polar, angle = torch.tensor([0.8, azimuth], dtype=torch.float64)
            source = [polar.sin() * angle.cos(), polar.sin() * angle.sin(), polar.cos()]
            found.append(
                layer(
                    torch.ones(2, 3, dtype=torch.float64),
                    torch.stack([torch.zeros_like(offset), offset]),
                    edge_index=torch.tensor([[1], [0]]),
                    orientations=torch.stack([up, torch.stack(source)]),
                )[0]
            )
        outputs[invariants] = torch.stack(found)
    complete, published = outputs["complete"], outputs["ponita"]
    for other in (1, 2):
        assert (complete[other] - complete[0]).abs().max() > 1e-3
        torch.testing.assert_close(published[other], published[0])
    assert (complete[1] - complete[2]).abs().max() > 1e-3


def test_clouds_of_one_size_graphs_and_masks_agree(rng):
    layer = conv_of("R3xS2", rng)
    grid = layer.grid
    features, points = normal(rng, 2, 4, grid.size, 3), normal(rng, 2, 4, 3)
    batch = torch.tensor([0] * 4 + [1] * 4)
    dense = layer(features, points)
    assert dense.shape == (2, 4, grid.size, 2)
    flat = layer(features.flatten(0, 1), points.flatten(0, 1), batch=batch, num_graphs=2)
    torch.testing.assert_close(dense.flatten(0, 1), flat)
    edge_index, _ = all_pairs([4, 4])
    given = layer(features.flatten(0, 1), points.flatten(0, 1), edge_index=edge_index)
    torch.testing.assert_close(given, flat)
    mask = torch.tensor([[True, True, True, False], [False, True, True, True]])
    masked = layer(features, points, mask=mask)
    assert (masked[~mask] == 0).all()
    alone = layer(features[mask], points[mask], batch=batch[mask.flatten()], num_graphs=2)
    torch.testing.assert_close(masked[mask], alone)


def test_clouds_with_given_orientations_may_be_masked(rng):
    layer = given_of("R3xS2", rng)
    features, points = normal(rng, 2, 4, 3), normal(rng, 2, 4, 3)
    orientations = orientations_of(layer.space, rng, 8).reshape(2, 4, 3)
    mask = torch.tensor([[True, True, True, False], [False, True, True, True]])
    for tensor in (features, points, orientations):
        tensor[~mask] = torch.nan
    found = layer(features, points, orientations=orientations, mask=mask)
    assert (found[~mask] == 0).all()
    batch = torch.tensor([0] * 3 + [1] * 3)
    kept = {"orientations": orientations[mask], "batch": batch, "num_graphs": 2}
    torch.testing.assert_close(found[mask], layer(features[mask], points[mask], **kept))


def test_a_layer_may_be_made_without_weights(rng):
    layer = conv_of("R3xS2", rng)
    with torch.device("meta"):
        empty = PositionOrientationConv(3, 2, "R3xS2", 8, kernel=KERNEL)
        PositionOrientationConv(3, 2, "R3xS2", "given", kernel=KERNEL)
    empty.load_state_dict(layer.state_dict(), assign=True)
    inputs = inputs_of(layer, rng)
    assert torch.equal(empty(**inputs), layer(**inputs))


@pytest.mark.parametrize("given", [False, True], ids=["grid", "given"])
def test_relabelling_clouds_of_one_size_moves_matrices_and_mask_along(given, rng):
    layer = (given_of if given else conv_of)("R3xS2", rng, edge_scalars=1)
    flat = inputs_of(layer, rng, nodes=8)
    moved = ["features", "points", "orientations"] if given else ["features", "points"]
    inputs = {**flat, **{name: flat[name].unflatten(0, (2, 4)) for name in moved}}
    inputs["edge_scalars"] = normal(rng, 2, 4, 4, 1)
    inputs["mask"] = torch.tensor([[True, True, False, True], [True] * 4])
    assert equivariance_error(layer, inputs, generator=rng).max < EQUIVARIANCE[torch.float64]
    # control: scalars in the order of edges do not move
    names = dict(layer.signature.inputs)
    signature = dataclasses.replace(layer.signature, inputs={**names, "edge_scalars": Scalar()})
    assert equivariance_error(layer, inputs, signature, generator=rng).max > 1e-2


def test_every_cloud_may_turn_the_grid(rng):
    layer = conv_of("R3xS2", rng)
    features, points = normal(rng, 2, 4, layer.grid.size, 3), normal(rng, 2, 4, 3)
    motions = [rotation(rng, 3) for _ in range(2)]
    orientations = torch.stack([turned(layer.grid.orientations, motion) for motion in motions])
    moved = torch.stack([cloud @ m.mT for cloud, m in zip(points, motions, strict=True)])
    expected = layer(features, points)
    found = layer(features, moved, orientations=orientations)
    torch.testing.assert_close(found, expected)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(layer(features, moved), expected)


@pytest.mark.parametrize("search", ["knn", "radius"])
def test_masked_nodes_take_no_place_in_a_search(search, rng):
    layer = conv_of("R3xS2", rng, edges=EdgeOptions(search=search, k=2, radius=1.5))
    points, features = normal(rng, 2, 6, 3), normal(rng, 2, 6, layer.grid.size, 3)
    mask = torch.tensor([[True, False, True, True, False, True], [True] * 4 + [False] * 2])
    found = layer(features, points, mask=mask)
    batch = torch.arange(2).repeat_interleave(mask.sum(1))
    torch.testing.assert_close(found[mask], layer(features[mask], points[mask], batch=batch))
    assert (found[~mask] == 0).all()


@pytest.mark.parametrize("search", ["knn", "radius"])
def test_searches(search, rng):
    edges = EdgeOptions(search=search, k=2, radius=1.5)
    layer = conv_of("R3xS2", rng, edges=edges)
    inputs = inputs_of(layer, rng, nodes=8)
    found = layer(**inputs)
    assert found.shape == (8, layer.grid.size, 2)
    everything = conv_of("R3xS2", rng)
    everything.load_state_dict(layer.state_dict())
    assert (everything(**inputs) - found).abs().max() > 1e-3


@pytest.mark.parametrize("given", [False, True], ids=["grid", "given"])
def test_derivatives(given, rng):
    layer = given_of("R3xS2", rng) if given else conv_of("R2xS1", rng)
    inputs = inputs_of(layer, rng, nodes=3)
    inputs["points"][1] = inputs["points"][0]
    values = tuple(value.requires_grad_() for value in inputs.values())

    def of(*values):
        return layer(**dict(zip(inputs, values, strict=True)))[:2]

    assert gradcheck(of, values)
    assert gradgradcheck(of, values, fast_mode=True)


@pytest.mark.parametrize("nodes", [0, 1])
@pytest.mark.parametrize("given", [False, True], ids=["grid", "given"])
def test_no_node_and_one(nodes, given, rng):
    layer = given_of("R3xS2", rng) if given else conv_of("R3xS2", rng)
    inputs = inputs_of(layer, rng, nodes=1)
    count = slice(0, nodes)
    inputs["features"], inputs["points"] = inputs["features"][count], inputs["points"][count]
    if given:
        inputs["orientations"] = inputs["orientations"][count]
    points = inputs["points"].requires_grad_()
    y = layer(**inputs)
    assert y.shape == (nodes, *inputs["features"].shape[1:-1], 2)
    assert grad(y.sum(), points, allow_unused=True)[0] is not None


def test_layouts_of_the_inputs_do_not_matter(rng):
    layer = conv_of("R3xS2", rng)
    inputs = inputs_of(layer, rng)
    expected = layer(**inputs)
    strided = {name: value.mT.contiguous().mT for name, value in inputs.items()}
    assert torch.equal(layer(**strided), expected)
    same = inputs["features"][:1, :1].expand(5, layer.grid.size, -1)
    found = layer(**{**inputs, "features": same})
    torch.testing.assert_close(found, layer(**{**inputs, "features": same.contiguous()}))


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-5), (torch.bfloat16, 5e-2), (torch.float16, 1e-2)],
    ids=["float32", "bfloat16", "float16"],
)
@pytest.mark.parametrize("given", [False, True], ids=["grid", "given"])
def test_dtypes_agree_with_float64(dtype, tolerance, given, rng):
    layer = given_of("R3xS2", rng) if given else conv_of("R3xS2", rng)
    inputs = inputs_of(layer, rng)
    low = {name: value.to(dtype) for name, value in inputs.items()}
    lower = copy.deepcopy(layer).to(dtype)
    reference = lower.double()
    expected = reference(**{name: value.double() for name, value in low.items()})
    found = copy.deepcopy(layer).to(dtype)(**low)
    assert found.dtype == dtype
    assert (found.double() - expected).abs().max() < tolerance * expected.abs().max()


def test_autocast_computes_kernels_in_float32(rng):
    layer = conv_of("R3xS2", rng).float()
    inputs = inputs_of(layer, rng, dtype=torch.float32)
    expected = layer(**inputs)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(**inputs)
    assert (found.float() - expected).abs().max() < 5e-2 * expected.abs().max()


def test_a_saved_layer_gives_the_same(rng):
    layer = conv_of("R3xS2", rng)
    inputs = inputs_of(layer, rng)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = conv_of("R3xS2", torch.Generator().manual_seed(1))
    assert not torch.equal(other(**inputs), layer(**inputs))
    other.load_state_dict(torch.load(file))
    assert torch.equal(other(**inputs), layer(**inputs))
    assert torch.equal(copy.deepcopy(layer)(**inputs), layer(**inputs))


BAD = {
    "features": {"features": torch.zeros(5, 7, 3)},
    "channels": {"features": torch.zeros(5, 8, 4)},
    "edge_scalars": {"edge_scalars": torch.zeros(5, 2), "edge_index": torch.zeros(2, 5).long()},
    "orientations": {"orientations": torch.zeros(8, 2)},
}


@pytest.mark.unchecked
@pytest.mark.parametrize("case", list(BAD))
def test_unfit_inputs_are_named(case, rng):
    layer = conv_of("R3xS2", rng).float()
    inputs = {"features": torch.zeros(5, 8, 3), "points": torch.zeros(5, 3), **BAD[case]}
    with pytest.raises(ValueError, match=case if case != "channels" else "features"):
        layer(**inputs)


@pytest.mark.unchecked
@pytest.mark.parametrize("given", [False, True], ids=["grid", "given"])
def test_features_of_another_dtype_are_refused(given, rng):
    layer = (given_of if given else conv_of)("R3xS2", rng).float()
    inputs = inputs_of(layer, rng, dtype=torch.float32)
    double = {**inputs, "features": inputs["features"].double()}
    with pytest.raises(TypeError, match=r"features: got torch\.float64, .* torch\.float32"):
        layer(**double)
    # control: points may be more precise, and autocast converts features
    torch.testing.assert_close(
        layer(**{**inputs, "points": inputs["points"].double()}), layer(**inputs)
    )
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(**{**inputs, "features": inputs["features"].bfloat16()}).isfinite().all()


@pytest.mark.unchecked
@pytest.mark.parametrize("name", ["R2xS1", "R3xS2", "SE3"])
def test_given_orientations_that_are_none_are_refused(name, rng):
    layer = given_of(name, rng)
    inputs = inputs_of(layer, rng)
    for factor in (0.0, -1.0 if name == "SE3" else 2.0, torch.nan):
        orientations = inputs["orientations"].clone()
        orientations[3] *= factor
        with pytest.raises(ValueError, match=r"orientations has .* normalise them first"):
            layer(**{**inputs, "orientations": orientations})


@pytest.mark.unchecked
def test_unfit_options_are_named(rng):
    with pytest.raises(ValueError, match="channels_in"):
        PositionOrientationConv(0, 2)
    with pytest.raises(ValueError, match=r"grid of SE3.*space='SE3'"):
        PositionOrientationConv(3, 2, "R3xS2", OrientationGrid("SE3", 4))
    with pytest.raises(ValueError, match="'given'"):
        PositionOrientationConv(3, 2, "R3xS2", "all")
    with pytest.raises(ValueError, match="R3 has none"):
        PositionOrientationConv(3, 2, "R3", "given")
    with pytest.raises(ValueError, match="attention"):
        PositionOrientationConv(3, 2, "R3xS2", "given", attention=1)
    with pytest.raises(TypeError, match=r"edges is of type dict; expected EdgeOptions: write"):
        PositionOrientationConv(3, 2, edges={"radius": 2.0})
    for orientations in (8, "given"):
        with pytest.raises(TypeError, match="kernel is of type str; expected KernelOptions"):
            PositionOrientationConv(3, 2, "R3xS2", orientations, kernel="naive")
        with pytest.raises(TypeError, match="neighbours is 'knn'; expected a number"):
            PositionOrientationConv(3, 2, "R3xS2", orientations, neighbours="knn")
    with pytest.raises(ValueError, match="orientations has shape None"):
        given_of("R3xS2", rng)(torch.zeros(5, 3).double(), torch.zeros(5, 3).double())
