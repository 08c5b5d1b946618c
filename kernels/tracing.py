"""What compilers are told about functions that they should not trace."""

from collections.abc import Callable
from typing import TypeVar

_Function = TypeVar("_Function", bound=Callable[..., object])


def constant_result(function: _Function) -> _Function:
    """Mark a function whose result compilers may take as a constant of the graph.

    This is what ``torch.compiler.assume_constant_result`` does, which imports the whole compiler,
    and with it triton, even where nothing is compiled: more than a second.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
