"""The corners of the Platonic solids, in coordinates that sign changes map to themselves."""

import numpy as np

from eqlib.position_orientation.grids.tables import Table, sign_orbit

GOLDEN = (1 + 5**0.5) / 2
SIZES = (4, 6, 8, 12, 20, 32)


def platonic(size: int) -> Table:
    """The corners of a Platonic solid, or of an icosahedron and the dodecahedron of its faces.

    All but the tetrahedron are mapped to themselves by every change of signs of coordinates, the
    tetrahedron by those of determinant one. The largest degree up to which the mean over the
    corners is that over the sphere is 2 for the tetrahedron, 3 for the octahedron and the cube,
    and 5 for the icosahedron and the dodecahedron; for both together it is 9 with the weights
    5/14 and 9/14 of their means.

    Args:
        size: 4 (tetrahedron), 6 (octahedron), 8 (cube), 12 (icosahedron), 20 (dodecahedron) or 32
            (the last two).
    """
    if size == 32:
        # Reversed coordinates turn the icosahedron, so that its corners are above these faces.
        return np.concatenate([platonic(12)[:, ::-1], platonic(20)])
    seeds = {
        4: [[1, 1, 1]],
        6: _cyclic(1, 0, 0),
        8: [[1, 1, 1]],
        12: _cyclic(0, 1, GOLDEN),
        20: [[1, 1, 1], *_cyclic(0, 1 / GOLDEN, GOLDEN)],
    }[size]
    seeds = np.array(seeds, dtype=np.float64)
    return sign_orbit(seeds / np.linalg.norm(seeds, axis=1, keepdims=True), proper=size == 4)


def _cyclic(x: float | int, y: float | int, z: float | int) -> list[list[float | int]]:
    return [[x, y, z], [z, x, y], [y, z, x]]
