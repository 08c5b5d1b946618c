"""N-body dynamics as a task of the training loop."""

import copy
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from eqlib.geometry import complete_graph
from eqlib.models.nbody.data import REPRODUCIBLE, DataOptions, charged5
from eqlib.models.nbody.networks import (
    EGNN,
    FAGNN,
    GNN,
    PNITA,
    PONITA,
    GauntNet,
    Integrator,
    Linear,
)
from eqlib.models.nbody.networks.base import SIGNATURE
from eqlib.models.nbody.picture import draw_predictions
from eqlib.models.training import Batch, Dataset, Splits, Task, to_device
from eqlib.symmetry import equivariance_error

WORST = 0.01  # share of the systems that the trimmed mean leaves out


class NBody(Task):
    """Predict where five charged particles are one time unit later.

    Every network maps the state at time 3.1 to the positions at time 4.1 in one step.
    """

    name: ClassVar[str] = "nbody"
    dataset: ClassVar[str] = "charged5"
    models: ClassVar = {
        "linear": Linear,
        "gnn": GNN,
        "egnn": EGNN,
        "fa_gnn": FAGNN,
        "gaunt_net": GauntNet,
        "ponita": PONITA,
        "pnita": PNITA,
        "integrator": Integrator,
    }
    options: ClassVar[type] = DataOptions
    presets: ClassVar[Path] = Path(__file__).parent / "presets"
    selection = "mse"

    def load(self) -> Splits:
        """Return the three splits, simulating them on first use."""
        return charged5(self.settings, self.data_dir)

    def losses(self, model: nn.Module, batch: Batch) -> Float[Tensor, "systems"]:
        """Return the mean squared error of each system, over particles and coordinates."""
        predicted = model(**network_inputs(batch)).view_as(batch["targets"])
        return (predicted - batch["targets"]).square().mean((1, 2))

    def measures(self, model: nn.Module, batch: Batch) -> dict[str, Float[Tensor, "systems"]]:
        """Return the squared error and the rounding sensitivity of each system."""
        return {"mse": self.losses(model, batch), "sensitivity": batch["sensitivity"]}

    def summarise(self, measures: dict[str, Float[Tensor, "systems"]]) -> dict[str, float]:
        """Return statistics of the squared error: a few chaotic systems rule its mean.

        Args:
            measures: those of all systems of a split.

        Returns:
            The mean ``mse``, ``mse_median``, ``mse_trimmed`` (without the worst 1 %) and
            ``mse_reproducible`` (only systems whose target does not depend on rounding).
        """
        errors = measures["mse"].sort().values
        kept = len(errors) - int(WORST * len(errors))
        reproducible = measures["mse"][measures["sensitivity"] < REPRODUCIBLE]
        return {
            "mse": errors.mean().item(),
            "mse_median": torch.quantile(errors, 0.5).item(),
            "mse_trimmed": errors[:kept].mean().item(),
            "mse_reproducible": reproducible.mean().item(),
        }

    def example(self, split: Dataset) -> dict[str, Any]:
        """Return the network's inputs for the first 100 systems."""
        return network_inputs(split[torch.arange(min(100, len(split)))])

    def equivariance(self, model: nn.Module, split: Dataset) -> dict[str, float]:
        """Return the largest relative error over random motions and relabellings of a split."""
        device = next(model.parameters()).device
        everything = split[torch.arange(len(split))]
        errors = {}
        for dtype in (torch.float32, torch.float64):
            network = copy.deepcopy(model).to(dtype)
            inputs = network_inputs(to_device(everything, device, dtype))
            with torch.no_grad():
                report = equivariance_error(network, inputs, SIGNATURE)
            errors[str(dtype).removeprefix("torch.")] = report.max
        return errors

    def picture(self, model: nn.Module, split: Dataset, path: Path) -> None:
        """Draw true trajectories and predicted end points of systems from easy to hard."""
        everything = split[torch.arange(len(split))]
        weight = next(model.parameters())
        with torch.no_grad():
            inputs = network_inputs(to_device(everything, weight.device, weight.dtype))
            predicted = model(**inputs).view_as(everything["targets"])
        draw_predictions(everything, predicted.double().cpu(), path)


def network_inputs(batch: Batch) -> dict[str, Any]:
    """Return a dense batch of systems as one ragged batch of fully connected graphs."""
    systems, particles = batch["charges"].shape
    edge_index, graph = _complete_graphs(systems, particles, batch["charges"].device)
    return {
        "points": batch["points"].reshape(-1, 3),
        "velocities": batch["velocities"].reshape(-1, 3),
        "charges": batch["charges"].reshape(-1),
        "edge_index": edge_index,
        "batch": graph,
        "num_graphs": systems,
    }


@lru_cache(maxsize=16)
def _complete_graphs(
    systems: int, particles: int, device: torch.device
) -> tuple[Int[Tensor, "2 edges"], Int[Tensor, "nodes"]]:
    graph = torch.arange(systems, device=device).repeat_interleave(particles)
    return complete_graph(graph, systems), graph
