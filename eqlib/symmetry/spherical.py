"""Spherical tensors: all degrees up to a largest one, with the same number of channels."""

from dataclasses import dataclass

import torch
from torch import Tensor

from eqlib.harmonics import wigner_d
from eqlib.symmetry.elements import Element
from eqlib.symmetry.group import Group
from eqlib.symmetry.representations import Components, rotate_rows, spread


@dataclass(frozen=True)
class SphericalTensor(Components):
    r"""Spherical tensors of degrees 0 to L: components in axis -2, channels in axis -1.

    The components of degree :math:`l` are the entries :math:`l^2, \ldots, l^2 + 2l` and transform
    by the Wigner matrix :math:`D^l`, in e3nn's real basis. Their parity is natural,
    :math:`(-1)^l`: that of the harmonics of a vector. Translations do nothing, and neither do
    scales: of a similarity only the orthogonal part acts.

    Args:
        lmax: the largest degree L.
        complete: tensors (..., 2, (L + 1)^2, channels) hold both parities: index 0 of axis -3 the
            natural one, index 1 the other, of pseudoscalars and pseudovectors.

    Raises:
        ValueError: ``lmax`` is negative.
        TypeError: ``lmax`` is not an integer.
    """

    lmax: int
    complete: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.lmax, int) or isinstance(self.lmax, bool):
            raise TypeError(f"lmax: expected an integer, got {self.lmax!r}")
        if self.lmax < 0:
            raise ValueError(f"lmax: expected a degree of at least 0, got {self.lmax}")
        object.__setattr__(self, "component_axes", (-3, -2) if self.complete else (-2,))

    def size(self, group: Group) -> int:
        """Number of components of one parity."""
        return (self.lmax + 1) ** 2

    def check_group(self, name: str, group: Group) -> None:
        """Refuse all but isometries and similarities of the three-dimensional space."""
        self._require_rotations(name, group)

    def validate(self, name: str, tensor: Tensor, group: Group) -> None:
        """Refuse integers, other spaces than the three-dimensional one, and wrong shapes."""
        self.check_group(name, group)
        self._require_floating(name, tensor)
        self._require_shape(name, tensor)

    def act(self, element: Element, tensor: Tensor) -> Tensor:
        r"""The tensors after each degree was multiplied by its matrix.

        .. math:: x_l \mapsto (\det R)^l\, D^l(\det(R)\, R)\, x_l

        Components of the other parity take the factor :math:`\det R` besides. Here :math:`R` is the
        orthogonal part of the matrix, which may be any of a similarity.
        """
        self._require_shape("tensor", tensor)
        matrix = element.orthogonal
        if matrix is None:
            return tensor
        matrices = wigner_d(matrix, self.lmax)
        blocks = tensor.split([matrix.shape[-1] for matrix in matrices], dim=-2)
        rotated = torch.cat(
            [rotate_rows(D, block.mT).mT for D, block in zip(matrices, blocks, strict=True)], dim=-2
        )
        if self.complete:
            determinant = element.determinant.to(rotated)
            signs = torch.stack([torch.ones_like(determinant), determinant], dim=-1)
            rotated = rotated * spread(signs[..., None, None], rotated, own_axes=3)
        return rotated.to(tensor.dtype)

    def _require_shape(self, name: str, tensor: Tensor) -> None:
        components = (*((2,) if self.complete else ()), (self.lmax + 1) ** 2)
        if tensor.shape[-len(components) - 1 : -1] != components:
            raise ValueError(
                f"{name}: expected shape (..., {', '.join(map(str, components))}, channels) for "
                f"{self!r}, got {tuple(tensor.shape)}"
            )
