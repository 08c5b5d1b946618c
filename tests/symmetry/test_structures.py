"""Arguments that are no tensors, and rows that follow them."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

import eqlib
from eqlib.symmetry import (
    SE,
    NodeOrder,
    Permutations,
    Point,
    Representation,
    Scalar,
    Signature,
    Structure,
)


class SortedEdges(NamedTuple):
    """Edges in the order of their nodes: other numbers of the nodes are another order."""

    edge_index: Tensor
    batch: Tensor


def rank(edges):
    return (edges[0] * 100 + edges[1]).argsort()


@dataclass(frozen=True)
class Edges(Structure):
    """The edges as one argument."""

    def act(self, element, tensor):
        if element.permutation is None:
            return tensor
        edges = element.permutation[tensor.edge_index]
        return tensor._replace(edge_index=edges[:, rank(edges)])

    def batch_of(self, structure):
        return structure.batch

    def validate(self, name, tensor, group):
        if not isinstance(tensor, SortedEdges):
            raise TypeError(f"{name}: expected edges")


@dataclass(frozen=True)
class EdgeRows(Representation):
    """Rows in the order of the edges."""

    bound: SortedEdges | None = None

    def bind(self, inputs):
        return replace(self, bound=inputs["edges"])

    def act(self, element, tensor):
        if element.permutation is None:
            return tensor
        return tensor[rank(element.permutation[self.bound.edge_index])]

    def validate(self, name, tensor, group):
        if len(tensor) != self.bound.edge_index.shape[1]:
            raise ValueError(f"{name}: expected a row for each edge")


def edges():
    edge_index = torch.tensor([[0, 0, 1, 2, 4, 5], [1, 2, 2, 0, 5, 6]])
    return SortedEdges(edge_index, torch.tensor([0, 0, 0, 0, 1, 1, 1]))


def signature(rows=None, group=None):
    rows = rows or Scalar() * EdgeRows()
    return Signature(group or Permutations(), {"x": rows, "edges": Edges()}, {"x": rows})


def swapped(x, edges):
    """Each edge has the row of the edge in the other direction, if there is one."""
    source, target = edges.edge_index
    there = (source[:, None] == target) & (target[:, None] == source)
    return {"x": x + there.to(x) @ x}


def inputs_of(rng):
    return {"x": torch.randn(6, 2, dtype=torch.float64, generator=rng), "edges": edges()}


def test_rows_follow_the_argument_that_orders_them(rng):
    inputs = inputs_of(rng)
    report = eqlib.check(swapped, inputs, signature())
    assert report.passed
    assert set(report.kinds) == {"identity", "permutation"}
    assert report.signature == signature()  # as it was given, without the arguments of the call
    # controls: a map that looks at the order, and rows that are said to stay
    assert eqlib.check(lambda x, edges: {"x": x.cumsum(0)}, inputs, signature()).max > 1e-2
    assert eqlib.check(swapped, inputs, signature(Scalar())).max > 1e-2


def test_nodes_stay_in_the_graph_that_the_structure_says(rng):
    seen = []

    def looking(x, edges):
        seen.append(edges.edge_index)
        return swapped(x, edges)

    assert eqlib.check(looking, inputs_of(rng), signature(), samples=20).passed
    graphs = {tuple(map(tuple, edges().batch[found].tolist())) for found in seen}
    assert len({tuple(found.flatten().tolist()) for found in seen}) > 10
    assert graphs == {((0, 0, 0, 0, 1, 1), (0, 0, 0, 0, 1, 1))}


def test_a_map_may_write_to_the_structure(rng):
    inputs = inputs_of(rng)

    def writing(x, edges):
        found = swapped(x, edges)
        edges.edge_index.zero_()
        return found

    assert eqlib.check(writing, inputs, signature()).passed
    assert torch.equal(inputs["edges"].edge_index, edges().edge_index)


def test_groups_of_space_leave_structures_as_they_are(rng):
    group = SE(2) * Permutations()
    rows = Point() * EdgeRows()
    assert eqlib.check(swapped_means, inputs_of(rng), signature(rows, group)).max < 1e-12
    assert eqlib.check(swapped, inputs_of(rng), signature(rows, group)).max > 1e-2  # control


def swapped_means(x, edges):
    source, target = edges.edge_index
    there = ((source[:, None] == target) & (target[:, None] == source)).to(x)
    return {"x": (x + there @ x) / (1 + there.sum(1, keepdim=True))}


def test_arguments_that_do_not_fit_are_refused(rng):
    inputs = inputs_of(rng)
    with pytest.raises(TypeError, match="input 'edges': expected edges"):
        eqlib.check(swapped, {**inputs, "edges": (1, 2)}, signature(Scalar()))
    with pytest.raises(ValueError, match="input 'edges' is missing; the signature has x, edges"):
        eqlib.check(swapped, {"x": inputs["x"]}, signature())
    with pytest.raises(ValueError, match="input 'x': expected a row for each edge"):
        eqlib.check(swapped, {**inputs, "x": inputs["x"][1:]}, signature())
    with pytest.raises(ValueError, match="the numbers of nodes differ: x has 6, edges has 7"):
        eqlib.check(swapped, inputs, signature(NodeOrder(0)))


def test_structures_are_inputs_only():
    with pytest.raises(ValueError, match=r"outputs: 'edges' is .*; only inputs can"):
        Signature(Permutations(), {"edges": Edges()}, {"edges": Edges()})


def test_outputs_may_be_none_where_their_inputs_are(rng):
    nodes = Scalar() * NodeOrder(0)
    kinds = {"x": nodes, "y": nodes}
    both = Signature(Permutations(), kinds, kinds)
    x = inputs_of(rng)["x"]

    def doubled(x=None, y=None):
        return {"x": None if x is None else 2 * x, "y": None if y is None else 2 * y}

    report = eqlib.check(doubled, {"x": x}, both)
    assert report.passed
    assert set(report.outputs) == {"x"}
    assert report.unchecked == ()
    with pytest.raises(TypeError, match="output 'y': expected a tensor, got NoneType"):  # control
        eqlib.check(lambda x, y: {"x": x, "y": None}, {"x": x, "y": x}, both)


def test_most_representations_are_the_same_in_all_calls():
    nodes = Point() * NodeOrder(-2)
    same = Signature(SE(3) * Permutations(), {"x": nodes}, Scalar())
    assert same.bind({"x": torch.zeros(2, 3)}) == same
    named = Signature(SE(3) * Permutations(), {"x": nodes}, {"y": nodes})
    assert named.bind({"x": torch.zeros(2, 3)}) == named
