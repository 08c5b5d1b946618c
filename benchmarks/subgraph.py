"""Equivariant linear layers on subgraphs, against all their basis maps in memory."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.answers import SEED
from benchmarks.registry import Benchmark, Inputs, MadeFor, OnlyFor, Problem
from benchmarks.subgraph_peers import (
    concatenated_layer,
    looped_layer,
    map_weights,
    mean_rows,
    stacked_layer,
)
from eqlib.models.graphs.data import load_collection
from eqlib.subgraph import (
    Features,
    PermutationLinear,
    SubgraphLayer,
    SubgraphPlan,
    aggregate,
    ego_plan,
    extract,
)

GRAPHS = 32
SETS = {"MUTAG": 64, "PROTEINS": 64, "NCI1": 64, "IMDB-BINARY": 32}
"""Channels for each data set."""
GROWING = (8, 128)
"""Numbers of graphs of NCI1, beside the usual one."""
MADE, MANY = "64 molecule-like graphs", "4,096 molecule-like graphs"
MADE_NODES = 18


class Local(nn.Module):
    """The layer on pairs and members of subgraphs."""

    implementation = "auto"

    def __init__(self, channels: int) -> None:
        super().__init__()
        orders = {2: channels, 1: channels}
        self.layer = PermutationLinear(orders, orders, implementation=self.implementation)

    def forward(self, pairs: Tensor, nodes: Tensor, plan: SubgraphPlan) -> tuple[Tensor, ...]:
        """Pairs and members."""
        found = self.layer(pairs=pairs, nodes=nodes, plan=plan)
        return found.pairs, found.nodes


class LocalBlocked(Local):
    """The same with operations of torch alone."""

    implementation = "blocked"


class LocalStacked(Local):
    """All subgraphs at once, with all maps in one tensor."""

    def forward(self, pairs: Tensor, nodes: Tensor, plan: SubgraphPlan) -> tuple[Tensor, ...]:
        """Pairs and members."""
        return stacked_layer(pairs, nodes, plan, map_weights(self.layer))


class LocalConcatenated(Local):
    """All subgraphs at once, with all maps concatenated."""

    def forward(self, pairs: Tensor, nodes: Tensor, plan: SubgraphPlan) -> tuple[Tensor, ...]:
        """Pairs and members."""
        return concatenated_layer(pairs, nodes, plan, map_weights(self.layer))


class LocalLooped(Local):
    """One subgraph after the other, with all maps of each in one tensor."""

    def forward(self, pairs: Tensor, nodes: Tensor, plan: SubgraphPlan) -> tuple[Tensor, ...]:
        """Pairs and members."""
        return looped_layer(pairs, nodes, plan, map_weights(self.layer))


class Shared(nn.Module):
    """The layer on pairs and nodes of the graph: what subgraphs share is not copied for each."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        orders = {2: channels, 1: channels}
        self.layer = SubgraphLayer(orders, orders)

    def forward(self, pairs: Tensor, nodes: Tensor, plan: SubgraphPlan) -> tuple[Tensor, ...]:
        """Pairs and nodes."""
        found = self.layer(pairs=pairs, nodes=nodes, plan=plan)
        return found.pairs, found.nodes


class SharedThroughLocal(Shared):
    """The same by way of features for each subgraph."""

    def forward(self, pairs: Tensor, nodes: Tensor, plan: SubgraphPlan) -> tuple[Tensor, ...]:
        """Pairs and nodes."""
        found = self.layer.linear(*extract(Features(pairs, nodes), plan), plan=plan)
        found = aggregate(found, plan)
        return found.pairs, found.nodes


class SharedStacked(Shared):
    """By way of features for each subgraph, and all maps of these in one tensor."""

    maps = staticmethod(stacked_layer)

    def forward(self, pairs: Tensor, nodes: Tensor, plan: SubgraphPlan) -> tuple[Tensor, ...]:
        """Pairs and nodes."""
        local = pairs.index_select(0, plan.slot), nodes.index_select(0, plan.node)
        found = self.maps(*local, plan, map_weights(self.layer.linear))
        return mean_rows(found[0], plan.slot, len(pairs)), mean_rows(
            found[1], plan.node, len(nodes)
        )


class SharedConcatenated(SharedStacked):
    """The same, concatenated."""

    maps = staticmethod(concatenated_layer)


class SharedLooped(SharedStacked):
    """One subgraph after the other."""

    maps = staticmethod(looped_layer)


def _made(kind: Callable[[int], nn.Module]) -> MadeFor:
    """A layer with as many channels as the inputs have."""

    def make(inputs: Mapping[str, Any]) -> nn.Module:
        pairs = inputs["pairs"]
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            return kind(pairs.shape[1]).to(pairs.device)

    return MadeFor(make)


def read_plan(name: str, graphs: int, folder: Path | None) -> SubgraphPlan:
    """The ego nets of the first graphs of a data set.

    Args:
        name: such as MUTAG.
        graphs: number of graphs.
        folder: of the data; None: the user's cache.

    Raises:
        FileNotFoundError: the data set is not there.
    """
    batch = load_collection(name.lower().replace("-", "_"), folder).graphs[torch.arange(graphs)]
    return ego_plan(batch["edge_index"], batch["batch"], num_graphs=graphs, when_dearer="ignore")


def make_plan(graphs: int) -> SubgraphPlan:
    """The ego nets of rings with some chords, of about the sizes that molecules have."""
    node = torch.arange(MADE_NODES)
    ends = torch.cat([(node + 1) % MADE_NODES, (node[::4] + 5) % MADE_NODES])
    edges = torch.stack([torch.cat([node, node[::4]]), ends])
    edges = torch.cat([edges, edges.flip(0)], 1)
    first = torch.arange(graphs)[:, None, None] * MADE_NODES
    edge_index = (edges + first).transpose(0, 1).flatten(1)
    batch = torch.arange(graphs).repeat_interleave(MADE_NODES)
    return ego_plan(edge_index, batch, num_graphs=graphs)


def local_features(plan: SubgraphPlan, channels: int, generator: torch.Generator) -> Inputs:
    """Features of pairs and members of the subgraphs."""
    pairs = torch.randn(plan.num_pairs, channels, generator=generator)
    nodes = torch.randn(plan.num_members, channels, generator=generator)
    return {"pairs": pairs, "nodes": nodes, "plan": plan}


def graph_features(plan: SubgraphPlan, channels: int, generator: torch.Generator) -> Inputs:
    """Features of the stored pairs and of the nodes of the graphs."""
    pairs = torch.randn(plan.num_slots, channels, generator=generator)
    nodes = torch.randn(plan.num_nodes, channels, generator=generator)
    return {"pairs": pairs, "nodes": nodes, "plan": plan}


Make = Callable[[SubgraphPlan, int, torch.Generator], Inputs]


def _read(
    name: str, graphs: int, features: Make, folder: Path | None, generator: torch.Generator
) -> Inputs:
    return features(read_plan(name, graphs, folder), SETS[name], generator)


def _make(graphs: int, features: Make, generator: torch.Generator) -> Inputs:
    return features(make_plan(graphs), 64, generator)


def _problems(features: Make) -> dict[str, Problem]:
    """Batches of the data sets, and made ones."""
    sizes = [(name, GRAPHS) for name in SETS] + [("NCI1", graphs) for graphs in GROWING]
    found = {MADE: Problem(partial(_make, 64, features))}
    found |= {
        f"{name}, {graphs} graphs": Problem(
            partial(_read, name, graphs, features), data=True, devices=("cpu",)
        )
        for name, graphs in sizes
    }
    found[MANY] = Problem(partial(_make, 4096, features), devices=("cuda",))
    return found


def _few(problems: Mapping[str, Problem]) -> frozenset[str]:
    """Those that a loop in Python ends within seconds."""
    return frozenset(name for name in problems if f" {GRAPHS} graphs" in name or name == MADE)


_LOCAL, _SHARED = _problems(local_features), _problems(graph_features)
_SLOW = "it would take minutes"

BENCHMARKS = (
    Benchmark(
        name="permutation_linear",
        tests="tests/benchmarks/test_subgraph.py",
        problems=_LOCAL,
        implementations={"eqlib": _made(Local), "eqlib, blocked": _made(LocalBlocked)},
        peers={
            "all maps stacked": _made(LocalStacked),
            "all maps concatenated": _made(LocalConcatenated),
            "each subgraph by itself": OnlyFor(_few(_LOCAL), _made(LocalLooped), _SLOW),
        },
        differentiate=("pairs", "nodes"),
        outputs=2,
        tolerance=2e-5,
    ),
    Benchmark(
        name="subgraph_layer",
        tests="tests/benchmarks/test_subgraph.py",
        problems=_SHARED,
        implementations={
            "eqlib": _made(Shared),
            "eqlib, with a row for each pair": _made(SharedThroughLocal),
        },
        peers={
            "all maps stacked": _made(SharedStacked),
            "all maps concatenated": _made(SharedConcatenated),
            "each subgraph by itself": OnlyFor(_few(_SHARED), _made(SharedLooped), _SLOW),
        },
        differentiate=("pairs", "nodes"),
        outputs=2,
        tolerance=2e-5,
    ),
)
