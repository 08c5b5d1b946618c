"""What can be timed: operations, the problems they are given and the peers they are held against.

A module listed in `MODULES` offers its benchmarks as a tuple named `BENCHMARKS`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

MODULES = (
    "benchmarks.geometry",
    "benchmarks.nbody",
    "benchmarks.frames",
    "benchmarks.gaunt_product",
    "benchmarks.gaunt_convolution",
    "benchmarks.symmetric_eigh",
    "benchmarks.position_orientation",
    "benchmarks.subgraph",
)

Inputs = dict[str, Any]
Operation = Callable[..., Any]
Pass = Literal["forward", "forward+backward", "double backward"]
Device = Literal["cpu", "cuda"]

PASSES: tuple[Pass, ...] = ("forward", "forward+backward", "double backward")


@dataclass(frozen=True)
class Foreign:
    """An operation with a layout or an accuracy of its own, or one that computes something else.

    The conversions must keep scalar products, as permutations do: they are then right for
    gradients as well. They are not timed.
    """

    operation: Operation
    to_native: Callable[[Tensor], Tensor] = lambda x: x
    """Brings one of our differentiable arguments into the operation's layout."""
    from_native: Callable[[Tensor], Tensor] = lambda x: x
    """Brings an output or a gradient back into ours."""
    computes: str = ""
    """What it computes where that is not what the others do; stands in the table and the CSV."""
    equals: Operation | None = None
    """What to hold it against then, in our layout."""
    tolerance: float | None = None
    """Largest relative difference where it computes the same with less accuracy."""

    def __post_init__(self) -> None:
        if bool(self.computes) != (self.equals is not None or self.tolerance is not None):
            raise ValueError(
                f"computes={self.computes!r}, equals={self.equals!r}, tolerance={self.tolerance!r}:"
                " name what an operation computes if it has a reference or a tolerance of its own,"
                " and only then"
            )


Contender = Operation | Foreign


@dataclass(frozen=True)
class MadeFor:
    """A contender that is made for the inputs of a problem before it is timed."""

    make: Callable[[Inputs], Contender]


Offer = Contender | MadeFor


@dataclass(frozen=True)
class OnlyFor:
    """An operation that can answer some problems only."""

    problems: frozenset[str]
    operation: Offer
    reason: str = "does not apply to this problem"


@dataclass(frozen=True)
class Problem:
    """What an operation is given, where, and how much of it is timed."""

    make: Callable[..., Inputs]
    """Named arguments, the same for all, from a generator."""
    data: bool = False
    """Whether they are made of files: ``make`` takes their folder, or None, before the generator.

    It raises a FileNotFoundError where there are none.
    """
    on_device: bool = False
    """Whether they are made where they are used, with a generator of the device: large ones.

    Others are made on the CPU and moved.
    """
    devices: tuple[Device, ...] = ("cpu", "cuda")
    passes: tuple[Pass, ...] = PASSES
    """Passes that are worth timing, of those that the benchmark has."""
    place: Mapping[str, float] = field(default_factory=dict)
    """Its place on the axes of the plot, such as ``{"degree": 3, "rows": 65536}``."""


@dataclass(frozen=True)
class Work:
    """The least that must be moved and computed in one call."""

    bytes: float
    """Read and written once, if every intermediate result stayed on the chip."""
    flops: float | None = None
    """Those of the implementation's own algorithm; None if they are not known."""


@dataclass(frozen=True)
class Benchmark:
    """An operation, its implementations and peers, and the problems to time them on."""

    name: str
    tests: str
    """Files or folders, from the root of the checkout, that must be green before it is timed."""
    problems: Mapping[str, Problem | Callable[[torch.Generator], Inputs]]
    """A function stands for a problem that is timed everywhere, in every pass."""
    implementations: Mapping[str, Offer | type[nn.Module] | OnlyFor]
    """Ours. The first is the reference; a class is built, with a fixed seed, before it is timed."""
    peers: Mapping[str, Offer | OnlyFor | str] = field(default_factory=dict)
    """Those of others, or the reason why one is missing."""
    passes: tuple[Pass, ...] = ("forward", "forward+backward")
    outputs: int = 1
    """Number of tensors that it returns, in a tuple where there are several."""
    differentiate: tuple[str, ...] = ()
    """Arguments to take gradients of. Parameters of networks are differentiated as well."""
    agree: bool = True
    """Whether all compute the same. False for networks that merely solve the same task."""
    tolerance: float = 1e-5
    """Largest difference from the reference, relative to the largest entry of the reference."""
    canonical: Callable[[Any], Tensor] | None = None
    """Brings an output into the form to compare, such as a set of edges into one order."""
    work: Callable[[Inputs, Pass, str], Work] | None = None
    """The work of a pass over a problem done by a contender of some name, for the roofline."""
    calls: Callable[[Inputs, str], float] | None = None
    """How often a contender of some name calls the reference, a network, on inputs as large."""

    @property
    def reference(self) -> str:
        """Name of the implementation that the others are held against."""
        return next(iter(self.implementations))

    def problem(self, name: str) -> Problem:
        """Return a problem with all that belongs to it."""
        found = self.problems[name]
        return found if isinstance(found, Problem) else Problem(found)

    def reading(self, folder: Path | None) -> "Benchmark":
        """Return this benchmark with problems that take their files from a folder.

        Args:
            folder: of the data; None: where the loaders look by themselves.
        """
        problems: dict[str, Problem | Callable[[torch.Generator], Inputs]] = {
            name: replace(found, make=partial(found.make, folder), data=False)
            if isinstance(found, Problem) and found.data
            else found
            for name, found in self.problems.items()
        }
        return replace(self, problems=problems)

    def problems_for(self, device: str, pattern: str = "") -> list[str]:
        """Return the names of the problems for a kind of device that contain a text."""
        return [
            name
            for name in self.problems
            if pattern in name and device in self.problem(name).devices
        ]

    def contenders(self, problem: str) -> Iterator[tuple[str, Offer | str]]:
        """Yield what is to answer a problem by name, or the reason why it cannot."""
        for name, given in (*self.implementations.items(), *self.peers.items()):
            if not isinstance(given, OnlyFor):
                yield name, given
            elif problem in given.problems:
                yield name, given.operation
            else:
                yield name, given.reason


def if_installed(package: str, operation: Offer | OnlyFor) -> Offer | OnlyFor | str:
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
