"""Who traces what is computed, and what compilers are told about functions not to be traced."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

_PLAIN = (Tensor, torch.nn.Parameter)
_Function = TypeVar("_Function", bound=Callable[..., object])


def constant_result(function: _Function) -> _Function:
    """Mark a function whose result compilers may take as a constant of the graph.

    This is what ``torch.compiler.assume_constant_result`` does, which imports the whole compiler,
    and with it triton, even where nothing is compiled: more than a second.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def is_traced(*tensors: Tensor) -> bool:
    """Whether operations of torch are looked at one by one, and values cannot be read or written.

    That is so where torch.compile, torch.export, torch.jit or make_fx trace, under a mode of
    dispatch, for subclasses of tensors with a dispatch of their own and for tensors without values.

    Args:
        tensors: those that are computed with.
    """
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return True
    if torch._C._len_torch_dispatch_stack() > 0:
        return True
    return any(tensor.is_meta or _has_dispatch(tensor) for tensor in tensors)


def _has_dispatch(tensor: Tensor) -> bool:
    """Whether a tensor has a dispatch of its own."""
    if type(tensor) in _PLAIN:
        return False
    return torch._C._dispatch_keys(tensor).has(torch._C.DispatchKey.Python)


def is_readable(tensor: Tensor) -> bool:
    """Whether values can be looked at, and nobody has to wait for a device.

    Args:
        tensor: such as indices whose range is to be checked.
    """
    if tensor.device.type != "cpu" or is_traced(tensor):
        return False
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        if torch._C._functorch.is_batchedtensor(tensor):
            return False
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return True
