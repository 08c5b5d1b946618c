"""Convolution over positions, orientation by orientation and channel by channel."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eqlib.geometry._checks import check_count
from eqlib.position_orientation._arguments import check_positive
from eqlib.position_orientation.convolution.kernel_network import Kernels
from eqlib.position_orientation.edges.geometry import Geometry


class SpatialConv(nn.Module):
    r"""Depthwise convolution over positions, at equal orientations.

    .. math:: y_{ioc} = \sum_{e \to i} (W B_{eo})_c\, x_{s_e o c}

    with the basis B that all layers share (:class:`SpatialKernels`).

    Args:
        channels: number of channels.
        kernels: what the layers share; it is passed again to every call, and not part of the layer.
        neighbours: how many edges enter a node, about; they set the scale of the weights, so that
            the output has the variance of an input without correlations.

    Raises:
        TypeError: ``channels`` is not an integer.
        ValueError: ``channels`` or ``neighbours`` is not positive.
    """

    def __init__(self, channels: int, kernels: Kernels, neighbours: float = 8.0) -> None:
        super().__init__()
        check_count("channels", channels, 1)
        check_positive("neighbours", neighbours)
        self.channels, self.neighbours = channels, neighbours
        self.weight = nn.Parameter(torch.empty(channels, kernels.spatial.basis.out_features))
        self.reset_parameters(kernels)

    def reset_parameters(self, kernels: Kernels, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew, normal with variance 1 / (basis * neighbours * mean of B^2).

        Args:
            kernels: what the layers share, with weights already drawn.
            generator: source of the weights; by default the global one, as in torch's layers.
        """
        square = kernels.spatial.mean_square(kernels.grid, kernels.group)
        variance = self.weight.shape[1] * self.neighbours * square
        nn.init.normal_(self.weight, std=variance**-0.5, generator=generator)

    def forward(
        self,
        features: Float[Tensor, "nodes grid channels"],
        geometry: Geometry,
        kernels: Kernels,
    ) -> Float[Tensor, "nodes grid channels"]:
        """The convolved features; a node without edges has zeros.

        Args:
            features: of each node and orientation, in any unit.
            geometry: edges and orientations.
            kernels: what the layers share.

        Raises:
            TypeError: dtypes do not fit.
            ValueError: shapes do not fit, or the geometry is that of another space or group.
        """
        y: Tensor = kernels.spatial(features, self.weight, geometry)
        return y

    def extra_repr(self) -> str:
        """Channels."""
        return f"{self.channels}, neighbours={self.neighbours}"
