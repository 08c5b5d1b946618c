"""From the graph to its subgraphs and back."""

import pytest
import torch

from eqlib.subgraph import Features, aggregate, extract, pool
from tests.subgraph.batches import (
    POLICIES,
    error,
    features,
    graph_rows,
    local_rows,
    random_graphs,
)

policies = pytest.mark.parametrize("policy", list(POLICIES))


def dense(x, plan):
    """Pair features as a matrix over all nodes of the batch, 0 where no pair is stored."""
    matrix = x.new_zeros(plan.num_nodes, plan.num_nodes, x.shape[1])
    matrix[plan.pair_index[0], plan.pair_index[1]] = x
    return matrix


def joined(rows, targets, count, how):
    """Sum or mean of the rows with the same target, one by one."""
    total, copies = rows.new_zeros(count, rows.shape[1]), rows.new_zeros(count, 1)
    for target, row in zip(targets.tolist(), rows, strict=True):
        total[target] += row
        copies[target] += 1
    return total / copies.clamp(min=1) if how == "mean" else total


@policies
def test_extraction_takes_the_rows_of_the_members(policy, rng):
    plan = POLICIES[policy](random_graphs(rng))
    x = features(rng, graph_rows(plan))
    found = extract(x, plan)
    assert [len(rows) for rows in found] == list(local_rows(plan))
    first, second = plan.node[plan.row], plan.node[plan.column]
    assert torch.equal(found.pairs, dense(x.pairs, plan)[first, second])
    assert torch.equal(found.nodes, x.nodes[plan.node])
    assert torch.equal(found.scalars, x.scalars[plan.center if plan.has_centers else plan.graph])


@policies
@pytest.mark.parametrize("how", ["mean", "sum"])
def test_aggregation_joins_the_copies(policy, how, rng):
    plan = POLICIES[policy](random_graphs(rng))
    local = features(rng, local_rows(plan))
    found = aggregate(local, plan, how)
    n, owners = plan.num_nodes, plan.num_owners
    first, second = plan.pair_index
    pairs = joined(local.pairs, plan.node[plan.row] * n + plan.node[plan.column], n * n, how)
    torch.testing.assert_close(found.pairs, pairs[first * n + second])
    torch.testing.assert_close(found.nodes, joined(local.nodes, plan.node, n, how))
    torch.testing.assert_close(found.scalars, joined(local.scalars, plan.owner, owners, how))


@policies
def test_the_mean_undoes_extraction(policy, rng):
    plan = POLICIES[policy](random_graphs(rng, (4, 2, 6)))
    x = features(rng, graph_rows(plan))
    assert error(aggregate(extract(x, plan), plan), x) < 1e-14
    # control: the sum does not, where subgraphs overlap
    if policy != "whole":
        assert error(aggregate(extract(x, plan), plan, "sum"), x) > 1e-1


@pytest.mark.parametrize("how", ["mean", "sum"])
def test_pooling_joins_the_rows_of_each_graph(how, rng):
    plan = POLICIES["ego"](random_graphs(rng))
    x = features(rng, graph_rows(plan))
    diagonal = plan.pair_index[0] == plan.pair_index[1]
    graph_of_pair = plan.batch[plan.pair_index[0]]
    expected = []
    for graph in range(plan.num_graphs):
        parts = [x.pairs[diagonal & (graph_of_pair == graph)]]
        parts += [x.pairs[~diagonal & (graph_of_pair == graph)]]
        parts += [rows[plan.batch == graph] for rows in (x.nodes, x.scalars)]
        sums = [part.sum(0) / (max(len(part), 1) if how == "mean" else 1) for part in parts]
        expected.append(torch.cat(sums))
    torch.testing.assert_close(pool(x, plan, how), torch.stack(expected))


def test_pooling_of_whole_graphs_takes_their_scalars(rng):
    plan = POLICIES["whole"](random_graphs(rng))
    x = features(rng, graph_rows(plan))
    assert torch.equal(pool(Features(scalars=x.scalars), plan), x.scalars)
    assert pool(x, plan).shape == (plan.num_graphs, 2 * 3 + 2 + 5)


@pytest.mark.parametrize("sizes", [(), (0,), (0, 0), (1,), (1, 0, 1)], ids=str)
@policies
def test_empty_graphs(policy, sizes, rng):
    plan = POLICIES[policy](random_graphs(rng, sizes))
    x = features(rng, graph_rows(plan))
    back = aggregate(extract(x, plan), plan)
    assert [rows.shape for rows in back] == [rows.shape for rows in x]
    assert pool(x, plan).shape == (len(sizes), 13)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, plan: extract(Features(), plan), "features has none of pairs, nodes and"),
        (lambda x, plan: extract(Features(x.nodes), plan), r"pairs has shape .* expected \d+ rows"),
        (
            lambda x, plan: extract(extract(x, plan), plan),
            r"level of the graph; these look like rows of the other level: aggregate",
        ),
        (lambda x, plan: aggregate(x, plan), "these look like rows of the other level: extract"),
        (lambda x, plan: aggregate(extract(x, plan), plan, "max"), "how is 'max'; expected mean"),
        (lambda x, plan: pool(x, plan, "max"), "how is 'max'"),
        (lambda x, plan: pool(Features(x.pairs[0]), plan), "pairs has shape"),
    ],
    ids=["none", "rows", "extracted", "aggregated", "how", "pool", "axes"],
)
def test_bad_features_are_refused(call, message, rng):
    plan = POLICIES["ego"](random_graphs(rng, (6,), density=0.9))
    with pytest.raises(ValueError, match=message):
        call(features(rng, graph_rows(plan)), plan)
