"""Drawing some frames of each cloud at random."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from eqlib.frames.types import Frames

# Operators take numbers and tensors only, so each generator has a number.
_GENERATORS: dict[int, torch.Generator] = {}


class Draws(NamedTuple):
    """How many frames of each cloud to draw, and the number of the generator to draw from.

    No generator is the default one of the device, as dropout uses it.
    """

    samples: int
    generator: int | None = None


def draw_frames(frames: Frames, draws: Draws) -> Frames:
    """Draw frames of each cloud, each subset of this size with the same probability.

    Args:
        frames: all frames, of equal weight.
        draws: how to draw, without replacement.

    Raises:
        ValueError: there are fewer frames than samples.
    """
    samples, generator = draws
    count = frames.frames.shape[-3]
    if samples > count:
        raise ValueError(f"samples: expected at most the {count} frames of a cloud, got {samples}")
    shape = [*frames.gap.shape, count]
    if generator is None:
        keys = torch.rand(shape, device=frames.gap.device)
    else:
        keys = _uniform(frames.gap.detach(), shape, generator)
    chosen = keys.argsort(-1)[..., :samples, None, None]
    chosen = chosen.expand(*chosen.shape[:-2], *frames.frames.shape[-2:])
    inverse = frames.inverse
    return frames._replace(
        frames=frames.frames.gather(-3, chosen),
        inverse=None if inverse is None else inverse.gather(-3, chosen),
        signs=None,
    )


def number_of(generator: torch.Generator | None) -> int | None:
    """The number by which :func:`draw_frames` knows a generator."""
    if generator is None:
        return None
    _GENERATORS[id(generator)] = generator  # kept, so that no other one gets its number
    return id(generator)


@torch.library.custom_op(
    "eqlib::uniform", mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,)
)
def _uniform(like: Tensor, shape: list[int], generator: int) -> Tensor:
    """Uniform numbers in [0, 1); an operator, as compilers do not trace generators."""
    source = _GENERATORS[generator]
    numbers = torch.rand(shape, generator=source, device=source.device)
    return numbers.to(like.device)


@_uniform.register_fake
def _(like: Tensor, shape: list[int], generator: int) -> Any:
    return like.new_empty(shape, dtype=torch.float32)
