"""SPEN: symmetry for every policy, plans, degenerate graphs, gradients, bad options."""

import networkx
import pytest
import torch

from eqlib import check
from eqlib.models.graphs.data.tu import read_tu
from eqlib.models.graphs.networks import SPEN
from eqlib.models.graphs.networks.base import SIGNATURE, RaggedGraphs
from eqlib.symmetry import equivariance_error
from eqlib.usage import UsageError
from tests.models.graphs.networks.samples import SIZES, odd_graphs, seeded
from tests.tolerances import EQUIVARIANCE

OPTIONS = [
    {},
    {"rooted": True},
    {"hops": 2},
    {"policy": "node_deleted"},
    {"policy": "node_marked"},
    {"policy": "whole"},
    {"aggregation": "sum", "read": "sum"},
    {"aggregation": "attention"},
    {"norm": "graph", "residual": True},
    {"norm": "none"},
    {"layers": 1},
    {"layers": 2, "rooted": True, "hops": 2},
    {"polynomials": True},
]


def build(dtype=torch.float64, **options):
    given = {"width": 4, "layers": 3, "node_types": 3, "hidden": 8} | options
    return seeded(SPEN, dtype, **given)


def planned(made, given):
    """The plan of some graphs."""
    return made.make_plan(given["edge_index"], given["batch"], given["num_graphs"])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_order_of_the_nodes_does_not_count(dtype, options, rng):
    made = build(dtype, **options)
    found = equivariance_error(made, odd_graphs(), SIGNATURE, generator=rng)
    assert found.max < EQUIVARIANCE[dtype]


def test_control_a_mark_on_one_node_counts(rng):
    class Marked(SPEN):
        def features(self, graphs):
            pairs, nodes, scalars = super().features(graphs)
            return type(super().features(graphs))(
                pairs.index_add(0, torch.tensor([8]), pairs.new_ones(1, pairs.shape[1])),
                nodes,
                scalars,
            )

    made = seeded(Marked, width=4, layers=3, node_types=3)
    assert equivariance_error(made, odd_graphs(), SIGNATURE, generator=rng).max > 1e-3


def test_the_public_check_accepts_it(rng):
    report = check(build(), odd_graphs(), generator=rng)
    assert report.max < EQUIVARIANCE[torch.float64]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_batch_equals_its_graphs(options):
    made = build(**options)
    alone = torch.cat([made(**odd_graphs(chosen=[index])) for index in range(len(SIZES))])
    assert torch.allclose(made(**odd_graphs()), alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_cached_plan_gives_the_same_as_one_of_its_own(options):
    made, chosen = build(**options), torch.tensor([5, 0, 3, 6])
    everything = odd_graphs()
    few = odd_graphs(chosen=chosen.tolist())
    plan = planned(made, everything).select(chosen)
    assert torch.equal(made(**few, plan=plan), made(**few))


def test_an_open_choice_is_made_by_all_graphs_together():
    made = build(policy="auto")
    ring = [(i, (i + 1) % 12) for i in range(12)]
    edges = torch.tensor([*ring, *((j, i) for i, j in ring)]).T
    sparse = {"x": torch.zeros(12).long(), "edge_index": edges, "batch": torch.zeros(12).long()}
    dense = odd_graphs(chosen=[6])
    assert planned(made, sparse | {"num_graphs": 1}).has_centers
    assert not planned(made, dense).has_centers
    both = {
        "x": torch.cat([sparse["x"], dense["x"]]),
        "edge_index": torch.cat([sparse["edge_index"], dense["edge_index"] + 12], 1),
        "batch": torch.cat([sparse["batch"], dense["batch"] + 1]),
        "num_graphs": 2,
    }
    plan = planned(made, both)
    assert not plan.has_centers  # 12 * 9 + 7 * 49 pairs in ego nets, 144 + 49 in whole graphs
    with pytest.raises(ValueError, match="policy 'auto', which is decided for a data set"):
        made(**both)
    assert torch.equal(made(**both, plan=plan), build(policy="whole")(**both))


@pytest.mark.parametrize("options", [{"hops": 2}, {"rooted": True}], ids=str)
def test_an_open_choice_is_ego_nets_where_hops_or_roots_ask_for_them(options):
    dense = odd_graphs(chosen=[6])
    made = build(policy="auto", **options)
    assert planned(made, dense).has_centers
    assert torch.equal(made(**dense), build(policy="ego", **options)(**dense))
    # control: without them this graph is seen as a whole
    assert not planned(build(policy="auto"), dense).has_centers


def test_roots_and_hops_and_policies_are_seen():
    given = odd_graphs()
    plain = build()(**given)
    for options in ({"hops": 2}, {"policy": "whole"}, {"aggregation": "sum"}):
        assert (build(**options)(**given) - plain).norm() > 1e-6, options


def test_the_whole_graph_is_the_global_network_and_egos_are_local():
    """Six nodes in a circle, or in two: ego nets of one hop see the triangles alone."""
    ring = [(i, (i + 1) % 12) for i in range(12)]
    halves = [(i, (i + 1) % 6) for i in range(6)] + [(6 + i, 6 + (i + 1) % 6) for i in range(6)]
    triangles = [(3 * k + i, 3 * k + (i + 1) % 3) for k in range(4) for i in range(3)]
    edges = [torch.tensor([*g, *((j, i) for i, j in g)]).T for g in (ring, halves, triangles)]
    x = torch.zeros(12, dtype=torch.int64)
    out = [build(width=8, read="sum")(x, edge_index) for edge_index in edges]
    assert torch.allclose(out[0], out[1], rtol=1e-12)
    assert (out[0] - out[2]).norm() > 1e-6


def test_polynomials_separate_what_layers_do_not():
    """The rook graph and the Shrikhande graph: the first has complete graphs of four nodes."""
    rook = networkx.line_graph(networkx.complete_bipartite_graph(4, 4))
    steps = [(0, 1), (0, 3), (1, 0), (3, 0), (1, 1), (3, 3)]
    shrikhande = networkx.Graph(
        ((i, j), ((i + a) % 4, (j + b) % 4)) for i in range(4) for j in range(4) for a, b in steps
    )
    graphs = [networkx.convert_node_labels_to_integers(graph) for graph in (rook, shrikhande)]
    edges = [torch.tensor(list(graph.to_directed().edges)).T for graph in graphs]
    x = torch.zeros(16, dtype=torch.int64)
    for policy, polynomials, separates in (("whole", False, False), ("whole", True, True)):
        made = build(policy=policy, polynomials=polynomials)
        change = (made(x, edges[0]) - made(x, edges[1])).norm()
        assert (change > 1e-6) == separates
        assert separates or change < 1e-12


@pytest.mark.parametrize("chosen", [[], [0], [0, 0], [1], [2], [3, 0]], ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_degenerate_graphs_have_finite_rows(options, chosen):
    out = build(**options)(**odd_graphs(chosen=chosen))
    assert out.shape == (len(chosen), 2)
    assert out.isfinite().all()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradients_are_finite_and_reach_the_types(options):
    made = build(dropout=0.0, **options).train()
    made(**odd_graphs()).square().sum().backward()
    assert all(part.grad.isfinite().all() for part in made.parameters() if part.grad is not None)
    assert made.embed.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("norm", ["batch", "graph", "none"])
def test_computing_anew_changes_neither_gradients_nor_statistics(norm):
    found = []
    for recompute in (False, True):
        made = build(norm=norm, recompute=recompute, dropout=0.0).train()
        made(**odd_graphs()).square().sum().backward()
        found.append([*(part.grad for part in made.parameters()), *made.buffers()])
    assert all(torch.equal(*both) for both in zip(*found, strict=True))


@pytest.mark.parametrize("options", [{"rooted": True}, {"policy": "whole"}], ids=str)
@pytest.mark.unchecked
def test_with_a_plan_it_compiles_as_one_graph(options):
    made, given = build(layers=2, **options), odd_graphs()
    plan = planned(made, given)
    compiled = torch.compile(made, fullgraph=True, backend="aot_eager", dynamic=True)
    assert torch.allclose(compiled(**given, plan=plan), made(**given), rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "egos"}, "unknown policy 'egos'; did you mean 'ego'"),
        ({"aggregation": "max"}, "unknown aggregation 'max'"),
        ({"norm": "layer"}, "unknown norm 'layer'"),
        ({"read": "last"}, "unknown read 'last'"),
        ({"layers": 0}, "layers: expected 1 or more, got 0"),
        ({"hops": 0}, "hops: expected 1 or more, got 0"),
        ({"policy": "whole", "rooted": True}, "rooted: the subgraphs of policy 'whole' have no"),
        ({"policy": "whole", "hops": 2}, "hops: got 2, but policy 'whole' has no ego nets"),
        ({"policy": "node_deleted", "hops": 2}, "hops: got 2, but policy 'node_deleted' has no"),
        ({"policy": "node_marked", "hops": 2}, "hops: got 2, but policy 'node_marked' has no"),
        ({"width": -3}, "width: expected 1 or more, got -3"),
        ({"node_types": 0}, "node_types: expected 1 or more, got 0"),
        ({"outputs": 0}, "outputs: expected 1 or more, got 0"),
        ({"hidden": 1}, "hidden: expected 2 or more, got 1"),
    ],
    ids=str,
)
@pytest.mark.unchecked
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(UsageError, match=message):
        build(**options)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([[0], [9]], "edge_index: has entries from 0 to 9, expected 0 to 8"),
        ([[0], [-1]], "edge_index: has entries from -1 to 0"),
        ([[0], [6]], "edge 0 leads from graph 0 to graph 1"),
    ],
    ids=["beyond", "negative", "across"],
)
@pytest.mark.unchecked
def test_a_wrong_edge_is_named(edges, message):
    given = odd_graphs(chosen=[4, 2]) | {"edge_index": torch.tensor(edges)}
    with pytest.raises(ValueError, match=message):
        build()(**given)


@pytest.mark.unchecked
def test_a_plan_of_other_graphs_is_refused():
    made = build()
    plan = planned(made, odd_graphs(chosen=[4]))
    with pytest.raises(ValueError, match="plan: is of 6 nodes in 1 graphs, expected 7 in 1"):
        made(**odd_graphs(chosen=[6]), plan=plan)


def test_graphs_without_a_plan_are_refused_where_none_is_made():
    with pytest.raises(ValueError, match="graphs: have no plan of subgraphs"):
        build().predict(RaggedGraphs(**odd_graphs()), None)


@pytest.mark.unchecked
def test_unsorted_graphs_are_refused():
    given = odd_graphs(chosen=[4, 5])
    with pytest.raises(ValueError, match="batch is not sorted"):
        build()(**given | {"batch": given["batch"].flip(0)})


@pytest.mark.data
@pytest.mark.parametrize("name", ["MUTAG", "IMDBBINARY"])
@pytest.mark.parametrize("options", [{}, {"rooted": True}, {"policy": "whole"}], ids=str)
def test_real_graphs_may_be_relabelled(name, options, data, rng):
    graphs = read_tu(data / "graphs" / "tu" / name / f"{name}.txt")
    batch = graphs[torch.arange(10)]
    given = {name: batch[name] for name in ("x", "edge_index", "batch")} | {"num_graphs": 10}
    for dtype in (torch.float32, torch.float64):
        made = build(dtype, node_types=7, **options)
        found = equivariance_error(made, given, SIGNATURE, generator=rng)
        assert found.max < EQUIVARIANCE[dtype]
