"""What plans of subgraphs cost beside training, and how the time of a layer grows with the pairs.

``OMP_NUM_THREADS=1 python benchmarks/subgraph_epoch.py --data-dir DIR`` writes
`results/subgraph_epoch.csv` and `results/subgraph_growth.csv`. Times are those of the processor.
"""

import argparse
import csv
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

# Run as a script, this file sees its own folder only.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.memory import keep_freed_memory
from benchmarks.results import ENVIRONMENT, ROOT, describe_environment
from benchmarks.subgraph import GRAPHS, SETS, Shared, graph_features, read_plan
from eqlib.models.graphs.data import load_collection
from eqlib.subgraph import Features, Pointwise, SubgraphLayer, SubgraphPlan, pool

RESULTS = ROOT / "benchmarks" / "results"
EPOCH_GRAPHS = 512  # at most
GROWING = (8, 16, 32, 64, 128, 256, 512)
REPEATS = 7
LAYERS = 3
TABLE_WIDTH = 120  # where the output is no terminal


class Stack(nn.Module):
    """Layers from pairs and nodes to pairs and nodes, and one number for each graph."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        orders = {2: channels, 1: channels}
        self.layers = nn.ModuleList(SubgraphLayer(orders, orders) for _ in range(LAYERS))
        self.pointwise = Pointwise(nn.ELU())
        self.head = nn.Linear(3 * channels, 1)

    def forward(self, features: Features, plan: SubgraphPlan) -> Tensor:
        """One number for each graph."""
        for layer in self.layers:
            features = self.pointwise(*layer(*features, plan=plan))
        return self.head(pool(features, plan))


def main(words: Sequence[str] | None = None, results: Path = RESULTS) -> int:
    """Measure, print both tables and write both files; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    help_data = "folder of the graph data (default: the one in the user's cache)"
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help=help_data)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), metavar="NAME")
    parser.add_argument("--out", type=Path, default=results, metavar="DIR")
    given = parser.parse_args(words)
    try:
        epochs = [measure_epoch(name, given.data_dir) for name in given.sets]
        growth = measure_growth(given.data_dir)
    except FileNotFoundError as error:
        print(f"subgraph_epoch: {error}", file=sys.stderr)
        return 2
    _show("an epoch and its plans", epochs, given.out / "subgraph_epoch.csv")
    _show("forward pass of a layer on NCI1", growth, given.out / "subgraph_growth.csv")
    return 0


def measure_epoch(name: str, folder: Path | None) -> dict[str, Any]:
    """Time the plan of a data set, its parts for all batches, and an epoch with these.

    Args:
        name: of the data set.
        folder: of the data; None: the user's cache.
    """
    graphs = load_collection(name.lower().replace("-", "_"), folder).graphs
    count = min(EPOCH_GRAPHS, len(graphs))
    whole = read_plan(name, count, folder)
    batches = torch.arange(count).split(GRAPHS)
    torch.manual_seed(0)
    net = Stack(SETS[name])
    generator = torch.Generator().manual_seed(0)
    inputs = [graph_features(whole.select(batch), SETS[name], generator) for batch in batches]

    def epoch() -> None:
        for given in inputs:
            features = Features(given["pairs"], given["nodes"])
            loss = net(features, given["plan"]).square().mean()
            torch.autograd.grad(loss, list(net.parameters()))

    times = {
        "plan_ms": _time(lambda: read_plan(name, count, folder)),
        "select_ms": _time(lambda: [whole.select(batch) for batch in batches]),
        "epoch_ms": _time(epoch, 3),
    }
    shares = {f"{part}_share": times[f"{part}_ms"] / times["epoch_ms"] for part in _PARTS}
    figures = {**times, **shares}
    return {
        "set": name,
        "graphs": count,
        "batches": len(batches),
        "channels": SETS[name],
        "pairs": whole.num_pairs,
        **{key: f"{value:.4g}" for key, value in figures.items()},
    }


_PARTS = ("plan", "select")


def measure_growth(folder: Path | None) -> list[dict[str, Any]]:
    """Time the forward pass of a layer on batches of growing size, with the straight line's fit.

    Args:
        folder: of the data; None: the user's cache.
    """
    torch.manual_seed(0)
    layer = Shared(SETS["NCI1"])
    rows, times = [], []
    for count in GROWING:
        plan = read_plan("NCI1", count, folder)
        given = graph_features(plan, SETS["NCI1"], torch.Generator().manual_seed(0))
        with torch.no_grad():
            times.append(_time(lambda given=given: layer(**given)))
        rows.append({"graphs": count, "pairs": plan.num_pairs, "forward_ms": f"{times[-1]:.4g}"})
    pairs = torch.tensor([float(row["pairs"]) for row in rows])
    r2 = torch.corrcoef(torch.stack([pairs, torch.tensor(times)]))[0, 1].square().item()
    for row, milliseconds in zip(rows, times, strict=True):
        row["us_per_pair"] = f"{1e3 * milliseconds / row['pairs']:.4g}"
        row["r2_of_a_line"] = f"{r2:.5f}"
    return rows


def _time(run: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Return the median of the milliseconds of the processor that a call takes."""
    run()
    samples = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        samples.append(1e3 * (time.process_time() - start))
    return torch.tensor(samples).median().item()


def _show(title: str, rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Print a table, and write it with the machine and the versions."""
    environment = describe_environment(torch.device("cpu"))
    table = Table(title=title, title_justify="left")
    for column in rows[0]:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*map(str, row.values()))
    console = Console()
    if not console.is_terminal:
        console.width = TABLE_WIDTH
    console.print(table)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *ENVIRONMENT], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, **environment} for row in rows)
    print(path)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
