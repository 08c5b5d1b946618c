"""Equivariant layers, kernels and reference models whose symmetry is checked."""

from importlib import import_module
from typing import TYPE_CHECKING

from eqlib.version import __version__

if TYPE_CHECKING:
    from eqlib import (
        frames,
        gaunt,
        geometry,
        harmonics,
        position_orientation,
        steerable,
        subgraph,
        symmetry,
    )
    from eqlib.symmetry import equivariance_error as check

__all__ = [
    "__version__",
    "check",
    "frames",
    "gaunt",
    "geometry",
    "harmonics",
    "position_orientation",
    "steerable",
    "subgraph",
    "symmetry",
]


def __getattr__(name: str) -> object:
    """Import a subpackage when it is first used, so that ``import eqlib`` costs nothing."""
    if name == "check":
        return import_module("eqlib.symmetry").equivariance_error
    if name in __all__:
        return import_module(f"eqlib.{name}")
    raise AttributeError(f"module 'eqlib' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
