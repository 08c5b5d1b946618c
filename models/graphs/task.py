"""Graph classification beyond 1-WL as a task of the training loop."""

import copy
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from eqlib.models.graphs.data import DataOptions, exp_classify
from eqlib.models.graphs.networks import FAGIN, FAMLP, GAGIN, GIN, MLP
from eqlib.models.graphs.networks.base import SIGNATURE
from eqlib.models.graphs.picture import draw_pairs
from eqlib.models.graphs.ragged import relabel
from eqlib.models.training import Batch, Dataset, Splits, Task, to_device
from eqlib.symmetry import equivariance_error

CHECKED = 50  # graphs of the report on equivariance
DRAWN = 8  # relabellings of each graph in the picture


class GraphSeparation(Task):
    """Classify graphs that come in pairs which message passing cannot tell apart.

    The two graphs of a pair have opposite labels, so a network at most as strong as 1-WL is right
    for one half of them.
    """

    name: ClassVar[str] = "graphs"
    dataset: ClassVar[str] = "EXP"
    models: ClassVar = {
        "gin": GIN,
        "fa_gin": FAGIN,
        "ga_gin": GAGIN,
        "mlp": MLP,
        "fa_mlp": FAMLP,
    }
    options: ClassVar[type] = DataOptions
    presets: ClassVar[Path] = Path(__file__).parent / "presets"
    selection: ClassVar[str] = "cross_entropy"

    def load(self) -> Splits:
        """Return the three splits; see `exp_classify`."""
        return exp_classify(self.data_dir)

    def losses(self, model: nn.Module, batch: Batch) -> Float[Tensor, "graphs"]:
        """Return the cross entropy of each graph."""
        logits = model(**network_inputs(batch))
        return functional.cross_entropy(logits, batch["y"], reduction="none")

    def measures(self, model: nn.Module, batch: Batch) -> dict[str, Float[Tensor, "graphs"]]:
        """Return cross entropy and accuracy of each graph.

        Where the batch has relabellings, frames are made anew for each of them, and the answer adds
        the share that is predicted as the graph itself is (``agreement``) and the share that is
        predicted right (``accuracy_relabelled``).
        """
        logits = model(**network_inputs(batch))
        predicted, truth = logits.argmax(1), batch["y"]
        found = {
            "cross_entropy": functional.cross_entropy(logits, truth, reduction="none"),
            "accuracy": (predicted == truth).to(logits.dtype),
        }
        if "relabelled" in batch:
            again = predict_relabelled(model, batch).argmax(2)
            found["agreement"] = (again == predicted).to(logits.dtype).mean(0)
            found["accuracy_relabelled"] = (again == truth).to(logits.dtype).mean(0)
        return found

    def summarise(self, measures: dict[str, Float[Tensor, "graphs"]]) -> dict[str, float]:
        """Return the mean of each measure."""
        return {name: values.mean().item() for name, values in measures.items()}

    def example(self, split: Dataset) -> dict[str, Any]:
        """Return the network's inputs for the first 100 graphs."""
        return network_inputs(split[torch.arange(min(100, len(split)))])

    def equivariance(self, model: nn.Module, split: Dataset) -> dict[str, float]:
        """Return the largest relative change of the logits over relabellings of 50 graphs.

        Frames are made anew for each relabelling. Where they are sampled, this is the error of the
        sampling, which no precision takes away.
        """
        device = next(model.parameters()).device
        everything = split[torch.arange(min(CHECKED, len(split)))]
        errors = {}
        for dtype in (torch.float32, torch.float64):
            network = copy.deepcopy(model).to(dtype)
            inputs = network_inputs(to_device(everything, device, dtype))
            del inputs["classes"]
            with torch.no_grad():
                report = equivariance_error(network, inputs, SIGNATURE)
            errors[str(dtype).removeprefix("torch.")] = report.max
        return errors

    def picture(self, model: nn.Module, split: Dataset, path: Path) -> None:
        """Draw a pair of graphs, and what is predicted for both graphs of every pair."""
        everything = split[torch.arange(len(split))]
        device = next(model.parameters()).device
        with torch.no_grad():
            batch = to_device(everything, device, torch.float32)
            batch["relabelled"] = batch["relabelled"][:DRAWN]
            logits = predict_relabelled(model, batch)
        draw_pairs(everything, logits.softmax(2)[..., 1].double().cpu(), path)


def network_inputs(batch: Batch) -> dict[str, Any]:
    """Return a network's inputs of a batch."""
    names = ("x", "edge_index", "batch", "classes")
    return {name: batch[name] for name in names} | {"num_graphs": len(batch["y"])}


def predict_relabelled(model: nn.Module, batch: Batch) -> Float[Tensor, "copies graphs classes"]:
    """Return the logits of every relabelling of the graphs of a batch, with frames made anew."""
    logits = []
    for target in batch["relabelled"]:
        moved = relabel(batch, target)
        inputs = {name: moved[name] for name in ("x", "edge_index", "batch")}
        logits.append(model(**inputs, num_graphs=len(batch["y"])))
    return torch.stack(logits)
