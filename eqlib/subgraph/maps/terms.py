"""The weights of the basis maps between two orders, and their products with features."""

from typing import NamedTuple, no_type_check

import torch
from torch import Tensor

from eqlib.kernels.autocast import is_autocasting
from eqlib.subgraph.maps.grouped import grouped_matmul


@no_type_check  # a type checker at run time would wrap what torch.compile has to trace
class Term(NamedTuple):
    """Weights of basis maps: the same for all subgraphs, chosen by size, or scaled.

    Args:
        weight: (maps, C, S), or (sizes, maps, C, S).
        size: which of the sizes each subgraph has, (subgraphs,).
        scale: factors of the maps in each subgraph, (subgraphs, maps).
    """

    weight: Tensor
    size: Tensor | None = None
    scale: Tensor | None = None

    @property
    def shared(self) -> bool:
        """Whether all subgraphs have the same weights."""
        return self.size is None and self.scale is None

    def maps(self, first: int, count: int) -> "Term":
        """The term of consecutive maps.

        Args:
            first: the first of them.
            count: their number.
        """
        scale = None if self.scale is None else self.scale.narrow(1, first, count)
        return self._replace(weight=self.weight.narrow(-3, first, count), scale=scale)

    def of_rows(self, subgraph: Tensor) -> "Term":
        """The term of rows of features.

        Args:
            subgraph: that of each row.
        """
        size = None if self.size is None else self.size.index_select(0, subgraph)
        scale = None if self.scale is None else self.scale.index_select(0, subgraph)
        return self._replace(size=size, scale=scale)

    def apply(self, sources: Tensor) -> Tensor:
        r"""Mix sources into places, :math:`y_{r p} = \sum_s x_{r s} W_{p s}`.

        Args:
            sources: (rows, sources, C).

        Returns:
            (rows, places, S), where there is a map from each source to each place.
        """
        rows, count, _ = sources.shape
        maps, _, outputs = self.weight.shape[-3:]
        places = maps // count
        if self.scale is not None:
            scale = self.scale.to(sources.dtype).view(rows, places, count, 1)
            scaled = (sources[:, None] * scale).flatten(2).transpose(0, 1)
            return (scaled @ self.weight.reshape(places, -1, outputs)).transpose(0, 1)
        matrix, flat = self._matrix(count), sources.flatten(1)
        mixed = flat @ matrix if self.size is None else grouped_matmul(flat, matrix, self.size)
        return mixed.view(rows, places, outputs)

    def add(self, total: Tensor, sources: Tensor) -> Tensor:
        """Return the sum of a tensor and of :meth:`apply`, by one product where it can do both.

        Args:
            total: (rows, places, S).
            sources: (rows, sources, C).
        """
        if not self.shared or is_autocasting(sources.device.type):
            return total + self.apply(sources)
        matrix = self._matrix(sources.shape[1])
        return torch.addmm(total.flatten(1), sources.flatten(1), matrix).view(total.shape)

    def _matrix(self, count: int) -> Tensor:
        """The weights as matrices (..., sources C, places S)."""
        *sizes, maps, channels, outputs = self.weight.shape
        weight = self.weight.view(*sizes, maps // count, count, channels, outputs)
        return weight.movedim(-4, -2).reshape(*sizes, count * channels, maps // count * outputs)
