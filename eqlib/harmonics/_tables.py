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


def constant(name: str, degree: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a table by the name of its function as a tensor, to be read only: calls share it."""
    if torch.compiler.is_compiling():
        # Plain numbers become constants of the graph; compilers would not trace a cache.
        numbers = torch.tensor(_numbers(name, degree), dtype=dtype, device=device)
        return numbers.reshape(_shape(name, degree))
    key = (name, degree, dtype, device)
    found = _TENSORS.get(key)
    if found is None:
        # Outside of inference mode, since training may use the same tensor later.
        with torch.inference_mode(False):
            found = torch.tensor(_BUILDERS[name](degree), device=device).to(dtype)
        # Under a mode of the caller it may be a fake tensor, which no later call could use.
        if type(found) is Tensor:
            _TENSORS[key] = found
    return found


def check_degree(degree: int, name: str) -> None:
    """Raise unless ``degree`` is a whole number from 0 on."""
    if isinstance(degree, bool) or not isinstance(degree, int | torch.SymInt):
        raise TypeError(f"{name} is {degree!r}; expected a whole number, such as 3")
    if degree < 0:
        raise ValueError(f"{name} is {degree}; expected a degree of at least 0")


@constant_result
def _numbers(name: str, degree: int) -> tuple[float, ...]:
    return tuple(_BUILDERS[name](degree).flatten().tolist())


@constant_result
def _shape(name: str, degree: int) -> tuple[int, ...]:
    return _BUILDERS[name](degree).shape
