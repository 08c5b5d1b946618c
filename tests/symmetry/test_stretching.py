"""Groups beyond isometries: their matrices, and the checks under them."""

import math

import pytest
import torch

import eqlib
from eqlib.symmetry import (
    GL,
    Affine,
    Element,
    Irreps,
    Lorentz,
    NodeOrder,
    Permutations,
    Point,
    Pseudovector,
    Scalar,
    Scaling,
    Signature,
    Similarity,
    Vector,
    equivariance_error,
)
from eqlib.symmetry.lorentz import boosts
from tests.symmetry.maps import POINTS, VECTORS, cloud
from tests.tolerances import EQUIVARIANCE

SAMPLES = 2_000
ETA = torch.diag(torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=torch.float64))


def eye(dimension):
    return torch.eye(dimension, dtype=torch.float64)


@pytest.mark.parametrize("group", [Scaling(2), Scaling(3), Similarity(2), Similarity(3)], ids=str)
def test_similarities_are_orthogonal_up_to_a_log_uniform_scale(group, rng):
    matrix = group.sample(rng, SAMPLES).matrix
    gram = matrix.mT @ matrix
    scale = gram[:, 0, 0].sqrt()
    torch.testing.assert_close(gram, scale[:, None, None] ** 2 * eye(group.dimension))
    assert 0.5 <= scale.min() < 0.51
    assert 1.96 < scale.max() <= 2
    assert abs(scale.log().mean()) < 0.03
    assert abs(scale.log().square().mean() / math.log(2) ** 2 - 1 / 3) < 0.03
    turned = Element(matrix).orthogonal
    torch.testing.assert_close(turned, matrix / scale[:, None, None])


@pytest.mark.parametrize("group", [GL(2), GL(3), Affine(3)], ids=str)
def test_linear_maps_are_stretches_of_bounded_condition_turned_at_random(group, rng):
    matrix = group.sample(rng, SAMPLES).matrix
    widths = torch.linalg.svdvals(matrix)
    condition = widths[:, 0] / widths[:, -1]
    assert condition.max() <= 10
    assert condition.median() > 1.8
    assert abs(widths.log().mean()) < 0.03
    signs = torch.linalg.det(matrix).sign()
    assert abs(signs.mean()) < 0.05
    stretch = group.sample(rng, 5, kinds=["stretch"]).matrix
    assert torch.equal(stretch, stretch.mT)
    assert torch.linalg.eigvalsh(stretch).min() > 0


@pytest.mark.parametrize("orthochronous", [False, True], ids=["all", "orthochronous"])
@pytest.mark.parametrize("dimension", [2, 3, 4], ids="{}-D".format)
def test_lorentz_matrices_keep_intervals(dimension, orthochronous, rng):
    group = Lorentz(dimension, orthochronous=orthochronous)
    metric = ETA[:dimension, :dimension]
    matrix = group.sample(rng, SAMPLES).matrix
    torch.testing.assert_close(matrix.mT @ metric @ matrix, metric.expand_as(matrix))
    rapidity = torch.acosh(matrix[:, 0, 0].abs())
    assert 0.97 < rapidity.max() <= 1
    flips = {True: [False], False: [False, True]}[orthochronous]
    assert (matrix[:, 0, 0] < 0).unique().tolist() == flips
    both = [-1.0] if dimension == 2 and orthochronous else [-1.0, 1.0]
    assert torch.linalg.det(matrix).round().unique().tolist() == both
    # control: linear maps of the same space do not keep them
    other = GL(dimension).sample(rng, 1).matrix
    assert (other.mT @ metric @ other - metric).abs().max() > 0.1


def test_every_component_of_the_lorentz_group_is_drawn_as_often(rng):
    matrix = Lorentz(4).sample(rng, SAMPLES).matrix
    component = 2 * (matrix[:, 0, 0] < 0) + (torch.linalg.det(matrix) < 0)
    assert (component.bincount(minlength=4) / SAMPLES - 0.25).abs().max() < 0.03


@pytest.mark.parametrize("dimension", [2, 3, 4], ids="{}-D".format)
def test_boosts_are_exponentials_of_their_generators(dimension, rng):
    rapidity = torch.randn(5, dimension - 1, dtype=torch.float64, generator=rng)
    generator = torch.zeros(5, dimension, dimension, dtype=torch.float64)
    generator[:, 0, 1:] = generator[:, 1:, 0] = rapidity
    torch.testing.assert_close(boosts(rapidity), torch.linalg.matrix_exp(generator))
    assert torch.equal(boosts(0 * rapidity), eye(dimension).expand(5, -1, -1))


@pytest.mark.parametrize(
    ("matrix", "kind"),
    [
        ([[2.0, 0.0], [0.0, 2.0]], "scaling"),
        ([[0.0, -2.0], [2.0, 0.0]], "rotation + scaling"),
        ([[0.0, 2.0], [2.0, 0.0]], "reflection + scaling"),
        ([[2.0, 0.0], [0.0, 1.0]], "stretch"),
        ([[1.0, 1.0], [0.0, 1.0]], "rotation + stretch"),
        ([[-2.0, 0.0], [0.0, 1.0]], "reflection + stretch"),
        ([[1.25, 0.75], [0.75, 1.25]], "boost"),
        ([[-1.25, -0.75], [-0.75, -1.25]], "rotation + boost"),
        ([[-1.25, -0.75], [0.75, 1.25]], "reflection + boost"),
        ([[1.0, 0.0], [0.0, 1.0]], "identity"),
        ([[-1.0, 0.0], [0.0, -1.0]], "rotation"),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_kinds_are_the_polar_factors_of_the_matrix(matrix, kind, dtype):
    assert Element(torch.tensor(matrix, dtype=dtype)).kinds == (kind,)


def test_rounding_is_no_kind_of_motion(rng):
    for group in (Similarity(3), GL(3), Lorentz(4)):
        element = group.sample(rng, 20)
        undone = group.compose(element, group.inverse(element))
        assert set(Element(undone.matrix).kinds) == {"identity"}


def moments(points):
    """Centroid and covariance of a cloud."""
    centroid = points.mean(-2, keepdim=True)
    offsets = points - centroid
    return centroid, offsets, offsets.mT @ offsets / points.shape[-2]


def similar(points):
    """Moved towards the neighbours, by lengths in units of the radius: for similarities."""
    centroid, offsets, covariance = moments(points)
    radius = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None].sqrt()
    return centroid + offsets * torch.tanh(offsets.norm(dim=-1, keepdim=True) / radius)


def affine(points):
    """Moved by lengths in units of the covariance: for affine maps."""
    centroid, offsets, covariance = moments(points)
    squares = (offsets @ torch.linalg.inv(covariance) * offsets).sum(-1, keepdim=True)
    return centroid + offsets * torch.tanh(squares)


def minkowski(momenta):
    """Mixed by the products of the metric: for the Lorentz group."""
    products = momenta @ ETA[: momenta.shape[-1], : momenta.shape[-1]].to(momenta) @ momenta.mT
    return torch.tanh(products / 4) @ momenta


def name_of(value):
    """A group as it is written, a map by its name."""
    return getattr(value, "__name__", str(value))


MAPS = [
    (Similarity(2), similar),
    (Similarity(3), similar),
    (Affine(2), affine),
    (Affine(3), affine),
    (Lorentz(2), minkowski),
    (Lorentz(4), minkowski),
    (Lorentz(4, orthochronous=True), minkowski),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("group", "fn"), MAPS, ids=name_of)
def test_equivariant_maps_pass(group, fn, dtype, rng):
    kind = POINTS if group.translations else VECTORS
    signature = Signature(group * Permutations(), {"points": kind}, kind)
    points = cloud(rng, 2, 7, dimension=group.dimension, dtype=dtype)["points"]
    report = equivariance_error(lambda points: fn(points), {"points": points}, signature)
    assert report.max < EQUIVARIANCE[dtype], report
    assert set(report.kinds) == set(signature.group.kinds)


@pytest.mark.parametrize(
    ("group", "fn", "broken"),
    [
        (Similarity(3), lambda x: similar(x) + 0.1, {"rotation", "reflection", "scaling"}),
        (Similarity(3), lambda x: x + torch.tanh(x - moments(x)[0]), {"rotation", "scaling"}),
        (Affine(3), similar, {"stretch"}),
        (Affine(3), lambda x: affine(x) + affine(x)[..., :1, :], {"translation"}),
        (GL(3), minkowski, {"rotation", "stretch"}),
        (Lorentz(3), similar, {"boost"}),
        (Lorentz(3), lambda x: minkowski(x).abs(), {"rotation", "reflection", "boost"}),
        (Lorentz(3), lambda x: x * x[..., :1], {"boost"}),
    ],
    ids=[
        "constant offset",
        "tanh of coordinates",
        "similar under affine",
        "sum of two points",
        "metric under GL",
        "similar under Lorentz",
        "absolute values",
        "time as a scalar",
    ],
)
def test_wrong_maps_are_found_under_the_kinds_that_they_break(group, fn, broken, rng):
    kind = POINTS if group.translations else VECTORS
    signature = Signature(group, {"points": kind}, kind)
    points = cloud(rng, 7, dimension=group.dimension)["points"]
    kinds = equivariance_error(lambda points: fn(points), {"points": points}, signature).kinds
    assert all(kinds[kind] > 1e-2 for kind in broken), kinds
    assert kinds["identity"] < 1e-12


def test_reversals_of_time_and_of_space_are_found_in_few_samples():
    momenta = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    signature = Signature(Lorentz(4), {"momenta": Vector()}, Vector())
    future = Signature(Lorentz(4, orthochronous=True), {"momenta": Vector()}, Vector())

    momenta[:, 0] += 5 * momenta[:, 0].sign()  # timelike, so that boosts keep the sign of time

    def absolute(momenta):
        return momenta * momenta[:, :1].sign()

    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        inputs = {"momenta": momenta}
        report = equivariance_error(absolute, inputs, signature, generator=generator)
        assert report.max > 1
        report = equivariance_error(absolute, inputs, future, generator=generator)
        assert report.max < 1e-12


def test_a_wrong_degree_of_scaling_is_found(rng):
    signature = Signature(
        Similarity(3),
        {"points": Point() * NodeOrder(-2)},
        {"square": Vector(), "volume": Scalar(), "spin": Pseudovector()},
    )

    def degrees(points):
        offsets = points - points.mean(-2, keepdim=True)
        first, second = offsets[..., 0, :], offsets[..., 1, :]
        return {
            "square": first * second.norm(),
            "volume": second.norm() ** 3,
            "spin": torch.linalg.cross(first, second),
        }

    def normalised(points):  # control: of the right degrees
        found = degrees(points)
        radius = (points - points.mean(-2, keepdim=True)).norm()
        return {
            "square": found["square"] / radius,
            "volume": found["volume"] / radius**3,
            "spin": found["spin"] / radius,
        }

    inputs = {"points": cloud(rng, 5)["points"]}
    wrong = equivariance_error(degrees, inputs, signature)
    assert all(max(wrong.errors[name]["scaling"]) > 1e-2 for name in wrong.outputs)
    assert wrong.kinds["rotation"] < 1e-12
    assert equivariance_error(normalised, inputs, signature).max < 1e-12


def test_errors_are_relative_to_the_moved_output(rng):
    # Without this a map that is wrong by 1 % would seem half as wrong where lengths halve.
    signature = Signature(Scaling(3), {"points": VECTORS}, VECTORS)
    points = cloud(rng, 6)["points"]
    size = points.norm()

    def wrong(points):  # by one per cent, save at the cloud as given
        return points * (1.0 if torch.equal(points.norm(), size) else 1.01)

    found = equivariance_error(wrong, {"points": points}, signature, samples=20)
    errors = found.errors["output"]["scaling"]
    torch.testing.assert_close(torch.tensor(errors), torch.full((19,), 0.01), atol=1e-12, rtol=0)


def test_irreps_turn_under_similarities(rng):
    signature = Signature(
        Similarity(3) * Permutations(),
        {"points": POINTS},
        Irreps("1o") * NodeOrder(-2),
    )

    def directions(points):
        return torch.nn.functional.normalize(points - points.mean(-2, keepdim=True), dim=-1)

    def offsets(points):  # control: these scale
        return points - points.mean(-2, keepdim=True)

    inputs = {"points": cloud(rng, 5)["points"]}
    assert equivariance_error(directions, inputs, signature).max < 1e-12
    wrong = equivariance_error(offsets, inputs, signature).kinds
    assert wrong["scaling"] > 1e-2 > 1e-12 > wrong["rotation"]


def test_reports_name_the_kinds(rng):
    signature = Signature(Lorentz(4), {"momenta": Vector()}, Vector())
    momenta = cloud(rng, 5, dimension=4)["points"]
    report = str(eqlib.check(lambda momenta: momenta.abs(), {"momenta": momenta}, signature))
    assert "Lorentz(4) in float64: NOT exact to 1e-12" in report
    assert "rotation + boost" in report
    assert "translation" not in report
