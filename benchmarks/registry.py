"""What can be timed: operations, the problems they are given and the peers they are held against.

A module listed in `MODULES` offers its benchmarks as a tuple named `BENCHMARKS`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import nn

MODULES = ("benchmarks.geometry", "benchmarks.nbody")

Inputs = dict[str, Any]
Operation = Callable[..., Any]
Pass = Literal["forward", "forward+backward", "double backward"]


@dataclass(frozen=True)
class OnlyFor:
    """An operation that can answer some problems only."""

    problems: frozenset[str]
    operation: Operation


@dataclass(frozen=True)
class Benchmark:
    """An operation, its implementations and peers, and the problems to time them on."""

    name: str
    tests: str
    """File or folder, from the root of the checkout, that must be green before it is timed."""
    problems: Mapping[str, Callable[[torch.Generator], Inputs]]
    """Named arguments, the same for all. They are made on the CPU, then moved to the device."""
    implementations: Mapping[str, Operation | type[nn.Module]]
    """Ours. The first is the reference; a class is built, with a fixed seed, before it is timed."""
    peers: Mapping[str, Operation | OnlyFor | str] = field(default_factory=dict)
    """Those of others, or the reason why one is missing."""
    passes: tuple[Pass, ...] = ("forward", "forward+backward")
    differentiate: tuple[str, ...] = ()
    """Arguments to take gradients of. Parameters of networks are differentiated as well."""
    agree: bool = True
    """Whether all compute the same. False for networks that merely solve the same task."""
    tolerance: float = 1e-5
    """Largest difference from the reference, relative to the largest entry of the reference."""
    canonical: Callable[[Any], torch.Tensor] | None = None
    """Brings an output into the form to compare, such as a set of edges into one order."""

    @property
    def reference(self) -> str:
        """Name of the implementation that the others are held against."""
        return next(iter(self.implementations))

    def contenders(self, problem: str) -> Iterator[tuple[str, Operation | str]]:
        """Yield what is to answer a problem by name, or the reason why it cannot."""
        yield from self.implementations.items()
        for name, peer in self.peers.items():
            if not isinstance(peer, OnlyFor):
                yield name, peer
            elif problem in peer.problems:
                yield name, peer.operation
            else:
                yield name, "does not apply to this problem"


def if_installed(package: str, operation: Operation) -> Operation | str:
    """Return a peer, or the reason why it is missing, without importing its package.

    Args:
        package: import name of the package.
        operation: the peer; it imports the package when it is called.
    """
    return operation if find_spec(package) else f"{package} is not installed"


def load_benchmarks() -> dict[str, Benchmark]:
    """Return all benchmarks by name."""
    benchmarks = [entry for module in MODULES for entry in import_module(module).BENCHMARKS]
    return {benchmark.name: benchmark for benchmark in benchmarks}
