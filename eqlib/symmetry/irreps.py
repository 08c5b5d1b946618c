"""Irreducible representations of O(3), in e3nn's grammar and real basis."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from eqlib.harmonics import wigner_d
from eqlib.symmetry.elements import Element
from eqlib.symmetry.group import Group
from eqlib.symmetry.representations import Components, rotate_rows

if TYPE_CHECKING:
    from e3nn import o3


@dataclass(frozen=True, init=False, repr=False)
class Irreps(Components):
    r"""Direct sum of irreducible representations of O(3), components in the last axis.

    The basis is e3nn's: real, with :math:`l = 1` in the order (x, y, z). Translations do nothing,
    and neither do scales: of a similarity only the orthogonal part acts.

    Args:
        irreps: in e3nn's grammar, such as ``"8x0e+4x1o"``, or an object of e3nn.
        layout: order of the components of ``8x1o``: "mul_ir" has vector after vector (e3nn's
            default), "ir_mul" all x, then all y, then all z.

    Raises:
        ValueError: e3nn cannot read ``irreps``, or ``layout`` has another value.
    """

    irreps: str
    layout: Literal["mul_ir", "ir_mul"]
    blocks: tuple[tuple[int, int, int], ...]

    def __init__(
        self,
        irreps: "str | o3.Irreps | o3.Irrep",
        layout: Literal["mul_ir", "ir_mul"] = "mul_ir",
    ) -> None:
        from e3nn import o3

        if layout not in ("mul_ir", "ir_mul"):
            raise ValueError(f"layout: expected 'mul_ir' or 'ir_mul', got {layout!r}")
        try:
            parsed = o3.Irreps(irreps)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"irreps: expected e3nn's grammar such as '8x0e+4x1o', got {irreps!r}"
            ) from error
        blocks = tuple((multiplicity, irrep.l, irrep.p) for multiplicity, irrep in parsed)
        object.__setattr__(self, "irreps", str(parsed))
        object.__setattr__(self, "layout", layout)
        object.__setattr__(self, "blocks", blocks)

    def __repr__(self) -> str:
        layout = "" if self.layout == "mul_ir" else f", layout={self.layout!r}"
        return f"Irreps({self.irreps!r}{layout})"

    def size(self, group: Group) -> int:
        """Number of components."""
        return sum(self._sizes())

    def check_group(self, name: str, group: Group) -> None:
        """Refuse all but isometries and similarities of the three-dimensional space."""
        self._require_rotations(name, group)

    def act(self, element: Element, tensor: Tensor) -> Tensor:
        r"""The features after each irrep :math:`(l, p)` was multiplied by its matrix.

        .. math:: D^{l,p}(R) = p^{(1 - \det R) / 2} \, D^l(\det(R) \, R)

        Here :math:`R` is the orthogonal part of the matrix, which may be any of a similarity.
        """
        if tensor.shape[-1:] != (sum(self._sizes()),):
            raise ValueError(
                f"tensor: expected shape (..., {sum(self._sizes())}) for {self!r}, "
                f"got {tuple(tensor.shape)}"
            )
        matrix = element.orthogonal
        if matrix is None or not self.blocks:
            return tensor
        mirrored = element.determinant[..., None, None] < 0
        proper = torch.where(mirrored, -matrix, matrix)
        wigner = wigner_d(proper, max(degree for _, degree, _ in self.blocks))
        rotated = []
        parts = tensor.split(self._sizes(), dim=-1)
        for (_, degree, parity), part in zip(self.blocks, parts, strict=True):
            block = torch.where(mirrored, parity * wigner[degree], wigner[degree])
            rotated.append(self._rotated(block, part))
        return torch.cat(rotated, dim=-1).to(tensor.dtype)

    def _sizes(self) -> list[int]:
        return [multiplicity * (2 * degree + 1) for multiplicity, degree, _ in self.blocks]

    def _rotated(self, matrix: Tensor, part: Tensor) -> Tensor:
        size = matrix.shape[-1]
        if self.layout == "mul_ir":
            rows = part.unflatten(-1, (part.shape[-1] // size, size))
            return rotate_rows(matrix, rows).flatten(-2)
        columns = part.unflatten(-1, (size, part.shape[-1] // size))
        return rotate_rows(matrix, columns.mT).mT.flatten(-2)
