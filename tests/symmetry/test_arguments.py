"""Mistakes in the arguments of a check: each is named, with the mend."""

import pytest
import torch

from eqlib.symmetry import (
    E,
    Permutations,
    Point,
    Scalar,
    Signature,
    Vector,
    assert_equivariant,
    equivariance_error,
)
from tests.symmetry.maps import (
    POINTS,
    Interaction,
    interaction,
    ragged_interaction,
    ragged_signature,
    signature,
)

POINTS_3D = torch.arange(15.0).reshape(5, 3)
CHARGES = torch.ones(5)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({"poinst": POINTS_3D, "charges": CHARGES}, ValueError, "'points' is missing .*'poinst'"),
        ({"charges": CHARGES}, ValueError, "'points' is missing; the signature has points, ch"),
        (
            {"points": POINTS_3D, "charges": CHARGES, "maks": None},
            ValueError,
            "'maks' is unknown .did you mean 'mask'",
        ),
        (
            {"points": POINTS_3D.long(), "charges": CHARGES},
            TypeError,
            "input 'points': .*torch.int64",
        ),
        (
            {"points": POINTS_3D[:, :2], "charges": CHARGES},
            ValueError,
            r"input 'points': .*\(..., 3\)",
        ),
        ({"points": POINTS_3D, "charges": CHARGES[:4]}, ValueError, "points has 5, charges has 4"),
        (
            {"points": POINTS_3D / 0, "charges": CHARGES},
            ValueError,
            "input 'points': expected finite",
        ),
        (
            {"points": POINTS_3D.tolist(), "charges": CHARGES},
            TypeError,
            "input 'points': .*got list",
        ),
        ({"points": None, "charges": None}, ValueError, "inputs: expected tensors for points"),
        ({"points": POINTS_3D[0], "charges": CHARGES}, ValueError, "input 'points': .* no axis -2"),
    ],
    ids=["typo", "missing", "unknown", "integer", "width", "nodes", "nan", "list", "none", "axis"],
)
def test_wrong_inputs_are_named(inputs, error, message):
    with pytest.raises(error, match=message):
        equivariance_error(Interaction(), inputs)


@pytest.mark.unchecked
def test_inputs_without_names_are_refused():
    with pytest.raises(TypeError, match=r"inputs: expected tensors by name .*got Tensor"):
        equivariance_error(Interaction(), POINTS_3D)


def test_inputs_that_the_map_does_not_take_are_refused():
    inputs = {"points": POINTS_3D, "charges": CHARGES, "mask": CHARGES}
    with pytest.raises(ValueError, match="input 'mask' is unknown; the map takes charges, points"):
        equivariance_error(interaction, inputs, signature())


def test_graph_structure_is_checked_before_it_is_permuted():
    inputs = {
        "points": torch.ones(3, 3),
        "edge_index": torch.tensor([[0], [3]]),
        "batch": torch.tensor([0, 0, 1]),
        "num_graphs": 2,
    }
    with pytest.raises(
        ValueError, match=r"input 'edge_index': expected node indices in 0 ... 2, got 0"
    ):
        equivariance_error(ragged_interaction, inputs, ragged_signature())
    inputs["batch"] = torch.tensor([0, 1, 0])
    with pytest.raises(ValueError, match=r"input 'batch': expected sorted .*argsort"):
        equivariance_error(ragged_interaction, inputs, ragged_signature())


def test_permutations_need_an_input_with_nodes():
    optional = Signature(E(3) * Permutations(), {"points": POINTS, "energy": Scalar()}, Scalar())
    with pytest.raises(ValueError, match="permutes nodes, but none of energy has any"):
        equivariance_error(lambda energy, points=None: energy, {"energy": torch.ones(2)}, optional)


def test_maps_without_a_signature_are_refused():
    for check in (equivariance_error, assert_equivariant):
        with pytest.raises(TypeError, match="signature: expected a Signature, got None; pass"):
            check(interaction, {"points": POINTS_3D, "charges": CHARGES})


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (POINTS_3D, TypeError, "expected a NamedTuple or a dict with points, energy, got Tensor"),
        ((POINTS_3D, CHARGES), TypeError, "expected a NamedTuple or a dict .*, got tuple"),
        ({"points": POINTS_3D}, ValueError, "'energy' is missing; the map returned points"),
        ({"points": POINTS_3D, "enrgy": CHARGES}, ValueError, "did you mean 'enrgy'"),
        ({"points": POINTS_3D, "energy": 1.0}, TypeError, "output 'energy': .* got float"),
        (
            {"points": POINTS_3D, "energy": CHARGES * 1j},
            TypeError,
            "output 'energy': expected real numbers",
        ),
        (
            {"points": POINTS_3D[:, 0], "energy": CHARGES},
            ValueError,
            "output 'points': expected shape",
        ),
        (
            {"points": POINTS_3D.long(), "energy": CHARGES},
            TypeError,
            "output 'points': .* floating-point",
        ),
    ],
    ids=["tensor", "tuple", "missing", "typo", "float", "complex", "shape", "integer"],
)
def test_wrong_outputs_are_named(result, error, message):
    named = Signature(E(3), {"points": Point()}, {"points": Point(), "energy": Scalar()})
    with pytest.raises(error, match=message):
        equivariance_error(lambda points: result, {"points": POINTS_3D}, named)


def test_several_outputs_need_names_in_the_signature():
    unnamed = Signature(E(3), {"points": Point()}, Vector())
    with pytest.raises(TypeError, match=r"expected one tensor, .* got dict"):
        equivariance_error(lambda points: {"points": points}, {"points": POINTS_3D}, unnamed)


def test_outputs_with_another_number_of_nodes_are_refused():
    permuted = Signature(E(3) * Permutations(), {"points": POINTS}, POINTS)
    with pytest.raises(ValueError, match="points has 5, output has 4"):
        equivariance_error(lambda points: points[1:], {"points": POINTS_3D}, permuted)


def test_outputs_whose_shape_depends_on_the_element_are_refused():
    rotated = Signature(E(3), {"points": Point()}, Scalar())
    with pytest.raises(ValueError, match="output 'output': expected one shape"):
        equivariance_error(lambda points: points[points > 0], {"points": POINTS_3D - 7}, rotated)


@pytest.mark.parametrize("samples", [0, 1, 5], ids=str)
def test_too_few_samples_are_refused(samples):
    rotated = Signature(E(3), {"points": Point()}, Point())
    with pytest.raises(ValueError, match=r"samples: .* at least as many samples"):
        equivariance_error(lambda points: points, {"points": POINTS_3D}, rotated, samples=samples)
