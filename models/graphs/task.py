"""Graph classification as a task of the training loop."""

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from eqlib.models.graphs.brec import run_brec
from eqlib.models.graphs.data import (
    BREC,
    COLLECTIONS,
    Collection,
    DataOptions,
    Graphs,
    Selection,
    data_folder,
    exp_classify,
    fold_splits,
    load,
    load_collection,
    relabel,
)
from eqlib.models.graphs.networks import FAGIN, FAMLP, GAGIN, GIN, MLP, PPGN, SPEN
from eqlib.models.graphs.networks.base import SIGNATURE, GraphNetwork
from eqlib.models.graphs.networks.plans import PlanOptions, Policy, plan_figures
from eqlib.models.graphs.picture import draw_classes, draw_pairs
from eqlib.models.training import Batch, Dataset, InMemory, Splits, Task, to_device
from eqlib.models.training.procedure import Procedure
from eqlib.models.training.progress import say
from eqlib.subgraph import PlanCost, plan_cost
from eqlib.symmetry import equivariance_error
from eqlib.usage import UsageError

CHECKED = 50  # graphs of the report on equivariance
DRAWN = 8  # relabellings of each graph in the picture


class GraphClassification(Task):
    """Classify graphs: real ones in ten folds, or pairs that message passing cannot tell apart.

    The two graphs of a pair of EXP have opposite labels, so a network at most as strong as 1-WL is
    right for one half of them.
    """

    name: ClassVar[str] = "graphs"
    dataset: ClassVar[str] = "EXP"
    models: ClassVar = {
        "spen": SPEN,
        "gin": GIN,
        "ppgn": PPGN,
        "fa_gin": FAGIN,
        "ga_gin": GAGIN,
        "mlp": MLP,
        "fa_mlp": FAMLP,
    }
    options: ClassVar[type] = DataOptions
    presets: ClassVar[Path] = Path(__file__).parent / "presets"
    sized: ClassVar[tuple[str, ...]] = ("node_types", "outputs", "nodes", "policy")
    unprinted: ClassVar[tuple[str, ...]] = ("wrong",)

    def __init__(self, options: Any = None, data_dir: Path | None = None, seed: int = 0) -> None:
        super().__init__(options, data_dir, seed)
        self.in_folds = self.settings.dataset in COLLECTIONS
        self.selection = "wrong" if self.in_folds else "cross_entropy"
        self.keeps_last = self.in_folds and self.settings.is_published
        self.follows_test = self.in_folds and not self.settings.is_published

    @property
    def data_name(self) -> str:
        """Name of the data set that the options choose."""
        if self.in_folds:
            return COLLECTIONS[self.settings.dataset].public
        return "BREC" if self.settings.dataset == BREC else self.dataset

    def procedure(self) -> Procedure | None:
        """Return the protocol of BREC, which trains a network for each pair of graphs."""
        return run_brec if self.settings.dataset == BREC else None

    def load(self) -> Splits:
        """Return the three splits of EXP or of a fold; see `exp_classify` and `fold_splits`."""
        if self.in_folds:
            settings = self.settings
            return fold_splits(self._collection(), settings.fold, self.seed, settings.is_published)
        if self.settings.dataset == BREC:
            raise UsageError(
                "dataset: brec has pairs of graphs, each a data set of its own, no splits"
            )
        return exp_classify(self.data_dir)

    def network_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the numbers of types, classes and nodes, and the policy.

        Raises:
            UsageError: a number that is given is too small for the data.
        """
        if self.settings.dataset == BREC:
            return {"node_types": 1, "outputs": 16, "nodes": 198, "policy": "ego"}
        graphs = self._collection().graphs if self.in_folds else load("exp", self.data_dir)
        found: dict[str, Any] = {
            "node_types": int(graphs.x.max()) + 1,
            "outputs": int(graphs.y.max()) + 1,
            "nodes": int(graphs.node_ptr.diff().max()),
        }
        for name, least in found.items():
            if (value := given.get(name)) is not None and value < least:
                raise UsageError(
                    f"network.{name}: got {value}, but {self.data_name} needs {least}; leave it out"
                )
        if "policy" in given:
            found["policy"] = self._policy(graphs, given)
        return found

    def _policy(self, graphs: Graphs, given: Mapping[str, Any]) -> Policy:
        """Return the policy that is given, that hops or roots imply, or that costs less."""
        asked = PlanOptions(given["policy"] or "auto", given["hops"], given["rooted"])
        policy = asked.settled().policy
        if asked.policy != "auto":
            return policy
        cost = _ego_cost(graphs, asked.hops)
        if policy == "auto":
            policy = "whole" if cost.is_dearer else "ego"
        say(f"{self.data_name}: {cost}: policy {policy}")
        return policy

    def prepare(self, splits: Splits, model: nn.Module) -> Splits:
        """Return the splits with the plan of the subgraphs that the network sees."""
        if not isinstance(model, GraphNetwork) or model.plan_options is None:
            return splits
        return Splits(*(_planned(split, model) for split in splits))

    def missing_folder(self) -> Path | None:
        """Return the folder of the data where it is not there and no download makes it."""
        folder = data_folder(self.data_dir)
        return None if self.settings.download or folder.is_dir() else folder

    def identity(self, splits: Splits) -> Iterable[Dataset]:
        """Return the three splits, and of a set with folds the whole of it with all its folds."""
        if not self.in_folds:
            return splits
        graphs, trains, tests, _ = self._collection()
        roles = torch.zeros(len(graphs), 2, len(tests), dtype=torch.bool)
        for fold, parts in enumerate(zip(trains, tests, strict=True)):
            for role, rows in enumerate(parts):
                roles[rows, role, fold] = True
        return graphs, InMemory(roles=roles)

    def facts(self, splits: Splits) -> dict[str, Any]:
        """Return sizes of data and plan, and the accuracy of guessing the majority class."""
        graphs, _, tests, about = self._collection()
        counts = graphs.y.bincount()
        test = splits.test
        plan = test.graphs.plan if isinstance(test, Selection) else None
        cost = _ego_cost(graphs, hops=1)
        return {
            "graphs": len(graphs),
            "classes": counts.tolist(),
            "majority": counts.max().item() / len(graphs),
            "node_types": int(graphs.x.max()) + 1,
            "largest_graph": int(graphs.node_ptr.diff().max()),
            "folds": about,
            "tested": sum(map(len, tests)),
            "pairs_of_nodes": cost.whole_pairs,
            "pairs_in_ego_nets": cost.pairs,
            **({} if plan is None else {"plan": plan_figures(plan)}),
        }

    def _collection(self) -> Collection:
        return load_collection(self.settings.dataset, self.data_dir, self.settings.download)

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
        """Return the mean of each measure, and for sets with folds what selects the epoch.

        That is ``wrong``, the number of graphs that are predicted wrong plus l / (1 + l) with their
        mean cross entropy l: fewer wrong ones are better, and among equals a smaller loss.
        """
        found = {name: values.mean().item() for name, values in measures.items()}
        if self.in_folds:
            loss, wrong = found["cross_entropy"], (1 - measures["accuracy"]).sum().item()
            found["wrong"] = wrong + loss / (1 + loss)
        return found

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
            moved = to_device(everything, device, dtype)
            inputs = {name: moved[name] for name in SIGNATURE.inputs}
            inputs["num_graphs"] = len(moved["y"])
            with torch.no_grad():
                report = equivariance_error(network, inputs, SIGNATURE)
            errors[str(dtype).removeprefix("torch.")] = report.max
        return errors

    def picture(self, model: nn.Module, split: Dataset, path: Path) -> None:
        """Draw a pair of EXP with what is predicted for all pairs, or what becomes of classes."""
        everything = split[torch.arange(len(split))]
        device = next(model.parameters()).device
        with torch.no_grad():
            batch = to_device(everything, device, torch.float32)
            if self.in_folds:
                logits = model(**network_inputs(batch))
                draw_classes(everything["y"], logits.softmax(1).double().cpu(), path)
                return
            batch["relabelled"] = batch["relabelled"][:DRAWN]
            logits = predict_relabelled(model, batch)
        draw_pairs(everything, logits.softmax(2)[..., 1].double().cpu(), path)


def network_inputs(batch: Batch) -> dict[str, Any]:
    """Return a network's inputs of a batch."""
    names = ("x", "edge_index", "batch", "classes", "plan")
    found = {name: batch[name] for name in names if name in batch}
    return found | {"num_graphs": len(batch["y"])}


def _ego_cost(graphs: Graphs, hops: int) -> PlanCost:
    """Return what ego nets cost, and whole graphs."""
    everything = graphs[torch.arange(len(graphs))]
    return plan_cost(
        everything["edge_index"], everything["batch"], num_graphs=len(graphs), hops=hops
    )


def _planned(split: Dataset, model: GraphNetwork) -> Dataset:
    """Return a split with the plan of a network, made once for the whole set that it is of."""
    graphs = split.graphs if isinstance(split, Selection) else split
    if not isinstance(graphs, Graphs):
        return split
    if model.plan_options not in graphs.plans:
        everything = graphs[torch.arange(len(graphs))]
        plan = model.make_plan(everything["edge_index"], everything["batch"], len(graphs))
        if plan is None:
            return split
        graphs.plans[model.plan_options] = plan
    planned = graphs.with_plan(graphs.plans[model.plan_options])
    return Selection(planned, split.rows) if isinstance(split, Selection) else planned


def predict_relabelled(model: nn.Module, batch: Batch) -> Float[Tensor, "copies graphs classes"]:
    """Return the logits of every relabelling of the graphs of a batch, with frames made anew."""
    logits = []
    for target in batch["relabelled"]:
        moved = relabel(batch, target)
        inputs = {name: moved[name] for name in ("x", "edge_index", "batch")}
        logits.append(model(**inputs, num_graphs=len(batch["y"])))
    return torch.stack(logits)
