"""Small sets with folds, written in the text format and in the public layout."""

import networkx
import numpy as np


def random_graphs(count: int, types: int = 3) -> list[tuple[int, list[int], networkx.Graph]]:
    """Return label, types and edges of some graphs; every class and type occurs."""
    rng = np.random.default_rng(0)
    graphs = []
    for index in range(count):
        size = 2 + index % 5
        graph = networkx.gnp_random_graph(size, 0.6, seed=index)
        tags = [4 + 2 * int(tag) for tag in rng.integers(types, size=size)]
        graphs.append((3 * (index % 2), tags, graph))
    return graphs


def write_text(folder, name, graphs):
    """Write the text format, without folds."""
    lines = [str(len(graphs))]
    for label, tags, graph in graphs:
        lines.append(f"{len(tags)} {label}")
        for node, tag in enumerate(tags):
            near = sorted(graph[node])
            lines.append(" ".join(map(str, [tag, len(near), *near])))
    folder.mkdir(parents=True)
    (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


def write_folds(folder, count):
    """Write ten folds, of which the test parts have a tenth each, rounded down."""
    (folder / "10fold_idx").mkdir()
    size = count // 10
    for fold in range(1, 11):
        test = list(range((fold - 1) * size, fold * size))
        train = [graph for graph in range(count) if graph not in test]
        for part, rows in (("train", train), ("test", test)):
            text = "\n".join(map(str, rows)) + "\n"
            (folder / "10fold_idx" / f"{part}_idx-{fold}.txt").write_text(text)


def public_files(name, graphs):
    """Return the files of the public layout by name."""
    first, edges, indicator, types = 1, [], [], []
    for number, (_, tags, graph) in enumerate(graphs, start=1):
        edges += [(first + i, first + j) for a, b in graph.edges for i, j in ((a, b), (b, a))]
        indicator += [number] * len(tags)
        types += tags
        first += len(tags)
    return {
        f"{name}_A.txt": "".join(f"{i}, {j}\n" for i, j in edges),
        f"{name}_graph_indicator.txt": "".join(f"{number}\n" for number in indicator),
        f"{name}_graph_labels.txt": "".join(f"{label}\n" for label, *_ in graphs),
        f"{name}_node_labels.txt": "".join(f"{tag}\n" for tag in types),
    }


def write_public(folder, name, graphs):
    folder.mkdir(parents=True)
    for file, text in public_files(name, graphs).items():
        (folder / file).write_text(text)
