"""Runs in processes of their own: killed for real, or several training together."""

import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file

from eqlib.models.training import RunConfig, train
from eqlib.models.training.loop import Processes, Trainer
from eqlib.models.training.storage import checkpoint as checkpoint_module
from eqlib.models.training.storage import tensor_sha256
from eqlib.models.training.storage.checkpoint import saved_checkpoints


@cache
def children() -> ForkServerContext:
    """Return a maker of processes, forked from one that has imported the slow parts already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "torch._dynamo", "eqlib.models.training"])
    with patch.dict(os.environ, {"PYTHONPATH": str(Path(__file__).parents[3])}):
        forkserver.ensure_running()
    return context


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns in a process of its own; a death raises BrokenExecutor."""
    return together([(function, *arguments)])[0]


def together(calls: list[tuple[Any, ...]]) -> list[Any]:
    """Return what functions return that run at the same time in processes of their own."""
    with ProcessPoolExecutor(len(calls), mp_context=children()) as pool:
        futures: list[Future[Any]] = [pool.submit(*call) for call in calls]
        return [future.result() for future in futures]


def final_hashes(run: Path, file: str = "model.safetensors") -> dict[str, str]:
    """Return the SHA-256 of each tensor of a run's newest checkpoint."""
    weights = load_file(saved_checkpoints(run / "checkpoints")[0] / file)
    return {name: tensor_sha256(tensor) for name, tensor in weights.items()}


def train_until_killed_after(step: int, config: RunConfig, run: Path) -> None:
    """Train, or continue, and die by SIGKILL when a step has been taken."""
    with _death_after(step):
        train(config, run, resume=True)


def train_until_killed_in_write(count: int, config: RunConfig, run: Path) -> None:
    """Train, or continue, and die by SIGKILL half-way through a file of a checkpoint.

    Args:
        count: number of that file, from 1; a checkpoint has four.
        config: the configuration of the run.
        run: its folder.
    """
    written = 0

    def write_and_die(path: Path, content: bytes) -> None:
        nonlocal written
        written += 1
        if written == count:
            path.write_bytes(content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        path.write_bytes(content)

    with patch.object(checkpoint_module, "write_durably", write_and_die):
        train(config, run, resume=True)


def train_without_random_state(config: RunConfig, run: Path) -> None:
    """Continue a run but forget to restore the random state."""
    with patch.object(torch, "set_rng_state", lambda state: None):
        train(config, run, resume=True)


def train_together(
    config: RunConfig, run: Path, size: int, naive: bool = False, killed_after: int = 0
) -> list[Any]:
    """Train in several processes, as torchrun would, and return their reports.

    Args:
        config: the configuration of the run.
        run: its folder.
        size: number of processes.
        naive: each process takes the mean over its own items: the mistake to guard against.
        killed_after: all processes die when so many steps have been taken.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    names = {"WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    calls = [
        (
            _train_as_one,
            names | {"RANK": rank, "LOCAL_RANK": rank},
            config,
            run,
            naive,
            killed_after,
        )
        for rank in range(size)
    ]
    return together(calls)


def _train_as_one(
    names: dict[str, Any], config: RunConfig, run: Path, naive: bool, killed_after: int
) -> dict[str, Any]:
    weight = (lambda self, mine, items: 1 / max(mine, 1)) if naive else Processes.weight
    with (
        patch.dict(os.environ, {name: str(value) for name, value in names.items()}),
        patch.object(Processes, "weight", weight),
        _death_after(killed_after),
    ):
        return train(config, run, resume=True)


@contextmanager
def _death_after(step: int) -> Iterator[None]:
    """Kill this process when a step has been taken."""
    take = Trainer._train_step

    def take_and_die(self: Trainer, *arguments: Any) -> None:
        take(self, *arguments)
        if self.at.step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    with patch.object(Trainer, "_train_step", take_and_die):
        yield
