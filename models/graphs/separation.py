"""Count the pairs of graphs that untrained networks do not separate.

``python -m eqlib.models.graphs.separation --dataset graph8c --model gin fa_mlp`` prints one row for
each network. A count says nothing of a network that depends on the labels of the nodes: random
identifiers separate everything. So each count stands beside the share of 32 relabelled copies of
each graph that the same rule takes for that graph.
"""

import json
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eqlib.geometry import segment_sum
from eqlib.models.graphs.data import COPIES, SOURCES, load
from eqlib.models.graphs.data.ragged import Graphs, relabel, relabellings
from eqlib.models.graphs.networks import GIN, FrameAveraged
from eqlib.models.graphs.networks.base import GraphNetwork, RaggedGraphs
from eqlib.models.graphs.networks.framed import Copies
from eqlib.models.graphs.variants import VARIANTS, check_variants
from eqlib.models.training.loop import derive_seed
from eqlib.models.training.reports import markdown_table
from eqlib.options import make_parser, parse_arguments
from eqlib.usage import exit_code, unknown

EXACT = 40_320  # orders of eight nodes
OUTPUTS, WIDTH, LAYERS = 10, 32, 4
CHECKED = 50  # graphs that are relabelled
_BLOCK = 512
_PAIRS = 2**17  # pairs of nodes that networks without frames see at once

Embeddings = Float[Tensor, "networks graphs outputs"]


class Count(NamedTuple):
    """What untrained networks of one kind separate."""

    dataset: str
    model: str
    pairs: int
    not_separated: int
    """Pairs closer than the threshold in all networks."""
    agreement: float
    """Share of relabelled copies that the same rule takes for their graph."""
    within_relabelling: int
    """Pairs that differ in no network by more than some graph does from a relabelled copy."""
    frames: str
    """How many orders each graph is averaged over."""
    networks: int
    threshold: float
    dtype: str
    seconds: float


def count_pairs(
    name: str,
    graphs: Graphs,
    model: str,
    networks: int = 10,
    samples: int = 16,
    threshold: float = 1e-6,
    seed: int = 0,
    search: bool = False,
) -> Count:
    r"""Count pairs that no network of several separates, all computed in float64.

    Two graphs are separated where, in one network or more,

    .. math:: \lVert f(G) - f(H) \rVert_1 > \text{threshold} \cdot
        \textstyle\frac{1}{|D|} \sum_{K \in D} \lVert f(K) \rVert_1.

    Args:
        name: of the data set D; the pairs of ``exp`` are its graphs 2p and 2p + 1, those of
            others are all pairs.
        graphs: the data set.
        model: one of `VARIANTS`.
        networks: number of networks with random weights.
        samples: orders drawn for each graph that has too many to average over all.
        threshold: the smallest difference that counts.
        seed: of the weights.
        search: average over the orders of `eqlib.frames.search_frames`.

    Note:
        Sorting frames of graphs of up to eight nodes are averaged over in full; others are sampled.
    """
    start = time.perf_counter()
    everything = graphs[torch.arange(len(graphs))]
    nodes, types = int(graphs.node_ptr.diff().max()), int(graphs.x.max()) + 1
    nets = [_make(model, nodes, types, samples, seed, index) for index in range(networks)]
    for network in nets:
        if isinstance(network, FrameAveraged):
            network.search = search and network.spectral
            network.limit = EXACT if nodes <= 8 else 0
    embedded, about = embed(nets, _ragged(everything))
    scale = embedded.abs().sum(2).mean(1)
    moved = _relabelled_distances(nets, graphs, embedded) / scale[:, None]
    limits = torch.stack([torch.full_like(scale, threshold), moved.amax(1).clamp(min=threshold)], 1)
    paired = name == "exp"
    close = _close_pairs(embedded / scale[:, None, None], limits, paired)
    return Count(
        dataset=name,
        model=model,
        pairs=len(graphs) // 2 if paired else len(graphs) * (len(graphs) - 1) // 2,
        not_separated=close[0],
        agreement=(moved <= threshold).all(0).double().mean().item(),
        within_relabelling=close[1],
        frames=about,
        networks=networks,
        threshold=threshold,
        dtype="float64",
        seconds=round(time.perf_counter() - start, 1),
    )


@torch.no_grad()
def embed(networks: Sequence[GraphNetwork], graphs: RaggedGraphs) -> tuple[Embeddings, str]:
    """Return the outputs of networks of one kind, and words on what each is averaged over."""
    first = networks[0]
    if not isinstance(first, FrameAveraged):
        parts = [_embed_plainly(networks, part) for part in split(graphs)]
        return torch.cat(parts, 1), "none"
    copies = first.copies(graphs)
    about = f"{len(copies.graph):,} orders"
    if first.limit:
        copies = merge_equal_copies(copies)
        about += f", {len(copies.graph):,} of them different"
    approximate = int((~copies.exact).sum())
    about = f"approximate for {approximate:,} graphs: {about}" if approximate else f"exact: {about}"
    found = [network.average(copies) for network in networks if isinstance(network, FrameAveraged)]
    return torch.stack(found), about


def merge_equal_copies(copies: Copies) -> Copies:
    """Return copies of graphs of at most eight nodes in which equal ones are one, of their weight.

    Orders that an automorphism takes into one another give the same copy, so that a network need
    see it once only.

    Raises:
        ValueError: a graph has more than eight nodes.
    """
    graphs, place = copies.graphs, copies.graphs.place
    if len(place) and int(place.max()) >= 8:
        raise ValueError("copies: expected graphs of at most eight nodes")
    source, target = graphs.edge_index
    # Entry (i, j) of the adjacency matrix is bit 8 i + j: no two matrices have the same code.
    bits = torch.ones_like(source) << (8 * place[source] + place[target])
    code = torch.zeros_like(copies.graph).index_add_(0, graphs.batch[source], bits)
    types = graphs.x << (8 * place)
    kinds = torch.zeros_like(copies.graph).index_add_(0, graphs.batch, types)
    rows = torch.stack([copies.graph, code, kinds], 1)
    different, index = rows.unique(dim=0, return_inverse=True)
    weights = segment_sum(copies.weights, index, len(different))
    chosen = torch.full_like(different[:, 0], len(index))
    chosen = chosen.scatter_reduce(0, index, torch.arange(len(index)), "amin")
    number = torch.full_like(index, -1)
    number[chosen] = torch.arange(len(chosen))
    node = number[graphs.batch] >= 0
    edge = node[source]
    slot = node.cumsum(0) - 1
    # Copies are sorted by graph and unique rows too, but not in the same order within a graph.
    batch = number[graphs.batch[node]]
    order = batch.argsort(stable=True)
    rank = order.argsort()
    kept = RaggedGraphs(
        graphs.x[node][order], rank[slot[graphs.edge_index[:, edge]]], batch[order], len(different)
    )
    return copies._replace(graphs=kept, graph=different[:, 0], weights=weights)


def write_counts(path: Path, counts: Sequence[Count]) -> None:
    """Write counts to a file of JSON, in the place of older ones of the same networks."""
    older = json.loads(path.read_text()) if path.exists() else []
    new = [(count.dataset, count.model) for count in counts]
    rows = [row for row in older if (row["dataset"], row["model"]) not in new]
    rows += [count._asdict() for count in counts]
    path.write_text(json.dumps(rows, indent=2) + "\n")


def split(graphs: RaggedGraphs, pairs: int = _PAIRS) -> list[RaggedGraphs]:
    """Return a batch in parts, each with so many pairs of nodes, or of one graph.

    Args:
        graphs: the batch, whose edges are sorted by graph.
        pairs: sum of squared numbers of nodes of a part.
    """
    sizes = torch.bincount(graphs.batch, minlength=graphs.num_graphs)
    part = (sizes.square().cumsum(0) - 1).clamp(min=0) // pairs
    bounds = [0, *(part.diff().nonzero()[:, 0] + 1).tolist(), graphs.num_graphs]
    edge_graph = graphs.batch[graphs.edge_index[0]].contiguous()
    found = []
    for first, last in pairwise(bounds):
        limits = torch.tensor([first, last])
        nodes = slice(*torch.searchsorted(graphs.batch, limits).tolist())
        edges = slice(*torch.searchsorted(edge_graph, limits).tolist())
        edge_index = graphs.edge_index[:, edges] - nodes.start
        batch = graphs.batch[nodes] - first
        found.append(RaggedGraphs(graphs.x[nodes], edge_index, batch, last - first))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the counts that a command line asks for and return the exit code."""
    parser = make_parser(
        "python -m eqlib.models.graphs.separation",
        "--dataset NAME [--model MODEL ...] [options]",
        "Count the pairs of graphs that untrained networks do not separate.",
    )
    parser.add_argument("--dataset", metavar="NAME", help=f"one of {', '.join(SOURCES)}")
    parser.add_argument(
        "--model", nargs="+", default=list(VARIANTS), metavar="MODEL", help=", ".join(VARIANTS)
    )
    parser.add_argument("--networks", type=int, default=10, help="networks with random weights")
    parser.add_argument("--samples", type=int, default=16, help="orders drawn for large frames")
    parser.add_argument("--threshold", type=float, default=1e-6, help="relative difference")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights")
    parser.add_argument("--search", action="store_true", help="frames of a search, not samples")
    text = "folder of the data (default: graphs in the user's cache folder)"
    parser.add_argument("--data-dir", metavar="DIR", help=text)
    parser.add_argument(
        "--out", metavar="FILE", help="JSON file to write the counts to; it keeps those of others"
    )
    try:
        given = parse_arguments(parser, sys.argv[1:] if arguments is None else list(arguments))
        _check(given.dataset, given.model)
        graphs = load(given.dataset, None if given.data_dir is None else Path(given.data_dir))
        options = (given.networks, given.samples, given.threshold, given.seed, given.search)
        counts = [count_pairs(given.dataset, graphs, model, *options) for model in given.model]
        if given.out:
            write_counts(Path(given.out), counts)
    except (OSError, ValueError) as error:
        print(f"separation: {error}", file=sys.stderr)
        return exit_code(error)
    print(_table(counts))
    return 0


def _check(dataset: str | None, models: Sequence[str]) -> None:
    if dataset not in SOURCES:
        raise unknown("dataset", dataset, SOURCES)
    check_variants(models)


def _make(model: str, nodes: int, types: int, samples: int, seed: int, index: int) -> GraphNetwork:
    """Return a network with random weights in float64, in evaluation mode."""
    sizes = {"node_types": types, "outputs": OUTPUTS, "width": WIDTH, "layers": LAYERS}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("separation", seed, index))
        network = VARIANTS[model].create(nodes=nodes, samples=samples, **sizes).eval()
        for part in network.modules():
            if isinstance(part, GIN):
                # Zero, the value before training, would mix up a node and its neighbours: graphs
                # whose matrices A + I differ by an automorphism only would look the same.
                nn.init.uniform_(part.epsilon)
    return network


def _embed_plainly(networks: Sequence[GraphNetwork], graphs: RaggedGraphs) -> Embeddings:
    """Return the outputs of networks without frames, which share one plan."""
    plan = networks[0].make_plan(graphs.edge_index, graphs.batch, graphs.num_graphs)
    graphs = graphs._replace(plan=plan)
    return torch.stack([network.predict(graphs, None) for network in networks])


def _ragged(batch: dict[str, Tensor]) -> RaggedGraphs:
    return RaggedGraphs(batch["x"], batch["edge_index"], batch["batch"], len(batch["y"]))


def _relabelled_distances(
    networks: Sequence[GraphNetwork], graphs: Graphs, embedded: Embeddings
) -> Float[Tensor, "networks copies"]:
    """Return how far relabelled copies of some graphs are from their graph."""
    chosen = torch.linspace(0, len(graphs) - 1, min(CHECKED, len(graphs))).long()
    targets = relabellings(graphs, COPIES)
    batch = graphs.with_nodes(local=True, relabelled=targets)[chosen]
    distances = []
    for target in batch["relabelled"]:
        moved, _ = embed(networks, _ragged(relabel(batch, target)))
        distances.append((moved - embedded[:, chosen]).abs().sum(2))
    return torch.cat(distances, 1)


def _close_pairs(
    embedded: Embeddings, limits: Float[Tensor, "networks rules"], paired: bool
) -> list[int]:
    """Return, for each rule, the number of pairs within its limit in all networks."""
    if paired:
        distance = (embedded[:, 0::2] - embedded[:, 1::2]).abs().sum(2)
        return (distance[..., None] <= limits[:, None]).all(0).sum(0).tolist()
    counts = torch.zeros(limits.shape[1], dtype=torch.int64)
    for start in range(0, embedded.shape[1], _BLOCK):
        rows, others = embedded[:, start : start + _BLOCK], embedded[:, start:]
        close = [torch.ones(rows.shape[1], others.shape[1], dtype=torch.bool) for _ in counts]
        for row, other, limit in zip(rows, others, limits, strict=True):
            distance = torch.cdist(row, other, p=1)
            close = [old & (distance <= bound) for old, bound in zip(close, limit, strict=True)]
        counts += torch.stack([part.triu(1).sum() for part in close])
    return counts.tolist()


def _table(counts: Sequence[Count]) -> str:
    """Return the counts as a table in Markdown."""
    first = counts[0]
    rows = [
        [
            f"`{count.model}`",
            f"{count.not_separated:,}",
            f"{count.agreement:.1%}",
            f"{count.within_relabelling:,}",
            count.frames,
            f"{count.seconds:.0f}",
        ]
        for count in counts
    ]
    head = ["network", "not separated", "relabelled copies that agree"]
    head += ["not separated beyond relabelling", "frames", "s"]
    return (
        f"{first.dataset}: {first.pairs:,} pairs; {first.networks} networks with random weights, "
        f"relative threshold {first.threshold:g}, {first.dtype}; {COPIES} relabellings\n\n"
        + markdown_table(head, rows)
    )


if __name__ == "__main__":
    sys.exit(main())
