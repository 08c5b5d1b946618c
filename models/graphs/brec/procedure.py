"""BREC in place of the usual run of ``eqlib train graphs``."""

from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from eqlib.models.graphs.brec.command import choose_pairs, tell
from eqlib.models.graphs.brec.pairs import CATEGORIES, PAIRS, Source, read_brec
from eqlib.models.graphs.brec.protocol import Schedule
from eqlib.models.graphs.brec.run import Row, run_pairs, summarise, table
from eqlib.models.graphs.data import BREC
from eqlib.models.graphs.networks.base import SIGNATURE, GraphNetwork
from eqlib.models.training.configuration import RunConfig, make_config
from eqlib.models.training.procedure import Job, build_model
from eqlib.models.training.storage import check_data
from eqlib.symmetry import equivariance_error
from eqlib.usage import UsageError

FILE = "brec-pairs.jsonl"
USED = ("epochs", "batch_size", "learning_rate", "weight_decay", "device", "threads")
"""The training options that the protocol leaves open."""


def run_brec(job: Job) -> dict[str, Any]:
    """Judge all pairs with the network of a configuration and return the figures of the report.

    Epochs, batch size, learning rate and weight decay are those of the configuration; everything
    is computed in float64. The folder keeps a line of JSON for each pair, so that a run that was
    stopped goes on.

    Raises:
        FileNotFoundError: the data are missing; the message says where to get them.
        UsageError: a training option that BREC does not have is not as the preset has it, or the
            folder holds the results of another configuration or of other data.
    """
    config = job.config
    _check_training(config)
    source = read_brec(job.task.data_dir)
    example = _network(job, config.seed)  # a wrong option fails before anything is written
    job.start()
    if not job.processes.is_main:
        return {}
    check_data(job.out, [source.checksum()])
    training = config.training
    schedule = Schedule(
        training.epochs, training.batch_size, training.learning_rate, training.weight_decay
    )
    outputs = int(config.network["outputs"])
    rows = run_pairs(
        lambda seed: _network(job, seed).to(job.processes.device),
        source,
        job.out / FILE,
        config.seed,
        choose_pairs([category.name for category in CATEGORIES]),
        schedule,
        {"model": config.model, **config.network},
        partial(tell, outputs=outputs),
    )
    summary = summarise(rows, outputs)
    return {
        "test": _measures(summary),
        "equivariance": _equivariance(example, source),
        "parameters": sum(each.numel() for each in example.parameters()),
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "brec": summary,
        "page": f"# BREC: {config.model}, seed {config.seed}\n\n{table({config.model: summary})}",
    }


def _check_training(config: RunConfig) -> None:
    """Refuse training options that would change nothing."""
    asked, usual = (
        asdict(each.training)
        for each in (config, make_config(config.task, config.model, config.preset, 0, BREC))
    )
    for name, value in usual.items():
        if name not in USED and asked[name] != value:
            raise UsageError(
                f"training.{name}: got {asked[name]}, but the training of BREC takes "
                f"{', '.join(USED)} alone; leave it as the preset has it, {value}"
            )


def _network(job: Job, seed: int) -> GraphNetwork:
    network = build_model(job.task, job.config, seed)
    if not isinstance(network, GraphNetwork):
        raise TypeError(f"model: {job.config.model} is not a GraphNetwork, which BREC judges")
    return network.double()


def _measures(summary: Row) -> dict[str, float]:
    """Return the shares of pairs that are distinguished, and of those that are unreliable."""
    total = summary["total"]
    measures = {"accuracy": total["distinguished"] / PAIRS}
    measures |= {
        f"accuracy_{name}": count["distinguished"] / count["pairs"]
        for name, count in summary["groups"].items()
    }
    return measures | {"unreliable": total["unreliable"] / PAIRS}


def _equivariance(network: GraphNetwork, source: Source) -> dict[str, float]:
    """Return the largest relative change of the outputs over relabellings of a few graphs."""
    graphs = source.copies(0, 0).pair
    batch = graphs[torch.arange(8)]
    inputs = {name: batch[name] for name in ("x", "edge_index", "batch")}
    errors = {}
    for dtype in (torch.float32, torch.float64):
        with torch.no_grad():
            report = equivariance_error(network.to(dtype).eval(), inputs, SIGNATURE)
        errors[str(dtype).removeprefix("torch.")] = report.max
    return errors
