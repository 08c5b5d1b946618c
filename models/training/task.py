"""What a reference task tells the training loop: its data, its losses and its measures."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

if TYPE_CHECKING:
    from eqlib.models.training.procedure import Procedure

Batch = dict[str, Any]
"""Tensors by name, and what else moves between devices, such as a plan."""


@runtime_checkable
class Dataset(Protocol):
    """Items that are fetched a batch at a time."""

    def __len__(self) -> int:
        """Return the number of items."""
        ...

    def __getitem__(self, indices: Int[Tensor, "items"]) -> Batch:
        """Return the batch of the items at ``indices``, in that order.

        The answer must depend on ``indices`` alone: random augmentation belongs in
        `Task.losses`, whose random state is checkpointed.
        """
        ...


class Splits(NamedTuple):
    """The three parts of a data set; each is fetched by a tensor of item indices."""

    train: Dataset
    valid: Dataset
    test: Dataset


class Task(ABC):
    """One learning problem: data, models, losses and measures.

    A subclass is all that the training loop knows of a problem. Randomness during training
    (dropout, augmentation) must come from torch's default generator of the batch's device: its
    state is part of every checkpoint, so that an interrupted run continues bit for bit.

    Args:
        options: an instance of the class's `options` dataclass; None takes its defaults.
        data_dir: folder for downloaded or generated data; None takes the user's cache folder.
        seed: that of the run, for what the task itself draws, such as a validation split.
    """

    name: ClassVar[str]
    """What users type: ``eqlib train NAME``."""
    dataset: ClassVar[str]
    """Name of the data set in reports."""
    models: ClassVar[Mapping[str, type[nn.Module]]]
    """Model classes by name; the arguments of ``__init__`` are the model's options."""
    options: ClassVar[type]
    """Dataclass of the data options."""
    presets: ClassVar[Path]
    """Folder of the presets ``quick.yaml``, ``cpu.yaml``, ``gpu.yaml`` and ``paper.yaml``."""
    score: ClassVar[str] = "accuracy"
    """The measure that a cross-validation reports; higher is better."""
    sized: ClassVar[tuple[str, ...]] = ()
    """Arguments of networks that the data decide; see `network_options`."""
    selection: str = "mse"
    """The validation measure that selects the checkpoint; lower is better."""
    keeps_last: bool = False
    """Whether nothing is selected: the weights of the last evaluation are kept."""
    unprinted: ClassVar[tuple[str, ...]] = ()
    """Figures of the report that the command does not print, such as one that only selects."""
    follows_test: bool = False
    """Whether the test measures are recorded at every evaluation too; they select nothing."""

    def __init__(self, options: Any = None, data_dir: Path | None = None, seed: int = 0) -> None:
        self.settings = type(self).options() if options is None else options
        self.data_dir, self.seed = data_dir, seed

    @property
    def data_name(self) -> str:
        """Name of the data set that the options choose."""
        return self.dataset

    def procedure(self) -> "Procedure | None":
        """Return what takes the place of the usual run, or None."""
        return None

    def missing_folder(self) -> Path | None:
        """Return the folder of the data where it is not there and nothing makes it."""
        return None

    def identity(self, splits: Splits) -> Iterable[Dataset]:
        """Return what tells the data from others: an interrupted run goes on with these alone.

        Args:
            splits: what `load` returned.
        """
        return splits

    def facts(self, splits: Splits) -> dict[str, Any]:
        """Return what the report of a cross-validation says of the data.

        The score of a constant answer may be among it as ``majority``.

        Args:
            splits: those of a fold, as `prepare` returned them.
        """
        return {}

    def network_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of networks that the data decide, such as the number of classes.

        They hold for those arguments named in `sized` that are open: null, or ``auto``. Values that
        do not go with the data are to be refused with a `UsageError`.

        Args:
            given: the arguments of the network as configured.
        """
        return {}

    def prepare(self, splits: Splits, model: nn.Module) -> Splits:
        """Return the data with what a network would otherwise compute anew for each batch."""
        return splits

    @abstractmethod
    def load(self) -> Splits:
        """Read the data, making or downloading it first where it is missing."""

    @abstractmethod
    def losses(self, model: nn.Module, batch: Batch) -> Float[Tensor, "items"]:
        """Return the training loss of each item; the loop minimises their mean."""

    @abstractmethod
    def measures(self, model: nn.Module, batch: Batch) -> dict[str, Float[Tensor, "items"]]:
        """Return the evaluation measures of each item, by name."""

    @abstractmethod
    def example(self, split: Dataset) -> Batch:
        """Return the inputs of one forward pass on 100 items: ``model(**example)`` is timed."""

    @abstractmethod
    def equivariance(self, model: nn.Module, split: Dataset) -> dict[str, float]:
        """Return the relative equivariance error in ``float32`` and ``float64``.

        The model must come back unchanged, its dtype included.
        """

    @abstractmethod
    def picture(self, model: nn.Module, split: Dataset, path: Path) -> None:
        """Draw predictions beside the truth and save the picture as a PNG at ``path``."""

    def summarise(self, measures: dict[str, Float[Tensor, "items"]]) -> dict[str, float]:
        """Return the figures of a whole split from the measures of its items, in data order.

        Args:
            measures: what `measures` returned, for all items of the split, in float64.

        Returns:
            By default the mean of each measure under its own name, and its median under
            ``NAME_median``. The measure named by `selection` must be among the keys.
        """
        figures: dict[str, float] = {}
        for name, values in measures.items():
            figures[name] = values.mean().item()
            figures[f"{name}_median"] = torch.quantile(values, 0.5).item()
        return figures
