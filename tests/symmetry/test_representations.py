"""Representations: homomorphisms, whatever the kind of tensor."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eqlib.symmetry import (
    GL,
    SE,
    Affine,
    BatchIndex,
    E,
    EdgeIndex,
    Element,
    Irreps,
    Lorentz,
    NodeOrder,
    O,
    Permutations,
    Point,
    Pseudoscalar,
    Pseudovector,
    RepresentationProduct,
    Scalar,
    Scaling,
    Similarity,
    SphericalTensor,
    Vector,
)

ROOT = Path(__file__).parents[2]
NODES = 6
BATCH = torch.tensor([0, 0, 0, 1, 3, 3])

CASES = [
    (Scalar(), E(3), (4,)),
    (Pseudoscalar(), E(3), (4, 2)),
    (Vector(), O(2), (4, 2)),
    (Vector(), E(3), (2, 4, 3)),
    (Pseudovector(), E(2), (4, 2)),
    (Pseudovector(), E(3), (4, 3)),
    (Point(), SE(2), (2,)),
    (Point(), E(3), (2, 4, 3)),
    (Point(), E(4), (3, 4)),
    (Irreps("3x0e+2x0o+1e+2x1o+1x3o+2x4e"), E(3), (2, 39)),
    (Irreps("3x0e+2x0o+1e+2x1o+1x3o+2x4e", layout="ir_mul"), E(3), (2, 39)),
    (Point(), Similarity(3), (2, 4, 3)),
    (Pseudovector(), Similarity(3), (4, 3)),
    (Irreps("0e+0o+2x1o+1e+2e+3o"), Similarity(3), (2, 23)),
    (Vector(), Scaling(2), (4, 2)),
    (Pseudoscalar(), GL(3), (4,)),
    (Vector(), GL(3), (4, 3)),
    (Point(), Affine(2), (2, 4, 2)),
    (Vector(), Lorentz(4), (5, 4)),
    (Pseudovector(), Lorentz(4), (5, 4)),
    (Pseudoscalar(), Lorentz(3), (5,)),
    (NodeOrder(0), Permutations(), (NODES,)),
    (NodeOrder(-2), Permutations(), (2, NODES, 3)),
    (NodeOrder(-2, -1), Permutations(), (2, NODES, NODES)),
    (NodeOrder(0, 1), Permutations(), (NODES, NODES, 2)),
    (Point() * NodeOrder(-2), E(3) * Permutations(), (2, NODES, 3)),
    (Vector() * NodeOrder(1), E(3) * Permutations(), (2, NODES, 4, 3)),
    (Scalar() * NodeOrder(-1), E(3) * Permutations(), (2, NODES)),
    (NodeOrder(-2) * Irreps("0e+1o"), E(3) * Permutations(), (NODES, 4)),
]


def law_error(representation, group, tensor, rng, batch=BATCH):
    """How far act is from a homomorphism: products, inverses and the identity."""
    g, h = (group.sample(rng, reach=2.0, batch=batch)[0] for _ in range(2))

    def act(element, x):
        return representation.act(element, x)

    pairs = [
        (act(group.compose(g, h), tensor), act(g, act(h, tensor))),
        (act(group.inverse(g), act(g, tensor)), tensor),
        (act(group.identity(nodes=len(batch)), tensor), tensor),
    ]
    return max(float((a - b).abs().max()) for a, b in pairs)


@pytest.mark.parametrize(("representation", "group", "shape"), CASES, ids=str)
def test_action_is_a_homomorphism(representation, group, shape, rng):
    tensor = torch.randn(shape, dtype=torch.float64, generator=rng)
    for _ in range(4):
        assert law_error(representation, group, tensor, rng) < 1e-12


@pytest.mark.parametrize("representation", [EdgeIndex(), BatchIndex()], ids=str)
def test_action_on_indices_is_a_homomorphism(representation, rng):
    edges = torch.randint(NODES, (2, 9), generator=rng)
    tensor = edges if representation == EdgeIndex() else BATCH
    for _ in range(4):
        assert law_error(representation, Permutations(), tensor, rng) == 0


class TransposedVector(Vector):
    """Acts with the transposed matrix: an anti-homomorphism."""

    def act(self, element, tensor):
        return tensor @ element.matrix


class GatheredOrder(NodeOrder):
    """Gathers by the permutation where it should by its inverse."""

    def act(self, element, tensor):
        return tensor[element.permutation]


@pytest.mark.parametrize(
    ("representation", "group", "shape"),
    [
        (TransposedVector(), O(3), (4, 3)),
        (GatheredOrder(0), Permutations(), (NODES, 3)),
    ],
    ids=["transposed", "gathered"],
)
def test_control_wrong_actions_break_the_laws(representation, group, shape, rng):
    tensor = torch.randn(shape, dtype=torch.float64, generator=rng)
    assert law_error(representation, group, tensor, rng) > 1e-2


def test_scales_act_on_vectors_and_points_and_on_nothing_else(rng):
    double = Element(2 * torch.eye(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64))
    x = torch.tensor([1.0, 2.0, 3.0])
    assert Vector().act(double, x).tolist() == [2, 4, 6]
    assert Pseudovector().act(double, x).tolist() == [2, 4, 6]
    assert Point().act(double, x).tolist() == [3, 5, 7]
    for unchanged in (Scalar(), Pseudoscalar(), Irreps("1o"), Irreps("3x0e"), Irreps("1e")):
        assert unchanged.act(double, x).tolist() == [1, 2, 3]


def test_irreps_of_a_similarity_are_those_of_its_rotation(rng):
    irreps = Irreps("0o+1o+1e+2e+3o")
    tensor = torch.randn(5, 19, dtype=torch.float64, generator=rng)
    turned = O(3).sample(rng, 5)
    scaled = Element(turned.matrix * torch.linspace(1e-3, 1e3, 5).double()[:, None, None])
    torch.testing.assert_close(
        irreps.act(scaled, tensor), irreps.act(turned, tensor), atol=1e-14, rtol=0
    )


@pytest.mark.parametrize(
    ("representation", "group", "message"),
    [
        (Irreps("1o"), GL(3), r"Irreps\('1x1o'\) turns .* but GL\(3\) has other matrices"),
        (Irreps("1o"), Affine(3), r"use Vector\(\) or Scalar\(\)"),
        (Irreps("1o"), Lorentz(3), r"but Lorentz\(3\) has other matrices"),
        (Irreps("1o"), Lorentz(4), r"needs a group of dimension 3, got Lorentz\(4\)"),
        (SphericalTensor(0), GL(3), r"but GL\(3\) has other matrices"),
        (Pseudovector(), GL(3), r"no meaning under GL\(3\), whose matrices change angles"),
        (Pseudovector(), Affine(3), r"no meaning under Affine\(3\)"),
        (Vector(), Lorentz(4), r"expected shape \(\.\.\., 4\)"),
    ],
    ids=str,
)
def test_representations_that_a_group_does_not_have_are_refused(representation, group, message):
    with pytest.raises(ValueError, match=f"x: .*{message}"):
        representation.validate("x", torch.zeros(1, 3), group)


def test_reflections_tell_the_parities_apart(rng):
    mirror = Element(torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)))
    x = torch.tensor([1.0, 2.0, 3.0])
    assert Vector().act(mirror, x).tolist() == [1, 2, -3]
    assert Pseudovector().act(mirror, x).tolist() == [-1, -2, 3]
    assert Pseudoscalar().act(mirror, x).tolist() == [-1, -2, -3]
    assert Scalar().act(mirror, x).tolist() == [1, 2, 3]
    assert Irreps("1o").act(mirror, x).tolist() == [1, 2, -3]
    assert Irreps("1e").act(mirror, x).tolist() == [-1, -2, 3]
    assert Irreps("3x0o").act(mirror, x).tolist() == [-1, -2, -3]


def test_cross_products_are_pseudovectors(rng):
    element = O(3).sample(rng, kinds=["reflection"])[0]
    a, b = torch.randn(2, 5, 3, dtype=torch.float64, generator=rng)
    rotated = torch.linalg.cross(Vector().act(element, a), Vector().act(element, b))
    cross = torch.linalg.cross(a, b)
    torch.testing.assert_close(rotated, Pseudovector().act(element, cross))
    assert not torch.allclose(rotated, Vector().act(element, cross))  # control


def test_slots_receive_the_nodes_that_the_permutation_sends():
    cycle = Element(permutation=torch.tensor([1, 2, 0]))
    points = torch.tensor([10.0, 20.0, 30.0])
    moved = NodeOrder(0).act(cycle, points)
    assert moved.tolist() == [30, 10, 20]
    edges = torch.tensor([[0, 1], [1, 2]])
    relabelled = EdgeIndex().act(cycle, edges)
    assert relabelled.tolist() == [[1, 2], [2, 0]]
    assert torch.equal(moved[relabelled], points[edges])
    adjacency = torch.arange(9.0).reshape(3, 3)
    permuted = NodeOrder(0, 1).act(cycle, adjacency)
    assert torch.equal(permuted[relabelled[0], relabelled[1]], adjacency[edges[0], edges[1]])


@pytest.mark.parametrize(
    ("representation", "group", "shape"),
    [case for case in CASES if all(axis < 0 for axis in case[0].node_axes)],
    ids=str,
)
def test_batch_of_elements_acts_entry_by_entry(representation, group, shape, rng):
    elements = group.sample(rng, 3, batch=BATCH)
    tensor = torch.randn(3, *shape, dtype=torch.float64, generator=rng)
    batched = representation.act(elements, tensor)
    for i in range(3):
        torch.testing.assert_close(batched[i], representation.act(elements[i], tensor[i]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "representation", [Point(), Vector(), Pseudovector(), Irreps("1o"), Pseudoscalar()], ids=str
)
def test_result_has_the_dtype_of_the_tensor_and_one_rounding(representation, dtype, rng):
    element = E(3).sample(rng)[0]
    tensor = torch.randn(4, 3, dtype=torch.float64, generator=rng).to(dtype)
    result = representation.act(element, tensor)
    assert result.dtype == dtype
    assert torch.equal(result, representation.act(element, tensor.double()).to(dtype))


@pytest.mark.parametrize(
    ("representation", "shape"),
    [
        (Point() * NodeOrder(-2), (0, 3)),
        (Point() * NodeOrder(-2), (2, 0, 3)),
        (NodeOrder(-2, -1), (0, 0)),
        (Irreps("2x1o") * NodeOrder(-2), (0, 6)),
        (Irreps("") * NodeOrder(-2), (0, 0)),
    ],
    ids=str,
)
def test_empty_tensors_stay_empty(representation, shape, rng):
    empty = torch.zeros(0, dtype=torch.int64)
    element = (E(3) * Permutations()).sample(rng, batch=empty)[0]
    assert representation.act(element, torch.zeros(shape)).shape == shape
    assert EdgeIndex().act(element, torch.zeros(2, 0, dtype=torch.int64)).shape == (2, 0)


def test_noncontiguous_tensors_are_read_in_their_order(rng):
    element = (E(3) * Permutations()).sample(rng, batch=BATCH)[0]
    tensor = torch.randn(3, NODES, dtype=torch.float64, generator=rng).mT
    representation = Point() * NodeOrder(-2)
    assert torch.equal(
        representation.act(element, tensor), representation.act(element, tensor.contiguous())
    )


@pytest.mark.parametrize(
    "representation",
    [Point(), Vector(), Pseudovector(), Irreps("0e+1o"), Irreps("1o+0e", layout="ir_mul")],
    ids=str,
)
def test_actions_are_differentiable(representation, rng):
    element = E(3).sample(rng)[0]
    size = 4 if isinstance(representation, Irreps) else 3
    tensor = torch.randn(2, size, dtype=torch.float64, generator=rng).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: representation.act(element, x), (tensor,))


COMPILED = """
import torch
from eqlib.symmetry import E, Element, NodeOrder, Permutations, Point

def moved(rotation, translation, permutation, points):
    return (Point() * NodeOrder(-2)).act(Element(rotation, translation, permutation), points)

generator = torch.Generator().manual_seed(0)
element = (E(3) * Permutations()).sample(generator, 2, batch=torch.zeros(5, dtype=torch.int64))
arguments = (element.matrix, element.translation, element.permutation, torch.ones(2, 5, 3))
compiled = torch.compile(moved, fullgraph=True, backend="aot_eager")
torch.testing.assert_close(compiled(*arguments), moved(*arguments))
"""


def test_actions_compile_without_graph_breaks():
    # In a process of its own: the checks of annotations in the tests do not compile.
    subprocess.run([sys.executable, "-c", COMPILED], check=True, cwd=ROOT)


def test_parts_that_an_element_lacks_do_nothing():
    tensor = torch.ones(2, 3)
    for representation in (Point(), Vector(), Pseudoscalar(), Irreps("1o"), NodeOrder(0)):
        assert torch.equal(representation.act(Element(), tensor), tensor)


def test_products_of_two_kinds_of_components_are_refused():
    with pytest.raises(ValueError, match=r"both Point\(\) and Scalar\(\) act on the components"):
        Point() * NodeOrder(-2) * Scalar()
    with pytest.raises(ValueError, match=r"NodeOrder\(-2\)"):
        Vector() * NodeOrder(-1)


@pytest.mark.unchecked
def test_products_with_what_is_no_representation_are_refused():
    with pytest.raises(TypeError, match=r"factors: expected representations, got <class"):
        RepresentationProduct((Point(), NodeOrder))


def test_shapes_that_do_not_fit_are_refused(rng):
    element = (E(3) * Permutations()).sample(rng, batch=BATCH)[0]
    with pytest.raises(ValueError, match=r"shape \(4, 2\) does not fit matrices"):
        Vector().act(element, torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"expected shape \(..., 4\) for Irreps"):
        Irreps("0e+1o").act(element, torch.zeros(6, 5))
    with pytest.raises(ValueError, match="has 5 nodes, but the permutation acts on 6"):
        NodeOrder(0).act(element, torch.zeros(5))
    with pytest.raises(ValueError, match=r"node indices must lie in 0 ... 5, got -1 ... 6"):
        EdgeIndex().act(element, torch.tensor([[-1, 6]]))


@pytest.mark.parametrize(
    ("representation", "tensor", "error", "message"),
    [
        (Point(), torch.zeros(4, 3).long(), TypeError, r"x: Point\(\) needs floating-point"),
        (Vector(), torch.zeros(4, 2), ValueError, r"x: expected shape \(..., 3\)"),
        (Vector(), torch.tensor(1.0), ValueError, r"expected shape \(..., 3\)"),
        (Irreps("0e+1o"), torch.zeros(4, 5), ValueError, r"expected shape \(..., 4\)"),
        (NodeOrder(-3), torch.zeros(4, 5), ValueError, r"x: shape \(4, 5\) has no axis -3"),
        (NodeOrder(0, -2), torch.zeros(4, 5), ValueError, r"one axis of shape \(4, 5\) twice"),
        (EdgeIndex(), torch.zeros(2, 4), TypeError, "x: expected integers"),
        (EdgeIndex(), torch.zeros(2, 4) > 0, TypeError, "x: expected integers"),
        (BatchIndex(), torch.tensor([0, 1, 0]), ValueError, "x: expected sorted"),
        (BatchIndex(), torch.zeros(2, 4).long(), ValueError, r"x: expected shape \(nodes,\)"),
        (Point() * NodeOrder(-2), torch.zeros(4, 2), ValueError, r"x: expected shape"),
    ],
    ids=str,
)
def test_tensors_of_another_kind_are_refused(representation, tensor, error, message):
    with pytest.raises(error, match=message):
        representation.validate("x", tensor, E(3) * Permutations())


def test_node_order_refuses_no_axes_and_repeated_axes():
    with pytest.raises(ValueError, match="axes: expected different axes"):
        NodeOrder()
    with pytest.raises(ValueError, match="axes: expected different axes"):
        NodeOrder(-1, -1)


def test_representations_compare_by_value():
    assert Point() * NodeOrder(-2) == Point() * NodeOrder(-2)
    assert len({Point(), Vector(), NodeOrder(-1), NodeOrder(-2), Irreps("1o")}) == 5
    assert Irreps("1o") != Irreps("1o", layout="ir_mul")
