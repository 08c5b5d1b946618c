"""Charged particles in R^3: the generator behind the public "charged 5-body" set, vectorised.

Every system evolves under Coulomb forces between unit masses, with each force component clipped.
The draws follow the public generator number for number, so charges and initial states agree with
it bit for bit; positions agree to rounding except in the few per cent of chaotic systems.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int8
from numpy import ndarray

TIME_STEP = 1e-3
LARGEST_FORCE = 0.1 / TIME_STEP
SPEED = 0.5
UNUSED_DRAWS = 2 * 49 * 3  # observation noise per particle, multiplied by zero at the source
BLOCK = 512  # systems per block: its pair arrays stay in cache


class InitialStates(NamedTuple):
    """Charges (in units of the elementary charge), positions and velocities at time 0."""

    charges: Int8[ndarray, "systems particles"]
    positions: Float64[ndarray, "systems particles 3"]
    velocities: Float64[ndarray, "systems particles 3"]


class Trajectory(NamedTuple):
    """Positions and velocities at the requested steps."""

    positions: Float64[ndarray, "frames systems particles 3"]
    velocities: Float64[ndarray, "frames systems particles 3"]


def draw_initial_states(
    random: np.random.RandomState, systems: int, particles: int = 5
) -> InitialStates:
    """Draw random charges of either sign, normal positions and velocities of one speed.

    Args:
        random: legacy generator; its state moves on exactly as in the public generator.
        systems: number of systems, drawn one after the other.
        particles: number of particles in each system.

    Source:
        The charged-particles simulator released with E(n) Equivariant Graph Neural Networks
        (Satorras et al., ICML 2021), itself after Neural Relational Inference (Kipf et al., 2018).
    """
    uniforms = np.empty((systems, particles))
    normals = np.empty((systems, 2, 3, particles))
    for system in range(systems):
        uniforms[system] = random.random_sample(particles)
        drawn = random.standard_normal((6 + UNUSED_DRAWS) * particles)
        normals[system] = drawn[: 6 * particles].reshape(2, 3, particles)
    positions, directions = normals[:, 0], normals[:, 1]
    positions = positions * (particles / 5) ** (1 / 3)
    velocities = directions * SPEED / np.sqrt((directions**2).sum(1, keepdims=True))
    return InitialStates(
        np.where(uniforms < 0.5, -1, 1).astype(np.int8),
        np.ascontiguousarray(positions.swapaxes(1, 2)),
        np.ascontiguousarray(velocities.swapaxes(1, 2)),
    )


def simulate(states: InitialStates, steps: Sequence[int]) -> Trajectory:
    r"""Integrate the motion and return the states after the given numbers of steps.

    .. math:: v \leftarrow v + \Delta t\, F(x), \qquad x \leftarrow x + \Delta t\, v,
        \qquad F_i = \sum_{j \ne i} q_i q_j \frac{x_i - x_j}{\lVert x_i - x_j \rVert^3}

    with a time step of 1e-3. The returned velocity is the one of the last drift, before the kick at
    the returned position.

    Args:
        states: charges, positions and velocities at time 0.
        steps: increasing numbers of steps after which the state is kept.

    Raises:
        ValueError: ``steps`` is not a strictly increasing sequence of positive numbers.

    Note:
        Every force component is clipped to ±100. Coincident particles exert no force on each other.
    """
    if any(late <= early for early, late in zip([0, *steps], steps, strict=False)):
        raise ValueError(f"steps must increase from 1 on, got {list(steps)}")
    shape = (len(steps), *states.positions.shape)
    trajectory = Trajectory(np.empty(shape), np.empty(shape))
    for start in range(0, shape[1], BLOCK):
        block = slice(start, start + BLOCK)
        _simulate_block(
            states.charges[block].astype(np.float64),
            states.positions[block],
            states.velocities[block],
            steps,
            trajectory.positions[:, block],
            trajectory.velocities[:, block],
        )
    return trajectory


def coulomb_force(
    positions: Float64[ndarray, "3 particles systems"],
    strength: Float64[ndarray, "pairs systems"],
    pairs: tuple[list[int], list[int]],
    incidence: Float64[ndarray, "particles pairs"],
) -> Float64[ndarray, "3 particles systems"]:
    """Return the clipped force on every particle, with systems in the last (fastest) axis."""
    first, second = pairs
    difference = positions[:, first] - positions[:, second]
    square = np.einsum("dps,dps->ps", difference, difference)
    scale = strength / np.where(square > 0, square * np.sqrt(square), math.inf)
    force = incidence @ (difference * scale)
    return np.clip(force, -LARGEST_FORCE, LARGEST_FORCE, out=force)


def _simulate_block(
    charges: ndarray,
    positions: ndarray,
    velocities: ndarray,
    steps: Sequence[int],
    kept_positions: ndarray,
    kept_velocities: ndarray,
) -> None:
    particles = charges.shape[1]
    index = list(combinations(range(particles), 2))
    pairs = [i for i, _ in index], [j for _, j in index]
    incidence = np.zeros((particles, len(index)))
    incidence[pairs[0], range(len(index))] = 1
    incidence[pairs[1], range(len(index))] = -1
    strength = (charges[:, pairs[0]] * charges[:, pairs[1]]).T
    x = np.ascontiguousarray(positions.transpose(2, 1, 0))
    v = np.ascontiguousarray(velocities.transpose(2, 1, 0))
    kept = {step: frame for frame, step in enumerate(steps)}
    for step in range(1, steps[-1] + 1):
        v += TIME_STEP * coulomb_force(x, strength, pairs, incidence)
        x += TIME_STEP * v
        if step in kept:
            kept_positions[kept[step]] = x.transpose(2, 1, 0)
            kept_velocities[kept[step]] = v.transpose(2, 1, 0)
