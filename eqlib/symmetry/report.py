"""What an equivariance check found, and how it prints."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from eqlib.symmetry.signature import Signature

TOLERANCE: Mapping[torch.dtype, float] = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 5e-3,
    torch.bfloat16: 3e-2,
}
"""Largest relative error of a map that is equivariant to rounding, by dtype."""


@dataclass(frozen=True)
class EquivarianceReport:
    """Relative equivariance errors per output and kind of group element.

    Args:
        signature: the symmetry that was checked.
        dtype: the least precise floating-point type among the inputs and outputs.
        tolerance: the largest error that passes.
        errors: per output and kind of element, the error under each element.
        far: per output and length of a far translation, the error in units of the rounding that
            the translation makes unavoidable, eps * length; lengths in radii of the cloud.
        unchecked: outputs that the signature does not name, save those that are None.
    """

    signature: Signature
    dtype: torch.dtype
    tolerance: float
    errors: Mapping[str, Mapping[str, Sequence[float]]]
    far: Mapping[str, Mapping[float, float]]
    unchecked: Sequence[str] = ()

    @property
    def max(self) -> float:
        """The largest error over outputs and elements; far translations do not count."""
        return max(self.outputs.values())

    @property
    def mean(self) -> float:
        """The mean error over outputs and elements; far translations do not count."""
        errors = [e for kinds in self.errors.values() for found in kinds.values() for e in found]
        return math.fsum(errors) / len(errors)

    @property
    def outputs(self) -> dict[str, float]:
        """The largest error of each output."""
        return {
            output: max(max(found) for found in kinds.values())
            for output, kinds in self.errors.items()
        }

    @property
    def kinds(self) -> dict[str, float]:
        """The largest error under each kind of element."""
        names = next(iter(self.errors.values()))
        return {kind: max(max(kinds[kind]) for kinds in self.errors.values()) for kind in names}

    @property
    def passed(self) -> bool:
        """Whether the largest error is within the tolerance."""
        return self.max <= self.tolerance

    def __str__(self) -> str:
        """The verdict, then a table of the largest errors by kind and output."""
        rows = [("largest error", list(self.errors))]
        for kind in self.kinds:
            rows.append((kind, [f"{max(found[kind]):.1e}" for found in self.errors.values()]))
        lengths = next(iter(self.far.values()), {})
        if lengths:
            rows.append(("error / (eps |t| / radius)", [""] * len(self.errors)))
        for length in lengths:
            ratios = [f"{found[length]:.1g}" for found in self.far.values()]
            rows.append((f"translation by {length:.0e} radii", ratios))
        lines = [self._verdict(), *_aligned(rows)]
        if self.unchecked:
            lines.append(f"not checked: {', '.join(self.unchecked)}")
        return "\n".join(lines)

    def _verdict(self) -> str:
        claim = "exact to" if self.signature.exact else "within"
        answer = claim if self.passed else f"NOT {claim}"
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{self.signature.group!r} in {dtype}: {answer} {self.tolerance:g}"


def _aligned(rows: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Lay out labels to the left and cells to the right, in columns."""
    first = max(len(label) for label, _ in rows)
    widths = [max(map(len, column)) for column in zip(*(cells for _, cells in rows), strict=True)]
    return [
        "  ".join([label.ljust(first), *map(str.rjust, cells, widths)]).rstrip()
        for label, cells in rows
    ]
