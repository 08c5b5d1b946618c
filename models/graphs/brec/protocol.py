"""How one pair of BREC is judged: a network trained on it alone, and two statistics."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.nn import functional

from eqlib.models.graphs.brec.pairs import Copies
from eqlib.models.graphs.brec.statistic import Statistic, paired_statistic, threshold
from eqlib.models.graphs.data import Graphs
from eqlib.models.graphs.networks.base import GraphNetwork, RaggedGraphs

SAME = 1e-6
"""Statistics of a pair and of one graph alone that are closer than this say nothing."""


class Schedule(NamedTuple):
    """How a network is trained on a pair; the defaults are those of the benchmark."""

    epochs: int = 20
    batch_size: int = 16
    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    margin: float = 0.0
    stop_below: float = 0.2
    """The mean loss of an epoch that ends the training."""


class Verdict(NamedTuple):
    """What came of one pair."""

    pair: Statistic
    alone: Statistic
    """Of relabellings of one graph."""
    epochs: int
    loss: float
    """Mean of the last epoch."""
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict for JSON, in which NaN is None."""
        statistics = {"pair": self.pair, "alone": self.alone}
        found: dict[str, Any] = {
            name: {form: _finite(value) for form, value in statistic._asdict().items()}
            for name, statistic in statistics.items()
        }
        rest = {"epochs": self.epochs, "loss": _finite(self.loss)}
        return found | rest | {"seconds": round(self.seconds, 2)}


class Answer(NamedTuple):
    """Whether a pair counts."""

    correct: bool
    """The statistic of the pair passes the threshold and differs from that of one graph alone."""
    reliable: bool
    """That of one graph alone stays below."""

    @property
    def distinguished(self) -> bool:
        """Whether both hold."""
        return self.correct and self.reliable


def answer(row: dict[str, Any], form: str = "ridge", outputs: int = 16) -> Answer:
    """Return what a form of the statistic says of a pair, from its verdict in JSON.

    Args:
        row: what `Verdict.to_dict` returns.
        form: a field of `Statistic`.
        outputs: numbers per graph.
    """
    bound = threshold(outputs=outputs)
    pair, alone = row["pair"][form], row["alone"][form]
    correct = pair is not None and pair > bound and (alone is None or abs(pair - alone) > SAME)
    return Answer(correct, alone is not None and alone < bound)


def judge(network: GraphNetwork, copies: Copies, schedule: Schedule | None = None) -> Verdict:
    """Train a network to tell a pair apart and measure whether it does.

    The loss is the cosine embedding loss that pushes the outputs of the two graphs apart; training
    ends after its epochs or where the loss is small. All is computed in the network's precision,
    which is to be float64.

    Args:
        network: a fresh one; it is trained in place.
        copies: relabellings of the two graphs.
        schedule: of the training.
    """
    start = time.perf_counter()
    schedule = schedule or Schedule()
    batches = _batches(network, copies.pair, schedule.batch_size)
    epochs, loss = _train(network, batches, schedule)
    network.eval()
    pair = paired_statistic(_differences(network, batches))
    alone = paired_statistic(
        _differences(network, _batches(network, copies.alone, schedule.batch_size))
    )
    return Verdict(pair, alone, epochs, loss, time.perf_counter() - start)


def _train(
    network: GraphNetwork, batches: list[RaggedGraphs], schedule: Schedule
) -> tuple[int, float]:
    """Return the number of epochs and the last one's loss."""
    parameters = [each for each in network.parameters() if each.requires_grad]
    epochs, loss = 0, torch.nan
    if not parameters:
        return epochs, loss
    optimizer = torch.optim.Adam(
        parameters, lr=schedule.learning_rate, weight_decay=schedule.weight_decay
    )
    network.train()
    while epochs < schedule.epochs:
        epochs += 1
        losses = []
        for graphs in batches:
            optimizer.zero_grad()
            outputs = network.predict(graphs, None)
            apart = outputs.new_full((len(outputs) // 2,), -1)
            value = functional.cosine_embedding_loss(
                outputs[0::2], outputs[1::2], apart, margin=schedule.margin
            )
            value.backward()
            optimizer.step()
            losses.append(value.item())
        loss = sum(losses) / len(losses)
        if loss < schedule.stop_below:
            break
    return epochs, loss


def _batches(network: GraphNetwork, graphs: Graphs, size: int) -> list[RaggedGraphs]:
    """Return graphs in batches, each with its plan, which all epochs share."""
    device = next(network.parameters()).device
    found = []
    for indices in torch.arange(len(graphs)).split(size):
        batch = {name: value.to(device) for name, value in graphs[indices].items()}
        parts = batch["edge_index"], batch["batch"], len(indices)
        found.append(RaggedGraphs(batch["x"], *parts, network.make_plan(*parts)))
    return found


@torch.no_grad()
def _differences(
    network: GraphNetwork, batches: list[RaggedGraphs]
) -> Float64[Tensor, "copies outputs"]:
    """Return the outputs of every second graph minus those of the graph after it."""
    outputs = torch.cat([network.predict(graphs, None) for graphs in batches]).double()
    return outputs[0::2] - outputs[1::2]


def _finite(value: float) -> float | None:
    return value if abs(value) < torch.inf else None


MakeNetwork = Callable[[int], GraphNetwork]
"""Returns a network with weights that a seed decides, in float64."""
