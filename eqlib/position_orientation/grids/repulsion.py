"""Points on a sphere that repel each other, alone or together with their images under a group."""

from typing import NamedTuple

import numpy as np

from eqlib.position_orientation.grids.fibonacci import fibonacci
from eqlib.position_orientation.grids.tables import Table, distinct

NEWTON_STEPS = 4
LARGEST_NEWTON = 300
"""Above this number of coordinates, descent alone has to do: gradients of 1e-8 or so remain."""
SAME = 1e-9
"""Largest difference of the components of images that are the same."""
STARTS = 160
"""Number of images times number of descents, of which the best one counts, at least one."""
MOST_STARTS = 8


class _Orbits(NamedTuple):
    """The distinct images of seeds: image p is ``maps[p] @ seeds[seed[p]]``.

    ``counts`` are the images of each seed, and ``free`` the projections to where it may move.
    """

    maps: Table
    seed: np.ndarray
    counts: Table
    free: Table


def repelled(seeds: Table, group: Table) -> Table:
    r"""Seeds whose images under a group are in a minimum of the Coulomb energy.

    .. math:: \sum_{p \ne q} \frac1{\lVert p - q \rVert}

    over all images p, q of the seeds, by descent on the sphere and a few steps of Newton. What
    leaves a seed as it is goes on to do so: one in a mirror plane stays in it.

    Args:
        seeds: unit vectors, where the descent starts; it ends in a minimum near to it.
        group: matrices (elements, n, n); the identity alone for free points.

    Source:
        The problem is that of Thomson, On the structure of the atom, 1904.
    """
    from scipy.optimize import minimize

    if len(seeds) * len(group) == 1:
        return seeds
    orbits = _orbits(seeds, group)

    def energy(x: Table) -> tuple[float, Table]:
        points = x.reshape(seeds.shape)
        length = np.linalg.norm(points, axis=1, keepdims=True)
        value, gradient = _energy(points / length, orbits)
        return value, (_tangential(gradient, points / length) / length).ravel()

    options = {"maxiter": 3000, "maxfun": 6000, "ftol": 1e-15, "gtol": 1e-10}
    result = minimize(energy, seeds.ravel(), jac=True, method="L-BFGS-B", options=options)
    points = _settled(result.x.reshape(seeds.shape), orbits)
    for _ in range(NEWTON_STEPS if points.size <= LARGEST_NEWTON else 0):
        points = _settled(points + _newton_step(points, orbits), orbits)
    return points


def lowest(count: int, group: Table) -> Table:
    """The seeds of lowest energy among those that a few descents end in.

    Args:
        count: number of seeds.
        group: matrices (elements, n, n).
    """
    best, least = np.zeros((0, 0)), np.inf
    dimension = group.shape[1]
    for start in range(max(1, min(MOST_STARTS, STARTS // (count * len(group))))):
        if start == 0 and dimension == 3:
            seeds = fibonacci(count)
        else:
            draws = np.random.default_rng(start).standard_normal((count, dimension))
            seeds = _normalised(draws)
        seeds = repelled(seeds, group)
        energy, _ = _energy(seeds, _orbits(seeds, group))
        if energy < least * (1 - 1e-9):  # not by rounding errors, which differ between machines
            best, least = seeds, energy
    return best


def repelled_points(size: int) -> Table:
    """Points on the sphere that repel each other.

    Args:
        size: their number; 4, 6, 12 and 32 make the tetrahedron, the octahedron, the icosahedron
            and its union with the dodecahedron.
    """
    return lowest(size, np.eye(3)[None])


def _orbits(seeds: Table, group: Table) -> _Orbits:
    maps, index, counts, free = [], [], [], []
    for k, seed in enumerate(seeds):
        images = group @ seed
        first = [
            next(i for i, image in enumerate(images) if np.abs(image - point).max() < SAME)
            for point in distinct(images, SAME)
        ]
        maps.append(group[first])
        index += [k] * len(first)
        counts.append(float(len(first)))
        free.append(group[np.abs(images - seed).max(axis=1) < SAME].mean(axis=0))
    return _Orbits(np.concatenate(maps), np.array(index), np.array(counts), np.stack(free))


def _differences(points: Table, orbits: _Orbits) -> tuple[Table, Table]:
    """Vectors from all images to each seed, and the inverse distances, 0 to the seed itself."""
    images = np.einsum("pij,pj->pi", orbits.maps, points[orbits.seed])
    differences = points[:, None] - images
    square = np.square(differences).sum(-1)
    itself = (np.arange(len(points))[:, None] == orbits.seed) & np.isclose(
        orbits.maps, np.eye(points.shape[1])
    ).all((1, 2))
    return differences, np.where(itself, 0, 1 / np.sqrt(np.where(itself, 1, square)))


def _energy(points: Table, orbits: _Orbits) -> tuple[float, Table]:
    """Half the energy of all images, and its gradient by the seeds."""
    differences, inverse = _differences(points, orbits)
    forces = -np.einsum("kpi,kp->ki", differences, inverse**3) * orbits.counts[:, None]
    forces = np.einsum("kij,kj->ki", orbits.free, forces)
    return 0.5 * float(orbits.counts @ inverse.sum(1)), forces


def _newton_step(points: Table, orbits: _Orbits) -> Table:
    """The step along the sphere to where the gradient vanishes."""
    differences, inverse = _differences(points, orbits)
    n, d = points.shape
    second = 3 * np.einsum("kpi,kpj,kp->kpij", differences, differences, inverse**5)
    second -= np.eye(d) * inverse[..., None, None] ** 3
    second *= orbits.counts[:, None, None, None]
    # Each image moves with its seed.
    moved = np.einsum("kpij,pjl->kpil", second, orbits.maps)
    gradient = _energy(points, orbits)[1]
    blocks, tangents = np.zeros((n, d, n, d)), np.zeros((n, d, n, d))
    for k in range(n):
        blocks[:, :, k] -= moved[:, orbits.seed == k].sum(1)
        blocks[k, :, k] += second[k].sum(0) - gradient[k] @ points[k] * np.eye(d)
        tangents[k, :, k] = orbits.free[k] - np.outer(points[k], points[k])
    tangent, hessian = tangents.reshape(n * d, n * d), blocks.reshape(n * d, n * d)
    # Turning all points costs no energy: the smallest of all steps does not turn them.
    inverse_hessian = np.linalg.pinv(tangent @ hessian @ tangent, rcond=1e-9, hermitian=True)
    return -(inverse_hessian @ (tangent @ gradient.ravel())).reshape(n, d)


def _settled(points: Table, orbits: _Orbits) -> Table:
    """Unit vectors exactly where the seeds may be."""
    return _normalised(np.einsum("kij,kj->ki", orbits.free, points))


def _tangential(vectors: Table, points: Table) -> Table:
    return vectors - (vectors * points).sum(1, keepdims=True) * points


def _normalised(points: Table) -> Table:
    return points / np.linalg.norm(points, axis=1, keepdims=True)
