"""Refinement of the colours of pairs: what bounds second-order networks."""

import itertools
import json
from collections import Counter

import networkx
import numpy as np
import pytest
import torch

from eqlib.models.graphs import encode_graph6
from eqlib.models.graphs.brec import CATEGORIES
from eqlib.models.graphs.brec.three_wl import first_colours, main, separated
from tests.models.graphs.brec.toy import HARD, edges_of


def stack(*graphs):
    arrays = [networkx.to_numpy_array(graph).astype(np.int64) for graph in graphs]
    return torch.from_numpy(np.stack(arrays))


def shrikhande():
    """Strongly regular (16, 6, 2, 2), as the rook's graph is."""
    graph = networkx.Graph()
    steps = [(0, 1), (1, 0), (1, 1)]
    for a in range(4):
        for b in range(4):
            graph.add_edges_from(((a, b), ((a + x) % 4, (b + y) % 4)) for x, y in steps)
    return graph


def rook():
    return networkx.line_graph(networkx.complete_bipartite_graph(4, 4))


def by_definition(colours) -> bool:
    """The same refinement with dictionaries."""
    tables = [each.tolist() for each in colours]
    nodes, kinds = range(len(tables[0])), 0
    while True:
        counts = [Counter(colour for row in table for colour in row) for table in tables]
        if counts[0] != counts[1]:
            return True
        if len(counts[0]) == kinds:
            return False
        kinds = len(counts[0])
        signatures = [
            [
                [(t[i][j], tuple(sorted((t[i][k], t[k][j]) for k in nodes))) for j in nodes]
                for i in nodes
            ]
            for t in tables
        ]
        names = sorted({key for table in signatures for row in table for key in row})
        number = {key: index for index, key in enumerate(names)}
        tables = [[[number[key] for key in row] for row in table] for table in signatures]


def test_refinement_agrees_with_its_definition():
    atlas = [graph for graph in networkx.graph_atlas_g() if len(graph) == 6]
    for first, second in itertools.pairwise(atlas[40:90]):
        colours = first_colours(stack(first, second), polynomials=False)
        assert separated(colours) == by_definition(colours)


def test_relabelled_graphs_are_never_separated(rng):
    for graph in (*HARD, rook(), networkx.karate_club_graph()):
        matrix = stack(graph)[0].clamp(max=1)
        order = torch.randperm(len(matrix), generator=rng)
        both = torch.stack([matrix, matrix[order][:, order]])
        for polynomials in (False, True):
            assert not separated(first_colours(both, polynomials))


def test_strongly_regular_graphs_need_numbers_of_complete_graphs():
    assert separated(first_colours(stack(*HARD), polynomials=False))
    graphs = stack(rook(), shrikhande())
    assert not separated(first_colours(graphs, polynomials=False))
    assert separated(first_colours(graphs, polynomials=True))


def test_blocks_of_rows_change_nothing(monkeypatch):
    colours = first_colours(stack(rook(), rook()), polynomials=False)
    monkeypatch.setattr("eqlib.models.graphs.brec.three_wl._BLOCK", 1)
    assert not separated(colours)
    assert separated(first_colours(stack(*HARD), polynomials=False))


def test_the_command_counts_by_category(tmp_path, capsys):
    (tmp_path / "brec").mkdir()
    lines = [encode_graph6(*edges_of(graph)) for graph in HARD]
    same = [lines[0], lines[0]]
    for category in CATEGORIES:
        pair = same if category.name == "cfi" else lines
        array = np.array(pair * (category.stop - category.start))
        np.save(tmp_path / "brec" / category.file, array)
    out = tmp_path / "counts.json"
    assert main(["--data-dir", str(tmp_path), "--out", str(out)]) == 0
    assert "cfi: 0 of 100, with K4 0" in capsys.readouterr().out
    report = json.loads(out.read_text())
    assert report["categories"]["basic"] == {"pairs": 60, "three_wl": 60, "with_k4": 60}
    assert report["not_separated"]["three_wl"] == list(range(260, 360))
    assert main(["--data-dir", str(tmp_path / "nowhere")]) == 2


@pytest.mark.data
@pytest.mark.slow
def test_3_wl_separates_270_pairs_and_numbers_of_complete_graphs_50_more(data, tmp_path):
    out = tmp_path / "counts.json"
    assert main(["--data-dir", str(data / "graphs"), "--out", str(out)]) == 0
    counts = json.loads(out.read_text())["categories"]
    plain = [counts[category.name]["three_wl"] for category in CATEGORIES]
    assert plain == [60, 50, 0, 100, 60, 0, 0]
    with_k4 = [counts[category.name]["with_k4"] for category in CATEGORIES]
    assert with_k4 == [60, 50, 50, 100, 60, 0, 0]
