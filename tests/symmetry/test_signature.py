"""Signatures: frozen, checked, printed."""

import copy
import pickle
from dataclasses import FrozenInstanceError

import pytest

from eqlib.symmetry import (
    GL,
    SE,
    SO,
    Affine,
    E,
    Irreps,
    Lorentz,
    NodeOrder,
    Permutations,
    Point,
    Pseudovector,
    Scalar,
    Signature,
    SphericalTensor,
    Vector,
)


def signature():
    return Signature(
        E(3) * Permutations(),
        inputs={"points": Point() * NodeOrder(-2), "charges": Scalar() * NodeOrder(-1)},
        outputs={"forces": Vector() * NodeOrder(-2), "energy": Scalar()},
    )


def test_signature_prints_as_it_is_written():
    assert repr(signature()) == (
        "Signature(\n"
        "    E(3) * Permutations(),\n"
        "    inputs={\n"
        "        'points': Point() * NodeOrder(-2),\n"
        "        'charges': Scalar() * NodeOrder(-1),\n"
        "    },\n"
        "    outputs={\n"
        "        'forces': Vector() * NodeOrder(-2),\n"
        "        'energy': Scalar(),\n"
        "    },\n"
        ")"
    )
    names = {cls.__name__: cls for cls in (E, NodeOrder, Permutations, Point, Scalar, Signature)}
    assert eval(repr(signature()), {**names, "Vector": Vector}) == signature()


def test_single_output_and_approximate_symmetry_print():
    approximate = Signature(SO(2), {"points": Point()}, Vector(), exact=False)
    assert repr(approximate).endswith("    outputs=Vector(),\n    exact=False,\n)")
    assert dict(approximate.named_outputs) == {"output": Vector()}


def test_signature_is_frozen():
    frozen = signature()
    with pytest.raises(FrozenInstanceError):
        frozen.group = SO(3)
    with pytest.raises(TypeError):
        frozen.inputs["points"] = Vector()


def test_signature_keeps_its_own_inputs():
    inputs = {"points": Point()}
    kept = Signature(SE(3), inputs, Point())
    inputs["velocities"] = Vector()
    assert list(kept.inputs) == ["points"]


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, pickle.dumps],
    ids=["copy", "deepcopy", "pickle"],
)
def test_signature_is_copied_and_pickled(duplicate):
    result = duplicate(signature())
    assert (pickle.loads(result) if isinstance(result, bytes) else result) == signature()


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("group", "inputs", "outputs", "message"),
    [
        ("SE(3)", {"x": Point()}, Point(), "group: expected a group .* as_group reads"),
        (SE(3), {"x": Point}, Point(), r"inputs: 'x' is .*; write Point\(\)"),
        (SE(3), {"x": "Point"}, Point(), "inputs: 'x' is no representation but 'Point'"),
        (SE(3), Point(), Point(), "inputs: expected representations by name"),
        (SE(3), {"x": Point()}, Point, "outputs: expected representations by name"),
        (SE(3), {"x": Point()}, {"y": None}, "outputs: 'y' is no representation"),
    ],
    ids=["group", "class", "text", "unnamed", "output class", "None"],
)
def test_arguments_of_other_types_are_refused(group, inputs, outputs, message):
    with pytest.raises(TypeError, match=message):
        Signature(group, inputs, outputs)


@pytest.mark.parametrize(
    ("group", "inputs", "outputs", "message"),
    [
        (SE(3), {}, Point(), "inputs: expected at least one"),
        (SE(3), {"x": Point()}, {}, "outputs: expected at least one"),
        (E(3) * Permutations(), {"x": Point()}, Point(), r"no input has any; .*NodeOrder\(-2\)"),
        (GL(3), {"x": Point()}, Irreps("1o"), r"outputs: 'output': Irreps.* but GL\(3\)"),
        (Affine(3), {"x": Pseudovector() * NodeOrder(-2)}, Scalar(), "inputs: 'x': Pseudovector"),
        (Lorentz(4), {"x": Vector()}, {"y": SphericalTensor(1)}, "outputs: 'y': .* dimension 3"),
        (E(2), {"x": Irreps("0e")}, Scalar(), "inputs: 'x': .* dimension 3"),
    ],
    ids=["inputs", "outputs", "nodes", "irreps", "pseudovector", "spherical", "plane"],
)
def test_signatures_that_contradict_themselves_are_refused(group, inputs, outputs, message):
    with pytest.raises(ValueError, match=message):
        Signature(group, inputs, outputs)
