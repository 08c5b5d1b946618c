"""Reductions over segments: the rows that share an index, such as the edges into one node."""

import functools
import importlib.util
import warnings
from types import ModuleType
from typing import Any, no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor

from eqlib.geometry._checks import check_index, check_rows
from eqlib.kernels.operation import is_transforming


def segment_sum(
    values: Float[Tensor, "edges *features"], index: Int[Tensor, "edges"], num_segments: int
) -> Float[Tensor, "segments *features"]:
    r"""Sum of the rows of each segment, :math:`y_s = \sum_{i:\,\text{index}_i = s} x_i`.

    Args:
        values: rows to reduce; half and bfloat16 are summed in float32.
        index: segment of each row, in any order.
        num_segments: number of segments, those without rows included.

    Returns:
        One row per segment, 0 for a segment without rows.

    Raises:
        TypeError: ``index`` is not int64.
        ValueError: ``index`` is not a vector with one entry per row of ``values`` on its device, or
            an entry leaves [0, num_segments). Only on the CPU and outside torch.compile is the
            range read beforehand; elsewhere the kernel stops with its own error.

    Note:
        torch-scatter, where installed, sums in eager mode. On CUDA the order of the additions,
        hence the last digits, vary from call to call.
    """
    _check(values, index, num_segments)
    return _add_rows(values, index, num_segments).to(values.dtype)


def segment_mean(
    values: Float[Tensor, "edges *features"], index: Int[Tensor, "edges"], num_segments: int
) -> Float[Tensor, "segments *features"]:
    r"""Mean of the rows of each segment.

    Args:
        values: rows to reduce; half and bfloat16 are summed in float32.
        index: segment of each row, in any order.
        num_segments: number of segments, those without rows included.

    Returns:
        One row per segment, 0 for a segment without rows.

    Raises:
        TypeError: as in :func:`segment_sum`.
        ValueError: as in :func:`segment_sum`.
    """
    _check(values, index, num_segments)
    total = _add_rows(values, index, num_segments)
    count = _add_rows(total.new_ones(index.shape[0]), index, num_segments).clamp(min=1)
    return (total / _align(count, total)).to(values.dtype)


def segment_max(
    values: Float[Tensor, "edges *features"],
    index: Int[Tensor, "edges"],
    num_segments: int,
    empty: float = 0.0,
) -> Float[Tensor, "segments *features"]:
    r"""Largest value of each segment, feature by feature.

    Args:
        values: rows to reduce.
        index: segment of each row, in any order.
        num_segments: number of segments, those without rows included.
        empty: value of a segment without rows.

    Returns:
        One row per segment. A feature that is NaN in one row is NaN in that segment.

    Raises:
        TypeError: as in :func:`segment_sum`.
        ValueError: as in :func:`segment_sum`.

    Note:
        Rows that tie for the maximum share its gradient equally; a maximum that is NaN has
        gradient 0. torch-scatter is not used here: its maximum skips NaN and gives the whole
        gradient to one of the rows that tie.
    """
    _check(values, index, num_segments)
    function = _SegmentMaxForward if is_transforming() else _SegmentMax
    largest: Tensor = function.apply(values, index, num_segments, empty)
    return largest


def segment_softmax(
    values: Float[Tensor, "edges *features"], index: Int[Tensor, "edges"], num_segments: int
) -> Float[Tensor, "edges *features"]:
    r"""Softmax over the rows of each segment.

    .. math:: y_i = \exp(x_i - m_s) \Big/ \sum_{j:\,\text{index}_j = s} \exp(x_j - m_s), \qquad
        s = \text{index}_i,

    with :math:`m_s` the maximum of the segment, so that large values do not overflow.

    Args:
        values: logits; half and bfloat16 are computed in float32.
        index: segment of each row, in any order.
        num_segments: number of segments, those without rows included.

    Returns:
        One row per row of ``values``; the rows of a segment sum to 1. Rows that are ``-inf``
        weigh 0, also where all rows of the segment are.

    Raises:
        TypeError: as in :func:`segment_sum`.
        ValueError: as in :func:`segment_sum`.
    """
    _check(values, index, num_segments)
    logits = values.to(_accumulation_dtype(values.dtype))
    largest = _largest_rows(logits.detach(), index, num_segments, empty=0.0)
    # A segment of -inf alone keeps 0 as its shift: -inf - (-inf) would be NaN.
    shift = largest.masked_fill(largest == -torch.inf, 0.0)
    weights = (logits - _take_rows(shift, index)).exp()
    # The largest row contributes 1, so the bound acts only where all rows are -inf.
    total = _add_rows(weights, index, num_segments).clamp(min=1)
    return (weights / _take_rows(total, index)).to(values.dtype)


def gather_nodes(
    values: Float[Tensor, "nodes *features"], index: Int[Tensor, "edges"]
) -> Float[Tensor, "edges *features"]:
    r"""Rows of ``values`` by index, :math:`y_i = x_{\text{index}_i}`: the transpose of segment_sum.

    The same as ``values[index]``, but faster on the CPU, forward and backward (see
    ``python benchmarks/run.py gather_nodes``), and negative entries are refused.

    Args:
        values: one row per node.
        index: node of each output row.

    Returns:
        One row per entry of ``index``.

    Raises:
        TypeError: ``index`` is not int64.
        ValueError: ``index`` is not a vector on the device of ``values``, or an entry leaves
            [0, nodes), negative entries included. The range is read as in :func:`segment_sum`.
    """
    if values.ndim == 0:
        raise ValueError("values is a scalar; expected one row per node")
    # Not len(values), which torch.export takes for a constant.
    check_index(index, values.shape[0], "index", "len(values)")
    if values.device != index.device:
        raise ValueError(
            f"values is on {values.device} and index on {index.device}; move one to the other"
        )
    return _take_rows(values, index)


@no_type_check  # a type checker at run time would wrap what torch.compile has to trace
class _SegmentMax(torch.autograd.Function):
    """Segment maximum with a backward pass of the fast forms.

    That of torch takes twice as long on the CPU, and gives NaN where the maximum is NaN.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, index: Tensor, num_segments: int, empty: float) -> Tensor:
        return _largest_rows(values, index, num_segments, empty)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2], output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        tied, ties = _ties(*ctx.saved_tensors)
        share = _take_rows((grads[0] / ties).to(grads[0].dtype), ctx.saved_tensors[1])
        return torch.where(tied, share, 0.0), None, None, None


class _SegmentMaxForward(_SegmentMax):
    """The same in forward mode, which Dynamo does not trace."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _SegmentMax.setup_context(ctx, inputs, output)
        ctx.save_for_forward(*inputs[:2], output)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        tied, ties = _ties(*ctx.saved_tensors)
        index, moved = ctx.saved_tensors[1], torch.where(tied, tangent, 0.0)
        return (_add_rows(moved, index, ties.shape[0]) / ties).to(moved.dtype)


def _ties(values: Tensor, index: Tensor, largest: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each value is the largest one of its segment, and how many of these there are."""
    tied = values == _take_rows(largest, index)
    return tied, _add_rows(tied.to(values.dtype), index, largest.shape[0]).clamp(min=1)


def _check(values: Tensor, index: Tensor, num_segments: int) -> None:
    check_index(index, num_segments, "index", "num_segments")
    check_rows(values, index)


def _accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _align(index: Tensor, values: Tensor) -> Tensor:
    """Append axes of size 1 to a vector until it broadcasts against the rows of ``values``."""
    return index.reshape(-1, *(1 for _ in values.shape[1:]))


# In eager mode index_add and index_select are as fast as scatter_add and gather on wide rows, and
# faster on narrow ones (`python benchmarks/run.py segment_sum gather_nodes`). Compiled by inductor
# the first two take a negative index to count from the end, which the others reject.


def _add_rows(values: Tensor, index: Tensor, num_segments: int) -> Tensor:
    """Sum rows into segments, in float32 or wider."""
    values = values.to(_accumulation_dtype(values.dtype)).contiguous()
    total = values.new_zeros(num_segments, *values.shape[1:])
    if torch.compiler.is_compiling():
        return total.scatter_add_(0, _align(index, values).expand_as(values), values)
    scatter = _torch_scatter()
    if scatter is not None:
        return scatter.scatter_sum(values, index, 0, total)
    return total.index_add_(0, index, values)


def _take_rows(values: Tensor, index: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        return values.gather(0, _align(index, values).expand(-1, *values.shape[1:]))
    return values.contiguous().index_select(0, index)  # strided rows are taken one by one


def _largest_rows(values: Tensor, index: Tensor, num_segments: int, empty: float) -> Tensor:
    values = values.contiguous()
    largest = values.new_full((num_segments, *values.shape[1:]), empty)
    rows = _align(index, values).expand_as(values)
    return largest.scatter_reduce_(0, rows, values, "amax", include_self=False)


@functools.cache
def _torch_scatter() -> ModuleType | None:
    """Return torch-scatter where it is installed and loads."""
    if importlib.util.find_spec("torch_scatter") is None:
        return None
    try:
        return importlib.import_module("torch_scatter")
    except (ImportError, OSError, RuntimeError) as error:
        warnings.warn(
            f"torch-scatter is installed but does not load ({error}); eqlib sums with torch alone. "
            "Reinstall torch-scatter for this version of torch, or remove it.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
