"""What is done with a folder: the usual run, a cross-validation or a task's own procedure."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eqlib.models import get_task
from eqlib.models.training.configuration import RunConfig, command_line
from eqlib.models.training.loop import Processes, derive_seed, float_dtype
from eqlib.models.training.reports import dataset_checksum, versions, write_report
from eqlib.models.training.storage import check_data, explain_failure, prepare_folder
from eqlib.models.training.task import Splits, Task
from eqlib.usage import UsageError


@dataclass(frozen=True)
class Job:
    """What is to be done, and where its results go.

    Args:
        config: complete: options that the data decide have a value.
        asked: the same as it was asked for, where such options may be open.
        out: the folder.
        task: the task, with its options.
        processes: this process among those that work together.
    """

    config: RunConfig
    asked: RunConfig
    out: Path
    task: Task
    processes: Processes

    @cached_property
    def about(self) -> dict[str, Any]:
        """What reports and checkpoints say of how they were made."""
        return {
            "command": command_line(self.asked),
            "versions": versions(),
            "config": self.config.to_dict(),
        }

    def start(self) -> None:
        """Make the folder and leave the configuration in it."""
        if self.processes.is_main:
            prepare_folder(self.config, self.out)

    def check_data(self, splits: Splits) -> None:
        """Note in the folder what data the run begins with, or refuse to go on with others."""
        if self.processes.is_main:
            check_data(self.out, map(dataset_checksum, self.task.identity(splits)))


Figures = dict[str, Any]
Procedure = Callable[[Job], Figures]
"""Does a job, or what is left of it, and returns the figures of its report on the main process.

They have at least ``test``, ``equivariance``, ``parameters`` and ``seconds``. The Markdown of
``report.md`` may be among them as ``page``. A procedure calls `Job.start` before it writes anything
into the folder.
"""


def carry_out(job: Job, procedure: Procedure) -> None:
    """Do a job and write its report."""
    found = procedure(job)
    if not job.processes.is_main:
        return
    figures = {name: value for name, value in found.items() if name != "page"}
    advice = "the training is done; make room or mend the permissions, then resume"
    with explain_failure(f"the report in {job.out}", advice):
        write_report(job.out, _identity(job) | figures | job.about, found.get("page"))


def make_task(config: RunConfig, data_dir: Path | str | None = None) -> Task:
    """Return the task of a configuration, with its options."""
    task = get_task(config.task)
    folder = None if data_dir is None else Path(data_dir)
    return task(task.options(**config.data), folder, config.seed)


def build_model(task: Task, config: RunConfig, seed: int | None = None) -> nn.Module:
    """Build the network with the weights that a seed decides, by default the run's.

    Raises:
        UsageError: the network cannot be made with these options.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("weights", config.seed if seed is None else seed))
        try:
            model = task.models[config.model](**config.network)
        except (ValueError, RuntimeError) as error:
            raise UsageError(f"network: {error}") from error
    return model.to(float_dtype(config.training))


def _identity(job: Job) -> Figures:
    """Return what names a run in its report."""
    config, device = job.config, job.processes.device
    return {
        "task": job.task.name,
        "dataset": job.task.data_name,
        "model": config.model,
        "preset": config.preset,
        "seed": config.seed,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "processes": job.processes.size,
    }
