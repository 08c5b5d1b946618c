"""Compiled and exported functions take plans, of any size."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from eqlib.subgraph import SubgraphPlan, ego_plan, node_deleted_plan, pair_features
from tests.subgraph.plans.oracle import random_graphs

pytestmark = pytest.mark.unchecked


def egos(graphs, **options):
    return ego_plan(*graphs, when_dearer="ignore", **options)


class Out(NamedTuple):
    pairs: Tensor
    roots: Tensor
    owners: Tensor


class Step(nn.Module):
    """Read what networks read of a plan."""

    def forward(self, pairs: Tensor, plan: SubgraphPlan) -> Out:
        local = pairs[plan.slot]
        rows = local.new_zeros(plan.num_members, local.shape[1]).index_add(0, plan.row, local)
        rows = rows / plan.sizes[plan.subgraph][:, None]
        local = local[plan.transpose] + rows[plan.column]
        total = torch.zeros_like(pairs).index_add(0, plan.slot, local)
        owners = rows.new_zeros(plan.num_owners, rows.shape[1])
        return Out(
            total / plan.slot_counts[:, None],
            rows[plan.root] + local[plan.diagonal[plan.root]],
            owners.index_add(0, plan.owner, rows[plan.starts[:-1]]),
        )


def inputs(sizes, rng):
    plan = egos(random_graphs(sizes, rng), rooted=True)
    return torch.randn(plan.num_slots, 3, dtype=torch.float64, generator=rng), plan


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_plans_of_all_sizes_in_one_graph(rng):
    torch.compiler.reset()
    counts = []

    def backend(graph, example_inputs):
        counts.append(len(example_inputs))
        return graph.forward

    compiled = torch.compile(Step(), fullgraph=True, backend=backend, dynamic=True)
    for sizes in ((6, 4), (9, 2, 5), (12,), (3, 3, 3, 3)):
        arguments = inputs(sizes, rng)
        assert_equal(compiled(*arguments), Step()(*arguments))
    assert len(counts) == 1


def test_the_compiled_step_is_the_step(rng):
    torch.compiler.reset()
    compiled = torch.compile(Step(), fullgraph=True, backend="aot_eager", dynamic=True)
    plan = egos(random_graphs((6, 0, 4, 7), rng), rooted=True)
    for chosen in ([0, 2], [3, 1, 0, 0]):
        part = plan.select(torch.tensor(chosen))
        pairs = torch.randn(part.num_slots, 3, generator=rng)
        assert_equal(compiled(pairs, part), Step()(pairs, part))


def test_an_exported_step_takes_other_plans(rng):
    pairs, plan = inputs((6, 4, 5), rng)
    auto = torch.export.Dim.AUTO
    fields = [
        {axis: auto for axis in range(field.ndim) if field.shape[axis] > 2}
        if isinstance(field, Tensor)
        else (auto if isinstance(field, int) else None)
        for field in plan
    ]
    shapes = {"pairs": {0: auto}, "plan": SubgraphPlan(*fields)}
    program = torch.export.export(Step(), (pairs, plan), dynamic_shapes=shapes)
    assert_equal(program.module()(pairs, plan), Step()(pairs, plan))
    pairs, other = inputs((7, 3, 8, 0, 1), rng)
    assert_equal(program.module()(pairs, other), Step()(pairs, other))


@pytest.mark.parametrize("missing", ["error", "drop"])
def test_pair_features_compile(missing, rng):
    torch.compiler.reset()
    compiled = torch.compile(pair_features, fullgraph=True, backend="aot_eager", dynamic=True)
    for sizes in ((6, 4), (9, 3, 5)):
        graphs = random_graphs(sizes, rng)
        edges = torch.randn(graphs.edge_index.shape[1], 2, generator=rng)
        nodes = torch.randn(graphs.num_nodes, 3, generator=rng)
        make = egos if missing == "error" else lambda graphs: node_deleted_plan(*graphs)
        arguments = (make(graphs), graphs.edge_index, edges, nodes)
        found = compiled(*arguments, missing=missing)
        torch.testing.assert_close(found, pair_features(*arguments, missing=missing))
