"""Count the pairs of graphs that a network cannot tell apart, whatever its weights and its width.

``python -m eqlib.models.graphs.refinement --dataset sr25 exp --model gin ppgn spen`` prints one row
for each set of pairs. No network is trained: colours are refined as a layer mixes features.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from eqlib.models.graphs.brec.pairs import CATEGORIES, RawPairs, read_brec
from eqlib.models.graphs.data import SOURCES, Graphs, load
from eqlib.models.graphs.networks import GIN, PPGN, SPEN
from eqlib.models.graphs.networks.base import GraphNetwork
from eqlib.models.graphs.networks.plans import make_plan
from eqlib.models.graphs.variants import VARIANTS
from eqlib.models.training.reports import markdown_table
from eqlib.models.training.storage import write_durably
from eqlib.options import make_parser, parse_arguments
from eqlib.subgraph import SubgraphPlan, pair_features, polynomial_features
from eqlib.subgraph.levels import off_diagonal
from eqlib.usage import exit_code, unknown

MODELS = tuple(name for name, variant in VARIANTS.items() if variant.network in (GIN, PPGN, SPEN))
DATASETS = (*SOURCES, "brec")
_SEED = 20220815  # of the factors in hashes


def graph_colours(
    network: GraphNetwork, batch: dict[str, Tensor], num_graphs: int
) -> Int[Tensor, "graphs"]:
    r"""Colours of graphs that networks like this one have to map alike, if they are equal.

    Colours stand for features of any width. They are refined as the network mixes features, until
    they do not split any more: those of nodes in GIN, by 1-WL, those of pairs of nodes in PPGN, by
    the folklore form of 2-WL, which is as strong as 3-WL,

    .. math:: c_i \leftarrow \bigl(c_i, \{\!\{c_j : j \to i\}\!\}\bigr), \qquad
        c_{ij} \leftarrow \bigl(c_{ij}, \{\!\{(c_{ik}, c_{kj}) : k\}\!\}\bigr),

    and in SPEN those of pairs by

    .. math:: c_{ij} \leftarrow \Bigl(c_{ij}, c_{ji}, c_{ii}, c_{jj}, c_i, c_j,
        \sum_{e \ni i, j} \lambda(e, i, j)\Bigr)

    where :math:`\lambda` has, for each basis map, the multiset of what that map adds up in the
    subgraph e: the colours of a row or column, of the diagonal, of all pairs, of all nodes, and,
    with roots, those of pairs with the root. Its nodes are coloured likewise, and graphs by the
    multiset of the colours of their nodes, pairs or subgraphs.

    Args:
        network: its class; of SPEN also the subgraphs, the roots and the polynomials.
        batch: the graphs.
        num_graphs: their number.

    Raises:
        TypeError: the network is none of these.

    Note:
        Multisets are compared by sums of 64-bit hashes. Equal ones have equal sums, so graphs of
        different colours differ; that different sums agree by chance is next to impossible. Sums
        in SPEN are told apart by the size of the subgraph, which stands for any division by it.
    """
    if isinstance(network, GIN):
        return _refine_nodes(batch, num_graphs)
    if isinstance(network, PPGN):
        return _refine_pairs(batch, num_graphs)
    if not isinstance(network, SPEN):
        raise TypeError(f"network is of type {type(network).__name__}; expected GIN, PPGN or SPEN")
    plan = make_plan(network.plan_options, batch["edge_index"], batch["batch"], num_graphs)
    pairs, nodes = _first_colours(network, batch, plan)
    layer = _Layer(plan, network.plan_options.marks)
    kinds = -1
    while (found := len(pairs.unique()) + len(nodes.unique())) != kinds:
        kinds = found
        pairs, nodes = layer.refine(pairs, nodes)
    return _total(layer.scalars(pairs, nodes), plan.graph, num_graphs)


def count_left(colours: Tensor, paired: bool) -> tuple[int, int]:
    """The number of pairs of graphs of one colour, and that of all pairs.

    Args:
        colours: of the graphs.
        paired: pairs are the graphs 2p and 2p + 1; otherwise all pairs.
    """
    if paired:
        return int((colours[::2] == colours[1::2]).sum()), len(colours) // 2
    counts = colours.unique(return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum()), len(colours) * (len(colours) - 1) // 2


def _refine_nodes(batch: dict[str, Tensor], num_graphs: int) -> Tensor:
    """Colours of graphs by 1-WL."""
    source, target = batch["edge_index"]
    nodes, kinds = _hash(batch["x"]), -1
    while (found := len(nodes.unique())) != kinds:
        kinds = found
        nodes = _hash(nodes, _total(nodes[source], target, len(nodes)))
    return _total(_hash(nodes), batch["batch"], num_graphs)


def _refine_pairs(batch: dict[str, Tensor], num_graphs: int) -> Tensor:
    """Colours of graphs by the folklore form of 2-WL."""
    whole = SPEN(1, policy="whole")
    plan = make_plan(whole.plan_options, batch["edge_index"], batch["batch"], num_graphs)
    entries = _first_colours(whole, batch, plan)[0][plan.slot]
    graphs = torch.zeros(num_graphs, dtype=torch.int64)
    for size in plan.sizes.unique().tolist():
        # Those of one size are refined together; graphs of two sizes differ anyway.
        chosen = plan.sizes == size
        matrices = entries[chosen[plan.subgraph[plan.row]]].view(-1, size, size)
        graphs[plan.graph[chosen]] = _hash(_refine_matrices(matrices)).sum((1, 2))
    return graphs


def _refine_matrices(colours: Int[Tensor, "graphs n n"]) -> Int[Tensor, "graphs n n"]:
    """Colours of pairs that the folklore form of 2-WL does not split any more."""
    kinds = -1
    while (found := len(colours.unique())) != kinds:
        kinds = found
        sums = torch.zeros_like(colours)
        for k in range(colours.shape[1]):
            ends = colours[:, :, k, None], colours[:, k, None, :]
            sums += _hash(*torch.broadcast_tensors(*ends))
        colours = _hash(colours, sums)
    return colours


class _Layer:
    """A layer with multisets in place of sums and colours in place of features.

    Args:
        plan: the subgraphs.
        rooted: whether maps know the roots.
    """

    def __init__(self, plan: SubgraphPlan, rooted: bool) -> None:
        self.plan, self.root = plan, plan.root if rooted else None
        self.size = plan.sizes[plan.subgraph]
        if self.root is not None:
            first, begin = plan.starts[plan.subgraph], plan.pair_starts[plan.subgraph]
            place = torch.arange(plan.num_members) - first
            root = self.root[plan.subgraph] - first
            self.is_root = place == root
            self.to_root, self.from_root = (
                begin + place * self.size + root,
                begin + root * self.size + place,
            )

    def scalars(self, pairs: Tensor, nodes: Tensor) -> Tensor:
        """Colours of the subgraphs."""
        return _hash(*self._sums(pairs, nodes)[1])

    def refine(self, pairs: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Colours of the stored pairs and of the nodes after the layer."""
        plan = self.plan
        vectors, scalars = self._sums(pairs, nodes)
        members = [*vectors, *(scalar[plan.subgraph] for scalar in scalars)]
        diagonal = torch.zeros_like(nodes)
        diagonal[plan.node] = pairs[plan.slot[plan.diagonal]]
        ends = [values[end] for values in (diagonal, nodes) for end in plan.pair_index]
        known = _mixed(members, 0)
        if self.root is not None:
            known = known + _mixed(members, 1) * self.is_root
        known = _total(known, plan.node, plan.num_nodes)
        other = off_diagonal(plan, local=False).long()
        turned = pairs[plan.slot_transpose]
        return (
            _hash(pairs, turned, other, *ends, self._spread(members)),
            _hash(nodes, diagonal, known),
        )

    def _sums(self, pairs: Tensor, nodes: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Multisets that each member sees, and those of each subgraph, by basis map."""
        plan, count = self.plan, self.plan.num_subgraphs
        local = pairs[plan.slot]
        entry = _hash(local, self.size[plan.row])
        diagonal, own = entry[plan.diagonal], _hash(nodes[plan.node], self.size)
        ends = (plan.row, plan.column)
        rows, columns = (_total(entry, end, plan.num_members) for end in ends)
        vectors = [diagonal, rows, columns, own]
        scalars = [_total(part, plan.subgraph, count) for part in (diagonal, rows, own)]
        scalars.append(_hash(plan.sizes))
        if self.root is not None:
            vectors += [_hash(local[self.to_root]), _hash(local[self.from_root])]
            scalars += [part[self.root] for part in (diagonal, rows, columns, own)]
        return vectors, scalars

    def _spread(self, members: list[Tensor]) -> Tensor:
        """The sum over subgraphs of what each basis map gives to their pairs."""
        plan = self.plan
        found = _mixed(members, 2)[plan.row] + _mixed(members, 3)[plan.column]
        if self.root is not None:
            at_row, at_column = self.is_root[plan.row], self.is_root[plan.column]
            found = found + _mixed(members, 4)[plan.row] * at_column
            found = found + _mixed(members, 5)[plan.column] * at_row
            found = found + _mixed(members, 6)[plan.row] * (at_row & at_column)
        return _total(found, plan.slot, plan.num_slots)


def _first_colours(
    network: SPEN, batch: dict[str, Tensor], plan: SubgraphPlan
) -> tuple[Tensor, Tensor]:
    """Colours of the pairs and nodes that the first layer is given."""
    edges, count = batch["edge_index"], len(batch["x"])
    flags = pair_features(plan, edges, missing=network.missing).long()
    types = plan.slot.new_zeros(plan.num_slots)
    types[plan.slot[plan.diagonal]] = batch["x"][plan.node]
    pairs, nodes = [*flags.unbind(1), types], [torch.zeros_like(batch["x"])]
    if network.polynomials:
        given = (edges, batch["batch"], count, plan.num_graphs)
        of_pairs = polynomial_features(*given, order="pair", plan=plan)
        of_nodes = polynomial_features(*given, order="node")
        pairs += of_pairs.double().mT.contiguous().view(torch.int64).unbind(0)
        nodes += of_nodes.double().mT.contiguous().view(torch.int64).unbind(0)
    return _hash(*pairs), _hash(*nodes)


def _hash(*parts: Tensor) -> Tensor:
    """One number for each row of several."""
    mixed = _mixed(parts, 7)
    # Steps of the splitmix generator; products of int64 wrap around.
    for factor in (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15):
        mixed = (mixed ^ (mixed >> 30)) * factor
    return mixed ^ (mixed >> 31)


def _mixed(parts: Sequence[Tensor], use: int) -> Tensor:
    """A sum with odd factors that depend on the place and on the use."""
    generator = torch.Generator().manual_seed(_SEED + use)
    bounds = -(2**63), 2**63 - 1
    factors = (torch.randint(*bounds, (len(parts) + 1,), generator=generator) | 1).tolist()
    total = torch.full_like(parts[0], factors.pop())
    for part, factor in zip(parts, factors, strict=True):
        total += part * factor
    return total


def _total(values: Tensor, index: Tensor, count: int) -> Tensor:
    return values.new_zeros(count).index_add_(0, index, values)


def main(arguments: Sequence[str] | None = None) -> int:
    """Count what the command line names; return the exit code."""
    parser = make_parser(
        "python -m eqlib.models.graphs.refinement",
        "[--dataset NAME ...] [--model MODEL ...] [options]",
        "Count the pairs of graphs that a network cannot tell apart, whatever its weights: by\n"
        "1-WL for gin, by 3-WL for ppgn, by refinement of subgraphs for the variants of spen.",
    )
    names = ", ".join(DATASETS)
    parser.add_argument("--dataset", nargs="+", default=["sr25", "brec"], help=names)
    parser.add_argument("--model", nargs="+", default=list(MODELS), help=", ".join(MODELS))
    parser.add_argument("--out", metavar="FILE", help="JSON file of the counts")
    text = "folder of the data (default: graphs in the user's cache folder)"
    parser.add_argument("--data-dir", metavar="DIR", help=text)
    try:
        given = parse_arguments(parser, sys.argv[1:] if arguments is None else list(arguments))
        for kind, wanted, known in (
            ("dataset", given.dataset, DATASETS),
            ("model", given.model, MODELS),
        ):
            for name in wanted:
                if name not in known:
                    raise unknown(kind, name, known)
        folder = None if given.data_dir is None else Path(given.data_dir)
        found = [row for name in given.dataset for row in _rows(name, given.model, folder)]
        if given.out:
            write_durably(Path(given.out), (json.dumps(found, indent=2) + "\n").encode())
    except (OSError, ValueError) as error:
        print(f"refinement: {error}", file=sys.stderr)
        return exit_code(error)
    columns = ["pairs of", "number", *(f"left by {model}" for model in given.model)]
    print(markdown_table(columns, [[str(value) for value in row.values()] for row in found]))
    return 0


def _rows(name: str, models: Sequence[str], folder: Path | None) -> list[dict[str, Any]]:
    """For each set of pairs, how many there are and how many each network leaves."""
    graphs, parts = _graphs(name, folder)
    rows: list[dict[str, Any]] = [{"name": part} for part in parts]
    for model in models:
        types = int(graphs.x.max()) + 1
        network = VARIANTS[model].make(0, width=1, layers=2, node_types=types, outputs=2)
        for row, chosen in zip(rows, parts.values(), strict=True):
            colours = graph_colours(network, graphs[chosen], len(chosen))
            row[model], row["pairs"] = count_left(colours, name in ("exp", "brec"))
    return [{"name": row.pop("name"), "pairs": row.pop("pairs")} | row for row in rows]


def _graphs(name: str, folder: Path | None) -> tuple[Graphs, dict[str, Tensor]]:
    """The graphs of a data set, and those of each set of pairs in it."""
    if name != "brec":
        graphs = load(name, folder)
        return graphs, {name: torch.arange(len(graphs))}
    source = read_brec(folder)
    if not isinstance(source, RawPairs):
        raise ValueError("data: expected the seven files of pairs, which brec_v3.npy has not")
    return source.graphs, {
        f"brec, {part.name}": torch.arange(2 * part.start, 2 * part.stop) for part in CATEGORIES
    }


if __name__ == "__main__":
    sys.exit(main())
