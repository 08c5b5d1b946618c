"""Operations of torch that every way of differentiating knows.

An operation of ``torch.library`` has a gradient and can be compiled, but takes no part in the
transforms of torch.func, and in forward mode is silently a constant. Here its definition, a
function that torch can differentiate itself, stands for it there.
"""

from collections.abc import Callable
from inspect import signature
from typing import Any

import torch
from torch.autograd import forward_ad

Function = Callable[..., Any]


def is_transforming() -> bool:
    """Whether a transform of torch.func or forward mode is active, and nothing is compiled."""
    if torch.compiler.is_compiling():
        return False
    return forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


class Operation:
    """A function, registered as an operation of torch, with a definition beside it.

    Args:
        name: with its namespace.
        body: the function; its docstring is that of the operation.
        schema: of the arguments, or None: from the annotations of the function.
        implementation: place of the name of the implementation among the arguments, or None. The
            definition is the body with the implementation "naive", if no other is registered.
    """

    def __init__(
        self, name: str, body: Function, schema: str | None, implementation: int | None
    ) -> None:
        self.body, self.implementation, self.__doc__ = body, implementation, body.__doc__
        self.registered = torch.library.custom_op(name, body, mutates_args=(), schema=schema)
        self.definition: Function = self._define

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Apply the operation, or its definition where a transform is active."""
        if named:
            arguments = signature(self.body).bind(*arguments, **named).args
        if is_transforming():
            return self.definition(*arguments)
        return self.registered(*arguments)

    def register_definition(self, definition: Function) -> Function:
        """Take a function of the same arguments that torch can differentiate."""
        self.definition = definition
        return definition

    def register_fake(self, fake: Function) -> Function:
        """Take the function that gives shapes and dtypes of results, as torch does."""
        return self.registered.register_fake(fake)

    def register_autograd(self, backward: Function, setup_context: Function) -> None:
        """Take the gradient, as torch does."""
        self.registered.register_autograd(backward, setup_context=setup_context)

    def _define(self, *arguments: Any) -> Any:
        given = list(arguments)
        if self.implementation is not None:
            given[self.implementation] = "naive"
        return self.body(*given)


def operation(
    name: str, schema: str | None = None, implementation: int | None = -1
) -> Callable[[Function], Operation]:
    """Make a function an :class:`Operation`; the arguments are those of the class."""
    return lambda body: Operation(name, body, schema, implementation)
