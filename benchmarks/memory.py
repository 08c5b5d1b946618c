"""Peak memory of a call, and memory that stays with the process."""

import ctypes
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # parameters of mallopt in malloc.h


def peak_bytes(run: Callable[[], Any], device: torch.device) -> int:
    """Return the most memory that a call holds at once beyond what was there before it.

    What it returns counts as well. On the CPU this is what torch allocates, so that scratch
    space of a library below torch is not seen.

    Args:
        run: the call; it should have run once, so that caches are filled.
        device: where it allocates.
    """
    return _peak_on_gpu(run, device) if device.type == "cuda" else _peak_on_cpu(run)


def keep_freed_memory() -> bool:
    """Let the C library keep the memory that is freed, as torch does on a GPU; return if it can.

    By default glibc hands large blocks back to the system, and each page that it gets anew costs a
    fault: up to half of the time of a call, or none of it where another contender has just left
    its memory behind.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, -1))


def bytes_of(values: Iterable[Any]) -> int:
    """Return the memory behind tensors, counting what they share once."""
    storages = {
        value.untyped_storage().data_ptr(): value.untyped_storage().nbytes()
        for value in values
        if isinstance(value, Tensor)
    }
    return sum(storages.values())


def _peak_on_gpu(run: Callable[[], Any], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _peak_on_cpu(run: Callable[[], Any]) -> int:
    """Add up the allocations that the profiler saw, in the order of time."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with (
        _silent_stderr(),
        torch.profiler.profile(activities=activities, profile_memory=True) as profile,
    ):
        run()
    now = peak = 0
    for _, size in sorted(_allocations(profile), key=lambda event: event[0]):
        now += size
        peak = max(peak, now)
    return peak


def _allocations(profile: torch.profiler.profile) -> Iterator[tuple[int, int]]:
    """Yield the time of each allocation and its size, which is negative where memory is freed."""
    allocation = torch._C._profiler._EventType.Allocation
    profiler: Any = profile.profiler
    events = list(profiler.kineto_results.experimental_event_tree())
    while events:
        event = events.pop()
        events += event.children
        if event.tag == allocation and event.extra_fields.device.type == "cpu":
            yield event.start_time_ns, event.extra_fields.alloc_size


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drop what libraries write to the file of standard error, as the profiler's own does."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
