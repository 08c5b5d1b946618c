"""Constants of the harmonics: read-only float64 arrays, and copies of them as tensors."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eqlib.kernels.tracing import constant_result

Table = NDArray[np.float64]

_BUILDERS: dict[str, Callable[[int], Table]] = {}
_TENSORS: dict[tuple[str, int, torch.dtype, torch.device], Tensor] = {}


def read_only(array: Table) -> Table:
    """Guard an array that is cached, and so shared, against changes."""
    array.setflags(write=False)
    return array


def table(build: Callable[[int], Table]) -> Callable[[int], Table]:
    """Cache the table that a function makes for a degree, and let :func:`constant` find it."""
    cached = lru_cache(maxsize=128)(lambda degree: read_only(build(degree)))
    _BUILDERS[build.__name__] = cached
    return cached


def constant(name: str, degree: int, like: Tensor) -> Tensor:
    """Return a table by the name of its function, to be read only: calls share it.

    Args:
        name: that of a function decorated by :func:`table`.
        degree: its argument.
        like: a tensor with the dtype and device of the result.
    """
    if torch.compiler.is_compiling():
        # Plain numbers become constants of the graph; compilers would not trace a cache.
        numbers = torch.tensor(_numbers(name, degree), dtype=like.dtype, device=like.device)
        return numbers.reshape(_shape(name, degree))
    if type(like) is not Tensor:
        # Fake tensors, among other kinds, neither mix with real ones nor serve later calls.
        return _converted(name, degree, like)
    key = (name, degree, like.dtype, like.device)
    if key not in _TENSORS:
        # Outside of inference mode, since training may use the same tensor later.
        with torch.inference_mode(False):
            _TENSORS[key] = _converted(name, degree, like)
    return _TENSORS[key]


def copy(array: Table) -> Tensor:
    """Return a tensor that the caller may change, on the CPU whatever the default device is."""
    return torch.tensor(array, device="cpu")


def check_degree(degree: int, name: str) -> None:
    """Raise unless ``degree`` is a whole number from 0 on."""
    if isinstance(degree, bool) or not isinstance(degree, int | torch.SymInt):
        raise TypeError(f"{name} is {degree!r}; expected a whole number, such as 3")
    if degree < 0:
        raise ValueError(f"{name} is {degree}; expected a degree of at least 0")


def _converted(name: str, degree: int, like: Tensor) -> Tensor:
    return torch.tensor(_BUILDERS[name](degree), device=like.device).to(like.dtype)


@constant_result
def _numbers(name: str, degree: int) -> tuple[float, ...]:
    return tuple(_BUILDERS[name](degree).flatten().tolist())


@constant_result
def _shape(name: str, degree: int) -> tuple[int, ...]:
    return _BUILDERS[name](degree).shape
