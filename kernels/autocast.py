"""Autocast on devices of any kind, those included that know none."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def is_autocasting(device_type: str) -> bool:
    """Whether operations on tensors of a device run under autocast.

    Args:
        device_type: such as "cpu", "cuda" or "meta".
    """
    return torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)


def without_autocast(device_type: str) -> AbstractContextManager[Any]:
    """Let no matrix product inside of an operation run in half precision.

    Args:
        device_type: as in :func:`is_autocasting`.
    """
    if is_autocasting(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()
