"""Which function makes the frames of a group in a mode."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from eqlib.frames.constructions.affine import affine_frames
from eqlib.frames.constructions.axial import (
    axial_frames,
    axial_minimal_frames,
    axial_weighted_frames,
)
from eqlib.frames.constructions.lorentz import lorentz_frames
from eqlib.frames.constructions.minimal import minimal_frames
from eqlib.frames.constructions.pca import pca_frames, scaling_frames
from eqlib.frames.constructions.weighted import weighted_frames
from eqlib.frames.permutations.average import permutation_fold
from eqlib.frames.sampling import Draws, draw_frames
from eqlib.frames.types import Frames, RaggedFrames
from eqlib.symmetry import GL, SE, SO, Affine, Axial, E, Lorentz, O, Scaling, Similarity
from eqlib.symmetry.group import Group, moving_factor

FrameFunction = Callable[..., Frames | RaggedFrames]

_PRINCIPAL = (SO, O, SE, E, Similarity)

FULL: Mapping[type[Group], FrameFunction] = {
    **dict.fromkeys(_PRINCIPAL, pca_frames),
    Scaling: scaling_frames,
    GL: affine_frames,
    Affine: affine_frames,
    Lorentz: lorentz_frames,
    Axial: axial_frames,
}

FRAMES: Mapping[str, Mapping[type[Group], FrameFunction]] = {
    "full": FULL,
    "stochastic": FULL,
    "minimal": {**dict.fromkeys(_PRINCIPAL, minimal_frames), Axial: axial_minimal_frames},
    "weighted": {**dict.fromkeys(_PRINCIPAL, weighted_frames), Axial: axial_weighted_frames},
}
"""The table of frame functions, by mode and class of the group."""


def frame_function(
    group: Group,
    mode: str | FrameFunction,
    detach: bool,
    options: Mapping[str, Any],
    draws: Draws,
) -> FrameFunction:
    """The function of points, mask, batch and number of graphs that makes frames.

    Args:
        group: whose frames they are.
        mode: a key of the table, or a function like those in it.
        detach: whether the frames are constants in the backward pass.
        options: further arguments; those that the function does not take are left out.
        draws: how the mode "stochastic" draws.

    Raises:
        ValueError: the table has no such entry.
    """
    function = mode if callable(mode) else _entry(group, mode)
    takes = parameters_of(function)
    chosen = {name: value for name, value in options.items() if name in takes}
    made: FrameFunction = partial(function, group=group, **chosen)
    if "detach" in takes:
        made = partial(made, detach=detach)
    elif detach:
        made = partial(_detached, made)
    return partial(_drawn, made, draws) if mode == "stochastic" else made


def options_of(group: Group, mode: str | FrameFunction) -> set[str]:
    """The names of the arguments of what makes the frames of a mode."""
    if group.dimension is None:
        if mode not in ("full", "stochastic"):
            raise ValueError(f"mode: {group!r} has 'full' and 'stochastic' frames, got {mode!r}")
        return parameters_of(permutation_fold)
    return parameters_of(mode if callable(mode) else _entry(group, mode))


def parameters_of(function: Callable[..., Any]) -> set[str]:
    """The names of the arguments of a function."""
    return set(inspect.signature(function).parameters)


def _entry(group: Group, mode: str) -> FrameFunction:
    if mode not in FRAMES:
        raise ValueError(
            f"mode: expected {', '.join(FRAMES)} or a function that makes frames, got {mode!r}"
        )
    kind = type(moving_factor(group))
    if kind not in FRAMES[mode]:
        modes = [name for name, table in FRAMES.items() if kind in table]
        groups = ", ".join(f"{known.__name__}(n)" for known in FRAMES[mode])
        raise ValueError(
            f"mode: {group!r} has no {mode!r} frames; it has {', '.join(modes) or 'none'}, and "
            f"{mode!r} is there for {groups}"
        )
    return FRAMES[mode][kind]


def _detached(function: FrameFunction, points: Tensor, **layout: Any) -> Frames | RaggedFrames:
    found = function(points, **layout)
    parts = {
        name: part.detach()
        for name, part in found._asdict().items()
        if isinstance(part, Tensor) and name != "centroid"
    }
    return found._replace(**parts)


def _drawn(function: FrameFunction, draws: Draws, points: Tensor, **layout: Any) -> Frames:
    found = function(points, **layout)
    if not isinstance(found, Frames):
        raise TypeError("mode: 'stochastic' needs as many frames, of equal weight, for each cloud")
    return draw_frames(found, draws)
