"""e3nn's tensor products with the paths and weights of ours."""

from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from eqlib.harmonics import gaunt_coefficients, poisson_coefficients, to_e3nn
from eqlib.harmonics.layouts import Normalization

if TYPE_CHECKING:
    from e3nn import o3

# Parities of both operands in each term of a complete product. A Gaunt product of operands of equal
# parity is natural; a bracket of operands of equal parity is not.
TERMS = ((0, 0), (1, 1), (0, 1), (1, 0))


class Path(NamedTuple):
    """A Clebsch-Gordan path: kind (0 Gaunt, 1 bracket), term, and degrees of x, y and output."""

    kind: int
    term: int
    degrees: tuple[int, int, int]

    @property
    def parity(self) -> int:
        """Parity of the output."""
        return (sum(TERMS[self.term]) + self.kind) % 2


def paths(lmaxes: tuple[int, int, int], complete: bool) -> list[Path]:
    """All paths of a product; without ``complete``, those of natural parity with an even sum."""
    terms = range(len(TERMS)) if complete else (0,)
    found = []
    for term, *degrees in product(terms, *(range(lmax + 1) for lmax in lmaxes)):
        l1, l2, l3 = degrees
        kind = sum(degrees) % 2
        if abs(l1 - l2) <= l3 <= l1 + l2 and (complete or kind == 0):
            found.append(Path(kind, term, (l1, l2, l3)))
    return found


def path_constant(path: Path) -> float:
    """The factor between Gaunt or bracket coefficients and e3nn's ``wigner_3j`` of a path."""
    from e3nn import o3

    coefficients = poisson_coefficients if path.kind else gaunt_coefficients
    table = coefficients(*path.degrees)
    block = table[tuple(slice(degree**2, None) for degree in path.degrees)]
    return float((block * o3.wigner_3j(*path.degrees, dtype=torch.float64)).sum())


def e3nn_tensor_product(
    irreps: tuple[str, str, str],
    weights: Float[Tensor, "kinds terms degrees1 degrees2 degrees channels"],
    normalization: Normalization,
) -> "o3.TensorProduct":
    """e3nn's product with given weights of the Gaunt and bracket paths.

    Args:
        irreps: those of x, y and the output, by degree, the natural parity first.
        weights: the factor of each path; those that no rule allows are not read.
        normalization: that of the irreps.
    """
    from e3nn import o3

    kinds, _, *degrees, channels = weights.shape
    lmaxes = (degrees[0] - 1, degrees[1] - 1, degrees[2] - 1)
    found = paths(lmaxes, complete=kinds == 2)
    ones = torch.ones((max(lmaxes) + 1) ** 2, 1, dtype=torch.float64)
    factors = to_e3nn(ones, normalization=normalization).tolist()
    mode = "uuu" if o3.Irreps(irreps[1])[0].mul == channels else "uvu"
    instructions, values = [], []
    for path in found:
        parities = (*TERMS[path.term], path.parity)
        blocks = (
            parity * (lmax + 1) + degree
            for parity, lmax, degree in zip(parities, lmaxes, path.degrees, strict=True)
        )
        instructions.append((*blocks, mode, True))
        one, two, out = (factors[degree**2] for degree in path.degrees)
        constant = path_constant(path) * out / (one * two)
        values.append(weights[path.kind, path.term, *path.degrees] * constant)
    module = o3.TensorProduct(
        *irreps, instructions, irrep_normalization="none", path_normalization="none"
    ).to(weights)
    with torch.no_grad():
        module.weight.copy_(torch.cat(values))
        for name, buffer in module.named_buffers():
            # e3nn rounds these to the default dtype.
            if "_w3j_" in name:
                l1, l2, l3 = map(int, name.split("_w3j_")[1].split("_"))
                buffer.copy_(o3.wigner_3j(l1, l2, l3, dtype=torch.float64))
    return module
