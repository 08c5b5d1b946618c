"""Group elements: a matrix, a translation and a permutation."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Element:
    r"""A batch of group elements :math:`g = (M, t, \sigma)`.

    Node :math:`i` at :math:`x_i` moves to slot :math:`\sigma(i)` and to :math:`M x_i + t`.

    Args:
        matrix: linear part, invertible; orthogonal in groups of isometries.
        translation: in the unit of the points.
        permutation: the new slot of each node.

    Raises:
        ValueError: the parts have different batch shapes.

    Note:
        A part that is None is absent from the group and acts as the identity.
    """

    matrix: Float[Tensor, "*batch d d"] | None = None
    translation: Float[Tensor, "*batch d"] | None = None
    permutation: Int[Tensor, "*batch nodes"] | None = None

    def __post_init__(self) -> None:
        if len(set(self._batch_shapes())) > 1:
            raise ValueError(
                "Element: matrix, translation and permutation must have one batch shape, "
                f"but have {', '.join(str(tuple(shape)) for shape in self._batch_shapes())}"
            )

    def __getitem__(self, index: int) -> "Element":
        """The elements at ``index`` of the first batch axis."""
        return Element(*(None if part is None else part[index] for part in self._parts()))

    @property
    def batch_shape(self) -> torch.Size:
        """Shape of the batch of elements: () for a single one."""
        return next(iter(self._batch_shapes()), torch.Size())

    @property
    def determinant(self) -> Float[Tensor, "*batch"]:
        """Sign of the determinant of the matrix: 1, or -1 where it reflects."""
        if self.matrix is None:
            return torch.ones(self.batch_shape, dtype=torch.float64, device="cpu")
        return torch.linalg.det(self.matrix).sign()

    @property
    def orthogonal(self) -> Float[Tensor, "*batch d d"] | None:
        r"""The matrix of a similarity without its scale: :math:`R` of :math:`M = s R`."""
        if self.matrix is None:
            return None
        squares = self.matrix.square().sum((-2, -1), keepdim=True)
        return self.matrix * torch.rsqrt(squares / self.matrix.shape[-1])

    @property
    def kinds(self) -> tuple[str, ...]:
        """What each element of the flattened batch does, such as "rotation + translation".

        A matrix is the product of an orthogonal and of a symmetric positive one. The first is a
        "reflection" (every matrix of determinant -1), a "rotation" or the identity; the second a
        "scaling" (a number times the identity), a "boost" of spacetime, any other "stretch", or the
        identity. Then come "translation" and "permutation"; an element with none of these is
        "identity".
        """
        moves: dict[str, Tensor] = {}
        if self.matrix is not None:
            moves = _kinds_of_matrices(self.matrix)
        if self.translation is not None:
            moves["translation"] = (self.translation != 0).any(-1)
        if self.permutation is not None:
            slots = torch.arange(self.permutation.shape[-1], device=self.permutation.device)
            moves["permutation"] = (self.permutation != slots).any(-1)
        flags = {name: moved.reshape(-1).tolist() for name, moved in moves.items()}
        labels = (
            " + ".join(name for name, moved in flags.items() if moved[i])
            for i in range(self.batch_shape.numel())
        )
        return tuple(label or "identity" for label in labels)

    def merge(self, other: "Element") -> "Element":
        """The element with the parts of both; where both have one, this element's."""
        pairs = zip(self._parts(), other._parts(), strict=True)
        return Element(*(theirs if mine is None else mine for mine, theirs in pairs))

    def _parts(self) -> tuple[Tensor | None, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))

    def _batch_shapes(self) -> list[torch.Size]:
        axes = (2, 1, 1)
        return [
            part.shape[: part.ndim - own]
            for part, own in zip(self._parts(), axes, strict=True)
            if part is not None
        ]


def _kinds_of_matrices(matrix: Float[Tensor, "*batch d d"]) -> dict[str, Bool[Tensor, "*batch"]]:
    """Which matrices are of each kind, up to a thousand rounding errors."""
    tolerance = 1e3 * torch.finfo(matrix.dtype).eps
    exact = matrix.double()
    eye = torch.eye(exact.shape[-1], dtype=exact.dtype, device=exact.device)
    gram = exact.mT @ exact
    size = gram.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    metric = 2 * (eye[0] * eye) - eye  # of spacetime, time first
    mixed = _largest(gram - size * eye) > tolerance * size
    boosted = _largest(exact.mT @ metric @ exact - metric) <= tolerance * size
    mirrored = torch.linalg.det(exact) < 0
    symmetric = _largest(exact - exact.mT) <= tolerance * size.sqrt()
    positive = torch.linalg.cholesky_ex(exact).info == 0
    return {
        "reflection": mirrored,
        "rotation": ~mirrored & ~(symmetric[..., 0, 0] & positive),
        "scaling": ((size - 1).abs() > tolerance)[..., 0, 0] & ~mixed[..., 0, 0],
        "stretch": (mixed & ~boosted)[..., 0, 0],
        "boost": (mixed & boosted)[..., 0, 0],
    }


def _largest(matrix: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch 1 1"]:
    return matrix.abs().amax((-2, -1), keepdim=True)
