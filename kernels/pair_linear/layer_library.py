"""The C source of a layer, and its structures."""

import ctypes
from functools import cache
from pathlib import Path

import torch

from eqlib.kernels import native
from eqlib.kernels.choice import whynot_cpu
from eqlib.kernels.pair_linear import compiled

SOURCE = Path(__file__).with_name("layer.c")
ORDERS = 3


def whynot(device: torch.device, dtype: torch.dtype) -> str:
    """Return why the operations cannot run, or nothing.

    Args:
        device: that of the features.
        dtype: that of the features.
    """
    return (
        whynot_cpu(device) or compiled.whynot(dtype) or native.whynot(SOURCE, compiled.REAL[dtype])
    )


class Channels(ctypes.Structure):
    """The struct ``channels`` of the C source."""

    _fields_ = [
        ("from_", ctypes.c_int64 * (ORDERS + 1)),
        ("to", ctypes.c_int64 * ORDERS),
        ("rooted", ctypes.c_int64),
    ]


class Nodes(ctypes.Structure):
    """The struct ``nodes`` of the C source."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("node", "order", "starts")),
        ("count", ctypes.c_int64),
    ]


class Layer(ctypes.Structure):
    """The struct ``layer`` of the C source."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("nodes", "scalars")),
        ("weights", ctypes.POINTER(ctypes.c_void_p)),
        ("channels", Channels),
        *((name, ctypes.c_int64) for name in ("normalised", "transposed")),
    ]


class Results(ctypes.Structure):
    """The struct ``results`` of the C source."""

    _fields_ = [
        (name, ctypes.c_void_p)
        for name in (
            "pairs",
            "nodes",
            "scalars",
            "member_sources",
            "node_sources",
            "scalar_sources",
            "space",
        )
    ]


@cache
def load_layer(dtype: torch.dtype) -> ctypes.CDLL:
    """Return the C source as a library.

    Args:
        dtype: of the features.
    """
    library = native.load_library(SOURCE, compiled.REAL[dtype])
    kinds = (compiled.Problem, compiled.Structure, Nodes, Layer, Results)
    for function in (library.apply, library.gather):
        function.argtypes = [ctypes.POINTER(kind) for kind in kinds]
        function.restype = ctypes.c_int
    library.measure.argtypes = [ctypes.POINTER(kind) for kind in kinds[:-1]] + [ctypes.c_int]
    library.measure.restype = ctypes.c_int64
    library.give_weights.argtypes = [ctypes.POINTER(Layer), ctypes.c_void_p, ctypes.c_void_p]
    library.give_weights.restype = None
    return library
