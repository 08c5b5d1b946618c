"""Modules whose constants stay in float64 whatever dtype the rest of a network has."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class DoubleBuffers(nn.Module):
    """A module whose floating-point buffers keep float64 under ``.float()``, ``.half()`` and so on.

    They follow to other devices and are saved as all buffers are; what is loaded is converted.
    Nothing is lost on the way to float32 and back, and a network in float64 is as exact as one made
    in it. Cast the buffers where they are used.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "DoubleBuffers":
        before = self._double()
        super()._apply(fn, recurse)
        for name, old in before.items():
            new = self._buffers[name]
            # Without values, on the device "meta", there is nothing to keep.
            if new is not None and new is not old and not old.is_meta:
                self._buffers[name] = old.to(new.device)
        return self

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        names = list(self._double())
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        for name in names:  # with assign=True they have the dtype that was saved
            new = self._buffers[name]
            self._buffers[name] = None if new is None else new.double()

    def _double(self) -> dict[str, Tensor]:
        return {
            name: buffer
            for name, buffer in self._buffers.items()
            if buffer is not None and buffer.is_floating_point()
        }
