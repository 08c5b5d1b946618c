"""Spherical tensors: how O(3) acts on them, and their use in signatures and checks."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from e3nn import o3

from eqlib.frames import FrameAverage
from eqlib.harmonics import spherical_harmonics
from eqlib.symmetry import (
    SO,
    E,
    Element,
    Irreps,
    NodeOrder,
    O,
    Permutations,
    Point,
    Pseudoscalar,
    Pseudovector,
    Scalar,
    Signature,
    SphericalTensor,
    Vector,
    equivariance_error,
)
from tests.tolerances import EQUIVARIANCE

ROOT = Path(__file__).parents[2]
CHANNELS = 3
parities = pytest.mark.parametrize("complete", [False, True], ids=["natural", "complete"])
kinds = pytest.mark.parametrize("kind", ["rotation", "reflection"])


def tensors(rng, lmax, complete, *batch):
    shape = (*batch, *((2,) if complete else ()), (lmax + 1) ** 2, CHANNELS)
    return torch.randn(shape, dtype=torch.float64, generator=rng)


def in_columns(irreps, tensor):
    """Act as e3nn's irreps do, on each channel by itself."""
    return lambda element: irreps.act(element, tensor.mT).mT


@parities
@pytest.mark.parametrize("lmax", [0, 1, 2, 5, 8])
def test_action_is_a_homomorphism(lmax, complete, rng):
    representation, x = SphericalTensor(lmax, complete), tensors(rng, lmax, complete, 2)
    for _ in range(4):
        g, h = O(3).sample(rng)[0], O(3).sample(rng)[0]
        one_by_one = representation.act(g, representation.act(h, x))
        assert (representation.act(O(3).compose(g, h), x) - one_by_one).abs().max() < 1e-12
        undone = representation.act(O(3).inverse(g), representation.act(g, x))
        assert (undone - x).abs().max() < 1e-12
        assert (representation.act(O(3).identity(), x) - x).abs().max() < 1e-12
        if lmax > 0:  # control: in the wrong order
            backwards = representation.act(h, representation.act(g, x))
            assert (backwards - one_by_one).abs().max() > 1e-2


@kinds
def test_harmonics_of_vectors_are_of_natural_parity(kind, rng):
    element = O(3).sample(rng, kinds=[kind])[0]
    vectors = torch.randn(7, 3, dtype=torch.float64, generator=rng)
    expected = spherical_harmonics(Vector().act(element, vectors), 6).unsqueeze(-1)
    harmonics = spherical_harmonics(vectors, 6).unsqueeze(-1)
    assert (SphericalTensor(6).act(element, harmonics) - expected).abs().max() < 1e-12


@kinds
def test_each_channel_is_a_sum_of_the_irreps_of_e3nn(kind, rng):
    element = O(3).sample(rng, kinds=[kind])[0]
    natural, other = Irreps("0e+1o+2e+3o+4e"), Irreps("0o+1e+2o+3e+4o")
    x = tensors(rng, 4, True, 5)
    moved = SphericalTensor(4, complete=True).act(element, x)
    assert (moved[:, 0] - in_columns(natural, x[:, 0])(element)).abs().max() < 1e-12
    assert (moved[:, 1] - in_columns(other, x[:, 1])(element)).abs().max() < 1e-12
    assert torch.equal(moved[:, 0], SphericalTensor(4).act(element, x[:, 0]))
    # control: reflections, and only they, tell the parities apart
    wrong = (moved[:, 1] - in_columns(natural, x[:, 1])(element)).abs().max()
    assert wrong > 0.1 if kind == "reflection" else wrong < 1e-12


def test_matrices_are_those_of_e3nn(rng):
    rotation = SO(3).sample(rng).matrix[0]
    matrix = SphericalTensor(4).act(Element(rotation), torch.eye(25, dtype=torch.float64))
    expected = o3.Irreps("0e+1o+2e+3o+4e").D_from_matrix(rotation)
    assert (matrix - expected).abs().max() < 1e-5  # e3nn's generators are float32


@kinds
def test_low_degrees_are_scalars_and_vectors(kind, rng):
    element = O(3).sample(rng, kinds=[kind])[0]
    x = tensors(rng, 1, True, 5)
    moved = SphericalTensor(1, complete=True).act(element, x)
    for parity, scalar, vector in [(0, Scalar(), Vector()), (1, Pseudoscalar(), Pseudovector())]:
        part, result = x[:, parity], moved[:, parity]
        torch.testing.assert_close(result[:, :1], scalar.act(element, part[:, :1]))
        torch.testing.assert_close(result[:, 1:].mT, vector.act(element, part[:, 1:].mT))


@parities
def test_batches_of_elements_act_entry_by_entry(complete, rng):
    elements = O(3).sample(rng, 3, kinds=["rotation", "reflection", "identity"])
    representation, x = SphericalTensor(3, complete), tensors(rng, 3, complete, 3, 4)
    moved = representation.act(elements, x)
    for index in range(3):
        torch.testing.assert_close(moved[index], representation.act(elements[index], x[index]))
    torch.testing.assert_close(moved[2], x[2])


@parities
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_dtype_is_kept_and_the_arithmetic_precise(dtype, complete, rng):
    element, x = O(3).sample(rng)[0], tensors(rng, 3, complete, 4).to(dtype)
    representation = SphericalTensor(3, complete)
    moved = representation.act(element, x)
    assert moved.dtype == dtype
    assert torch.equal(moved, representation.act(element, x.double()).to(dtype))


@parities
def test_action_keeps_empty_and_reads_noncontiguous_and_expanded_tensors(complete, rng):
    element, representation = O(3).sample(rng)[0], SphericalTensor(2, complete)
    x = tensors(rng, 2, complete, 5)
    assert representation.act(element, x[:0]).shape == x[:0].shape
    assert representation.act(element, x[..., :0]).shape == x[..., :0].shape
    expected = representation.act(element, x)
    strided = x.transpose(0, -1).contiguous().transpose(0, -1)
    torch.testing.assert_close(representation.act(element, strided), expected)
    repeated = representation.act(element, x.expand(3, *x.shape))
    torch.testing.assert_close(repeated, expected.expand_as(repeated))


@parities
def test_action_is_differentiable(complete, rng):
    element, representation = O(3).sample(rng)[0], SphericalTensor(2, complete)
    x = tensors(rng, 2, complete, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: representation.act(element, y), (x,))


COMPILED = """
import torch
from eqlib.symmetry import Element, O, SphericalTensor

def moved(rotation, tensor):
    return SphericalTensor(3, complete=True).act(Element(rotation), tensor)

rotation = O(3).sample(torch.Generator().manual_seed(0), 2).matrix
compiled = torch.compile(moved, fullgraph=True, backend="aot_eager")
for channels in (3, 4):
    x = torch.ones(2, 2, 16, channels)
    torch.testing.assert_close(compiled(rotation, x), moved(rotation, x))
"""


def test_action_compiles_without_graph_breaks():
    # In a process of its own: the checks of annotations in the tests do not compile.
    subprocess.run([sys.executable, "-c", COMPILED], check=True, cwd=ROOT)


def test_elements_without_rotation_do_nothing(rng):
    x = tensors(rng, 2, True, 4)
    translation = Element(translation=torch.ones(3, dtype=torch.float64))
    assert SphericalTensor(2, complete=True).act(translation, x) is x


def messages(points, features):
    """Features of the other nodes, weighted by distance, and for natural ones the harmonics."""
    offsets = points.unsqueeze(-2) - points.unsqueeze(-3)
    mixed = torch.tensordot(1 / (1 + offsets.square().sum(-1)), features, 1)
    harmonics = spherical_harmonics(offsets, 2).sum(-2).unsqueeze(-1)
    return mixed + harmonics if features.ndim == 3 else mixed


@parities
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_checks_work_on_nodes_with_spherical_tensors(dtype, complete, rng):
    nodes = SphericalTensor(2, complete) * NodeOrder(0)
    group = E(3) * Permutations()
    signature = Signature(group, {"points": Point() * NodeOrder(0), "features": nodes}, nodes)
    points = torch.randn(6, 3, generator=rng).to(dtype)
    inputs = {"points": points, "features": tensors(rng, 2, complete, 6).to(dtype)}
    report = equivariance_error(messages, inputs, signature, generator=rng)
    assert report.max < EQUIVARIANCE[dtype]

    def shuffled(points, features):
        return messages(points, features).roll(1, dims=-2)

    control = equivariance_error(shuffled, inputs, signature, generator=rng)
    assert control.kinds["permutation"] < EQUIVARIANCE[dtype]
    assert control.kinds["rotation"] > 1e-2


@pytest.mark.parametrize(
    ("representation", "shape"),
    [
        (SphericalTensor(1) * NodeOrder(0), (6, 4, 2)),
        (SphericalTensor(1) * NodeOrder(-3), (2, 6, 4, 2)),
        (SphericalTensor(1, complete=True) * NodeOrder(-4), (2, 6, 2, 4, 2)),
        (NodeOrder(-3, 0) * SphericalTensor(1), (6, 6, 4, 2)),
    ],
    ids=str,
)
def test_nodes_and_components_are_moved_independently(representation, shape, rng):
    group = O(3) * Permutations()
    element = group.sample(rng, batch=torch.zeros(6, dtype=torch.int64))[0]
    x = torch.randn(shape, dtype=torch.float64, generator=rng)
    representation.validate("x", x, group)
    one, other = representation.factors
    torch.testing.assert_close(
        representation.act(element, x), other.act(element, one.act(element, x))
    )
    torch.testing.assert_close(
        representation.act(element, x), one.act(element, other.act(element, x))
    )


@pytest.mark.parametrize(
    ("representation", "axis", "advice"),
    [
        (SphericalTensor(2), -2, -3),
        (SphericalTensor(2, complete=True), -2, -4),
        (SphericalTensor(2, complete=True), -3, -4),
    ],
    ids=str,
)
def test_nodes_along_an_axis_of_components_are_refused(representation, axis, advice):
    with pytest.raises(ValueError, match=rf"axis {axis} holds the comp.*NodeOrder\({advice}\)"):
        representation * NodeOrder(axis)


@pytest.mark.parametrize(
    ("representation", "shape"),
    [
        (SphericalTensor(1) * NodeOrder(1), (6, 4, 2)),
        (SphericalTensor(0, complete=True) * NodeOrder(1), (6, 2, 1, 2)),
        (Vector() * NodeOrder(1), (6, 3)),
    ],
    ids=str,
)
def test_axes_counted_from_the_front_are_refused_when_they_meet_components(representation, shape):
    with pytest.raises(ValueError, match=r"x: in .*, the nodes and the components have one axis"):
        representation.validate("x", torch.zeros(shape), O(3) * Permutations())


class Tensors(torch.nn.Module):
    """A backbone on clouds with no symmetry: spherical tensors of both parities at each point."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2 * 9 * CHANNELS).double()

    def forward(self, points):
        return self.linear(points).tanh().unflatten(-1, (2, 9, CHANNELS))


def test_frames_average_backbones_that_return_spherical_tensors(rng):
    signature = Signature(
        E(3) * Permutations(),
        {"points": Point() * NodeOrder(-2)},
        SphericalTensor(2, complete=True) * NodeOrder(-4),
    )
    layer = FrameAverage(Tensors(), signature=signature)
    points = torch.randn(2, 7, 3, dtype=torch.float64, generator=rng)
    points = points * torch.tensor([1.0, 2.0, 3.0])  # apart from clouds with equal variances
    error = equivariance_error(layer, {"points": points}, generator=rng)
    assert error.max < EQUIVARIANCE[torch.float64]
    # control: the backbone by itself
    bare = equivariance_error(layer.backbone, {"points": points}, signature, generator=rng)
    assert bare.max > 1e-2


@pytest.mark.parametrize(
    ("shape", "complete"), [((5, 9, 2), False), ((9, 2), False), ((5, 2, 9, 4), True)], ids=str
)
def test_any_batch_and_number_of_channels_will_do(shape, complete):
    SphericalTensor(2, complete).validate("x", torch.zeros(shape), O(3))


@pytest.mark.parametrize(
    ("shape", "complete", "message"),
    [
        ((5, 2, 9), False, r"expected shape \(..., 9, channels\) for SphericalTensor\(lmax=2, com"),
        ((5, 8, 2), False, r"got \(5, 8, 2\)"),
        ((9,), False, r"got \(9,\)"),
        ((), False, r"got \(\)"),
        ((5, 9, 2), True, r"expected shape \(..., 2, 9, channels\) for SphericalTensor"),
        ((9, 2), True, r"got \(9, 2\)"),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit_are_refused(shape, complete, message):
    representation = SphericalTensor(2, complete)
    with pytest.raises(ValueError, match=message):
        representation.validate("x", torch.zeros(shape), O(3))
    with pytest.raises(ValueError, match=message):
        representation.act(Element(torch.eye(3)), torch.zeros(shape))


def test_integers_are_refused():
    with pytest.raises(TypeError, match=r"x: SphericalTensor.* needs floating-point .*torch.int64"):
        SphericalTensor(2).validate("x", torch.zeros(5, 9, 2).long(), O(3))


def test_other_spaces_than_the_three_dimensional_one_are_refused():
    with pytest.raises(ValueError, match=r"x: SphericalTensor.* needs a group of dimension 3, got"):
        SphericalTensor(2).validate("x", torch.zeros(5, 9, 2), SO(2))


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("lmax", "error"), [(-1, ValueError), (2.0, TypeError), (True, TypeError), ("2", TypeError)]
)
def test_degrees_that_are_none_are_refused(lmax, error):
    with pytest.raises(error, match=f"lmax: expected .*, got {lmax!r}"):
        SphericalTensor(lmax)


def test_representations_compare_by_value_and_copy():
    representation = SphericalTensor(2, complete=True)
    assert representation == SphericalTensor(2, True) != SphericalTensor(2)
    assert len({SphericalTensor(2), SphericalTensor(3), SphericalTensor(2, False)}) == 2
    assert repr(representation) == "SphericalTensor(lmax=2, complete=True)"
    for other in (copy.deepcopy(representation), pickle.loads(pickle.dumps(representation))):
        assert other == representation
        assert other.component_axes == (-3, -2)
