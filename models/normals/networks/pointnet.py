"""PointNet: every point by itself, but for a maximum over all of them."""

from jaxtyping import Float
from torch import Tensor, nn

from eqlib.models.normals.networks.base import Fusion, NormalsNetwork, Pointwise, Vectors


class PointNetFeatures(nn.Module):
    r"""Features of every point, and their maxima over the cloud.

    .. math:: h_i = \phi(x_i), \qquad y_i = \psi\bigl(h_i, \max_j \chi(h_j)\bigr)

    Args:
        inputs: number of features of each point.
        width: number of features that come out; the maxima are four times as many.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.local = Pointwise(inputs, width, width)
        self.wide = Pointwise(width, 2 * width, 4 * width)
        self.fuse = Fusion(width, 4 * width, width)

    def forward(
        self, features: Float[Tensor, "batch nodes inputs"], points: Float[Tensor, "batch nodes 3"]
    ) -> Float[Tensor, "batch nodes width"]:
        """Return the features; the points are not looked at."""
        local = self.local(features)
        return self.fuse(local, self.wide(local))


class PointNet(NormalsNetwork):
    """PointNet on the coordinates as they are: no rotational symmetry.

    Args:
        width: number of features of a point; the maxima are four times as many.

    Source:
        Qi et al., PointNet: Deep Learning on Point Sets for 3D Classification and Segmentation,
        CVPR 2017. Here layer normalisation in place of batch normalisation, which would mix the
        clouds of a batch, and no learned transformations of the input.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__(Vectors(PointNetFeatures(3, width), width))
