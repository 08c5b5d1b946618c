"""Memory of a training step of SPEN on ego nets, on whole graphs, and of PPGN.

``python -m eqlib.models.graphs.memory --dataset mutag ptc --data-dir data/graphs`` prints a row for
each data set: pairs of nodes, and what autograd keeps between the forward and the backward pass.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from eqlib.models.graphs.data import COLLECTIONS, Graphs, load_collection
from eqlib.models.graphs.networks import PPGN, SPEN
from eqlib.models.graphs.networks.base import GraphNetwork
from eqlib.models.graphs.networks.plans import PlanOptions, make_plan
from eqlib.models.training.loop import kept_bytes
from eqlib.models.training.reports import markdown_table
from eqlib.options import make_parser, parse_arguments
from eqlib.usage import exit_code, unknown

BATCH, WIDTH = 32, 32
NETWORKS: dict[str, Callable[..., GraphNetwork]] = {
    "spen": lambda **sizes: SPEN(WIDTH, 4, policy="ego", **sizes),
    "spen_whole": lambda **sizes: SPEN(WIDTH, 4, policy="whole", **sizes),
    "ppgn": lambda **sizes: PPGN(WIDTH, 3, pool="max", normalised=True, **sizes),
}


def memory_of(graphs: Graphs) -> dict[str, Any]:
    """Return pairs of nodes and saved bytes of each network on a data set.

    Bytes are those of float32 activations, counted once each, of training steps on batches of 32
    graphs in the order of the file: their sum over an epoch, and the largest batch.

    Args:
        graphs: the data set.
    """
    everything = graphs[torch.arange(len(graphs))]
    given = everything["edge_index"], everything["batch"], len(graphs)
    ego = make_plan(PlanOptions("ego"), *given)
    found: dict[str, Any] = {
        "graphs": len(graphs),
        "pairs": ego.num_pairs,
        "stored_pairs": ego.num_slots,
        "pairs_whole": ego.num_whole_pairs,
    }
    sizes = {"node_types": int(graphs.x.max()) + 1, "outputs": int(graphs.y.max()) + 1}
    for name, make in NETWORKS.items():
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            network = make(**sizes)
            parts = [
                saved_bytes(network, graphs[rows])
                for rows in torch.arange(len(graphs)).split(BATCH)
            ]
        found[name] = {"epoch": sum(parts), "largest": max(parts)}
    return found


def saved_bytes(network: GraphNetwork, batch: dict[str, Tensor]) -> int:
    """Return the bytes that a training step keeps for its backward pass, weights left out."""
    inputs = {name: batch[name] for name in ("x", "edge_index", "batch")}
    plan = network.make_plan(inputs["edge_index"], inputs["batch"], len(batch["y"]))

    def loss() -> Tensor:
        logits = network(**inputs, num_graphs=len(batch["y"]), plan=plan)
        return functional.cross_entropy(logits, batch["y"])

    known = [*network.parameters(), *network.buffers(), *inputs.values(), plan]
    return kept_bytes(loss, known)


def memory_table(found: dict[str, dict[str, Any]]) -> str:
    """Return the figures as a table of Markdown."""
    columns = ["data set", "sum n^2", "sum m^2", "stored pairs"]
    columns += [f"{name}, MB an epoch" for name in NETWORKS]
    rows = [
        [
            name,
            f"{figures['pairs_whole']:,}",
            f"{figures['pairs']:,}",
            f"{figures['stored_pairs']:,}",
            *(f"{figures[network]['epoch'] / 1e6:,.0f}" for network in NETWORKS),
        ]
        for name, figures in found.items()
    ]
    return markdown_table(columns, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line names; return the exit code."""
    parser = make_parser(
        "python -m eqlib.models.graphs.memory",
        "[--dataset NAME ...] [options]",
        "Measure what training steps of SPEN and PPGN keep in memory.",
    )
    names = ", ".join(COLLECTIONS)
    parser.add_argument("--dataset", nargs="+", default=list(COLLECTIONS), help=names)
    text = "folder of the data (default: graphs in the user's cache folder)"
    parser.add_argument("--data-dir", metavar="DIR", help=text)
    parser.add_argument("--out", metavar="FILE", help="JSON file to write")
    try:
        given = parse_arguments(parser, sys.argv[1:] if arguments is None else list(arguments))
        for name in given.dataset:
            if name not in COLLECTIONS:
                raise unknown("dataset", name, COLLECTIONS)
        folder = None if given.data_dir is None else Path(given.data_dir)
        found = {name: memory_of(load_collection(name, folder).graphs) for name in given.dataset}
        if given.out:
            Path(given.out).write_text(json.dumps(found, indent=2) + "\n")
    except (OSError, ValueError) as error:
        print(f"memory: {error}", file=sys.stderr)
        return exit_code(error)
    print(memory_table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
