"""Permutation frames of public graph sets."""

from collections import Counter
from math import factorial
from operator import eq, ge

import pytest
import torch
from torch import Tensor

from eqlib.frames import (
    FrameAverage,
    PermutationFrames,
    class_frames,
    node_classes,
    permutation_frames,
    search_frames,
)
from eqlib.symmetry import NodeOrder, Permutations
from tests.frames.permutations.backbones import DENSE, Flat
from tests.frames.permutations.graphs import (
    automorphisms,
    forms,
    read_exp,
    read_graph6,
    read_tu,
)

pytestmark = pytest.mark.data


class TestClasses:
    """What the frames of public graph sets are; figures by ``pytest --data=DIR -m data``."""

    def test_sizes_of_all_connected_graphs_of_8_nodes(self, data):
        matrices = read_graph6(data / "graphs" / "graph8c.g6")
        size = torch.tensor(node_classes(matrices, refine=False).size, dtype=torch.float64)
        assert len(size) == 11117
        assert size.median() == 2
        assert round(size.mean().item()) == 53
        assert size.max() == 40320
        refined = torch.tensor(node_classes(matrices).size, dtype=torch.float64)
        assert (refined <= size).all()
        assert (refined < size).sum() == 1667

    def test_eigenspaces_are_grouped_right(self, data):
        matrices = read_graph6(data / "graphs" / "graph8c.g6")
        laplacians = matrices.sum(-1).diag_embed() - matrices
        gaps = torch.linalg.eigvalsh(laplacians).diff(dim=-1)
        # gaps are rounding errors or far above the tolerance of 1e-4, relative or not
        assert gaps[gaps < 1e-4].max() < 1e-12
        assert gaps[gaps >= 1e-4].min() > 0.009
        groups = 1 + (gaps > 1e-4).sum(-1)
        # control: exact equality in float32
        eigenvalues = torch.linalg.eigh(laplacians.float()).eigenvalues
        right = 1 + (eigenvalues.diff(dim=-1) > 0).sum(-1) == groups
        degenerate = groups < 8
        assert degenerate.sum() == 2754
        assert right[degenerate].sum() < 500  # 229 with LAPACK of torch 2.13
        assert node_classes(matrices).margin.min() > 0.04

    def test_frames_hold_all_automorphisms(self, data):
        networkx = pytest.importorskip("networkx")
        matrices = read_graph6(data / "graphs" / "graph8c.g6")[::75]
        sizes = node_classes(matrices, refine=False).size
        refined = node_classes(matrices).size
        as_many = [0, 0]
        for matrix, size, fine in zip(matrices, sizes, refined, strict=True):
            graph = networkx.from_numpy_array(matrix.numpy())
            matcher = networkx.isomorphism.GraphMatcher(graph, graph)
            symmetries = sum(1 for _ in matcher.isomorphisms_iter())
            assert size >= fine >= symmetries
            as_many[0] += size == symmetries
            as_many[1] += fine == symmetries
        assert 0.5 < as_many[0] / len(sizes) < as_many[1] / len(sizes)

    def test_strongly_regular_graphs_are_one_class(self, data):
        matrices = read_graph6(data / "graphs" / "sr251256.g6")
        assert node_classes(matrices).size == (factorial(25),) * 15

    @pytest.mark.parametrize(
        ("name", "median", "largest"),
        [("MUTAG", 0.3, 10.7), ("PTC", 3.2, 25.1), ("IMDBBINARY", 7.9, 55.0)],
    )
    def test_sizes_of_molecules_and_networks(self, data, name, median, largest):
        edges, _, batch, count = read_tu(data / "graphs" / "tu" / name / f"{name}.txt")
        logs = node_classes(edges, batch=batch, num_graphs=count, refine=False).log10_size
        assert logs.median().item() == pytest.approx(median, abs=0.05)
        assert logs.max().item() == pytest.approx(largest, abs=0.05)

    def test_frames_of_exp_are_too_large_to_list(self, data):
        edges, kinds, batch, count = read_exp(data / "graphs" / "exp" / "exp.npz")
        classes = node_classes(edges, kinds, batch=batch, num_graphs=count)
        assert classes.log10_size.min().item() == pytest.approx(4.7, abs=0.05)
        assert classes.log10_size.median().item() == pytest.approx(10.3, abs=0.05)
        assert classes.log10_size.max().item() == pytest.approx(26.9, abs=0.05)
        with pytest.raises(ValueError, match="1200 of 1200 graphs have too many"):
            class_frames(classes)


class TestSearch:
    """Frames of :func:`search_frames`."""

    def test_all_8_node_graphs_are_single(self, data):
        matrices = read_graph6(data / "graphs" / "graph8c.g6")
        frames = search_frames(matrices, invariant=True)
        assert frames.single.all()
        assert max(frames.size) == factorial(8)
        for index in range(0, len(matrices), 500):
            assert frames.size[index] == automorphisms(matrices[index])
        # frames of classes are never smaller, and as small for two thirds of all graphs
        for refine, as_small in [(False, 7062), (True, 8486)]:
            sizes = node_classes(matrices, refine=refine).size
            assert all(map(ge, sizes, frames.size))
            assert sum(map(eq, sizes, frames.size)) == as_small
        # all are different graphs, and so are their forms
        order = frames.order.view(-1, 8) % 8
        graph = torch.arange(len(matrices))[:, None, None]
        found = matrices[graph, order[:, :, None], order[:, None, :]].flatten(1)
        assert len(found.unique(dim=0)) == len(matrices)

    def test_strongly_regular_graphs(self, data, rng):
        matrices = read_graph6(data / "graphs" / "sr251256.g6")[:6]
        frames = search_frames(matrices)
        assert max(frames.size) <= 720
        assert frames.exact.all()
        assert not frames.single.all()
        order = torch.randperm(25, generator=rng)
        others = matrices[:, order][:, :, order]
        found = search_frames(others)
        assert found.size == frames.size
        for index in range(2):
            expected = forms(matrices[index], frames, index)
            assert forms(others[index], found, index) == pytest.approx(expected)

    @pytest.mark.parametrize(
        ("name", "median", "largest"), [("MUTAG", 0.3, 1.8), ("PTC", 1.4, 10.6)]
    )
    def test_frames_of_molecules_are_single(self, data, name, median, largest):
        edges, _, batch, count = read_tu(data / "graphs" / "tu" / name / f"{name}.txt")
        frames = search_frames(edges, batch=batch, num_graphs=count, invariant=True)
        assert frames.single.all()
        assert len(frames.graph) == count
        assert frames.log10_size.median().item() == pytest.approx(median, abs=0.05)
        assert frames.log10_size.max().item() == pytest.approx(largest, abs=0.05)

    def test_frames_of_exp_are_single(self, data):
        edges, kinds, batch, count = read_exp(data / "graphs" / "exp" / "exp.npz")
        frames = search_frames(edges, kinds, batch=batch, num_graphs=count, invariant=True)
        assert frames.single.all()
        assert frames.exact.all()
        assert Counter(frames.graph.tolist()) == Counter(range(count))
        assert frames.log10_size.median().item() == pytest.approx(1.2, abs=0.05)
        assert frames.log10_size.max().item() == pytest.approx(3.2, abs=0.05)
        # the two graphs of each pair, which 1-WL does not separate, have different forms
        links = exp_forms(edges, kinds, batch, frames)
        assert all(links[2 * pair] != links[2 * pair + 1] for pair in range(count // 2))

    def test_relabelling_leaves_the_forms_of_exp(self, data, rng):
        edges, kinds, batch, count = read_exp(data / "graphs" / "exp" / "exp.npz", 60)
        expected = search_frames(edges, kinds, batch=batch, num_graphs=count, invariant=True)
        drawn = Permutations().sample(rng, batch=batch)[0]
        others = NodeOrder(0).act(drawn, kinds)
        moved = drawn.permutation[edges]
        found = search_frames(moved, others, batch=batch, num_graphs=count, invariant=True)
        assert found.size == expected.size
        forms = exp_forms(moved, others, batch, found)
        assert forms == exp_forms(edges, kinds, batch, expected)
        # control: one order of the frames of classes
        loose = permutation_frames(
            edges, kinds, batch=batch, num_graphs=count, limit=0, samples=1, generator=rng
        )
        again = permutation_frames(
            moved, others, batch=batch, num_graphs=count, limit=0, samples=1, generator=rng
        )
        drawn_forms = exp_forms(edges, kinds, batch, loose), exp_forms(moved, others, batch, again)
        assert not any(map(eq, *drawn_forms))


def exp_forms(
    edges: Tensor, kinds: Tensor, batch: Tensor, frames: PermutationFrames
) -> list[tuple]:
    """The reordered graph of each graph of a batch with one order each."""
    place = frames.order.argsort()
    start = torch.searchsorted(batch, torch.arange(len(frames.exact)))
    slots = place[edges] - start[batch[edges[0]]]
    found = []
    for graph in range(len(frames.exact)):
        mine = batch[edges[0]] == graph
        types = kinds[frames.order][batch == graph].flatten().tolist()
        found.append((sorted(slots[:, mine].mT.tolist()), types))
    return found


def test_all_relabellings_of_8_node_graphs_agree(data, rng):
    matrices = read_graph6(data / "graphs" / "graph8c.g6")[::40]
    layer = FrameAverage(
        Flat(8), signature=DENSE, chunk=20000, frame_options={"limit": 40320}
    ).double()
    inputs = {
        "adjacency": matrices,
        "x": torch.ones(*matrices.shape[:2], 2, dtype=torch.float64),
    }
    with torch.no_grad():
        expected = layer(**inputs)
        control = layer.backbone(**inputs)["graph"]
        for _ in range(2):
            order = torch.randperm(8, generator=rng)
            moved = {
                "adjacency": matrices[:, order][:, :, order],
                "x": inputs["x"],
            }
            found = layer(**moved)
            torch.testing.assert_close(found["graph"], expected["graph"], rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(
                found["node"], expected["node"][:, order], rtol=1e-12, atol=1e-12
            )
            assert (layer.backbone(**moved)["graph"] - control).abs().amax(-1).median() > 1e-2
