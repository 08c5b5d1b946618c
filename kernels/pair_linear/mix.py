"""The operation ``eqlib::pair_mix``: sums over pairs and what is made of them, in one pass.

It runs on CPUs and has no derivative: where one is wanted, the same is made of
``eqlib::pair_reduce`` and of products with matrices.
"""

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eqlib.kernels import native
from eqlib.kernels.pair_linear import compiled
from eqlib.kernels.pair_linear.arguments import Pairs
from eqlib.kernels.pair_linear.checks import check_pairs, check_shape, check_tensor
from eqlib.kernels.pair_linear.op import PAIRS_SCHEMA

_SOURCE = Path(__file__).with_name("mix.c")
_REALS = ("nodes", "scalars", "vector_weight", "scalar_weight", "bias")


@torch.library.custom_op(
    "eqlib::pair_mix",
    mutates_args=(),
    schema="(Tensor x, Tensor nodes, Tensor scalars, Tensor vector_weight, Tensor scalar_weight, "
    f"Tensor bias, {PAIRS_SCHEMA}, int[] outputs, bool normalised) -> (Tensor, Tensor, Tensor)",
)
def pair_mix(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    r"""Mix features of pairs, members and subgraphs on the levels of members and subgraphs.

    With m the size of the subgraph, the vectors of member i and the scalars of a subgraph are

    .. math::
        v_i = \Bigl(A_{ii},\; \tfrac1m \sum_j A_{ij},\; \tfrac1m \sum_j A_{ji},\; x_i\Bigr), \qquad
        s = \Bigl(\tfrac1m \sum_i A_{ii},\; \tfrac1{m^2} \sum_{ij} A_{ij},\; \tfrac1m \sum_i x_i,\;
        z\Bigr)

    and with :math:`(t^0, t^1, t^2, t^3) = s W_s + b` the results are
    :math:`u_i = v_i W_v + (t^0, t^1, 0, t^2)` and :math:`t^3`.

    Args:
        x: A, features of the slots, (slots, C2), in any unit.
        nodes: x, features of the members, (members, C1).
        scalars: z, features of the subgraphs, (subgraphs, C0).
        vector_weight: :math:`W_v`, (3 C2 + C1, 3 S2 + S1).
        scalar_weight: :math:`W_s`, (2 C2 + C1 + C0, 2 S2 + S1 + S0).
        bias: b, (2 S2 + S1 + S0,).
        *rest: the other tensors, the fields of :class:`Pairs` in order, the numbers (S2, S1, S0),
            and whether to divide by m and its square.

    Returns:
        The first 3 S2 columns of u, which :func:`pair_linear` spreads, the other S1, and
        :math:`t^3`.

    Raises:
        ValueError: shapes or indices do not fit, there are roots, or the C form cannot run.
        TypeError: a tensor has another dtype than its kind may have.
    """
    *tensors, outputs, normalised = rest
    reals, pairs = [x, *tensors[: len(_REALS)]], Pairs(*tensors[len(_REALS) :])
    _check(x, dict(zip(_REALS, reals[1:], strict=True)), pairs, outputs)
    if reason := whynot(x.device, x.dtype):
        raise ValueError(f"pair_mix cannot run: {reason}; use pair_reduce and products of matrices")
    x, *others = (real.contiguous() for real in reals)
    rows = len(pairs.subgraph), len(pairs.subgraph), len(pairs.starts) - 1
    columns = 3 * outputs[0], outputs[1], outputs[2]
    found = [x.new_empty(size) for size in zip(rows, columns, strict=True)]
    widths = others[0].shape[1], others[1].shape[1], *outputs, normalised
    mixture = _Mixture(*(real.data_ptr() for real in (*others, *found)), *widths)
    work = len(pairs.row) * x.shape[1] + rows[0] * others[2].numel() + rows[2] * others[3].numel()
    problem = compiled.Problem(
        x.data_ptr(), None, None, None, x.shape[1], 0, compiled.count_threads(work)
    )
    contiguous = Pairs._make(None if index is None else index.contiguous() for index in pairs)
    if _library(x.dtype).mix(problem, compiled.structure_of(contiguous), mixture):
        raise MemoryError("no memory for the weights and one block of subgraphs")
    return found[0], found[1], found[2]


@pair_mix.register_fake
def _(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    *tensors, outputs, _ = rest
    pairs = Pairs(*tensors[len(_REALS) :])
    members, subgraphs = pairs.subgraph.shape[0], pairs.starts.shape[0] - 1
    return (
        x.new_empty(members, 3 * outputs[0]),
        x.new_empty(members, outputs[1]),
        x.new_empty(subgraphs, outputs[2]),
    )


def whynot(device: torch.device, dtype: torch.dtype) -> str:
    """Return why the operation cannot run, or nothing.

    Args:
        device: that of the features.
        dtype: that of the features.
    """
    if device.type != "cpu":
        return f"it runs on the CPU, not on {device.type}"
    return compiled.whynot(dtype) or native.whynot(_SOURCE, compiled.REAL[dtype])


def _check(x: Tensor, reals: dict[str, Tensor], pairs: Pairs, outputs: Sequence[int]) -> None:
    check_tensor("x", x, x, 2, real=True)
    for name, real in reals.items():
        check_tensor(name, real, x, 1 if name == "bias" else 2, real=True)
        if real.dtype != x.dtype:
            raise TypeError(f"{name}: expected {x.dtype}, as x, got {real.dtype}")
    check_pairs(x, pairs)
    if pairs.root is not None:
        raise ValueError("root: expected None, got a tensor; use pair_reduce where there are roots")
    c2, c1, c0 = (real.shape[1] for real in (x, reals["nodes"], reals["scalars"]))
    s2, s1, s0 = outputs
    places = 2 * s2 + s1 + s0
    check_shape("nodes", reals["nodes"], (len(pairs.subgraph), c1))
    check_shape("scalars", reals["scalars"], (len(pairs.starts) - 1, c0))
    check_shape("vector_weight", reals["vector_weight"], (3 * c2 + c1, 3 * s2 + s1))
    check_shape("scalar_weight", reals["scalar_weight"], (2 * c2 + c1 + c0, places))
    check_shape("bias", reals["bias"], (places,))


class _Mixture(ctypes.Structure):
    """The struct ``mixture`` of the C source."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in _REALS),
        *((name, ctypes.c_void_p) for name in ("spread", "node_out", "scalar_out")),
        *((name, ctypes.c_int64) for name in ("node_inputs", "scalar_inputs", "pair_outputs")),
        *((name, ctypes.c_int64) for name in ("node_outputs", "scalar_outputs", "normalised")),
    ]


@cache
def _library(dtype: torch.dtype) -> ctypes.CDLL:
    library = native.load_library(_SOURCE, compiled.REAL[dtype])
    library.mix.argtypes = [
        ctypes.POINTER(kind) for kind in (compiled.Problem, compiled.Structure, _Mixture)
    ]
    library.mix.restype = ctypes.c_int
    return library
