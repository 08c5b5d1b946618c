"""Random matrices, directions and numbers that group elements are drawn from, in float64."""

from math import log

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def orthogonal_matrices(
    generator: torch.Generator, samples: int, dimension: int, mirrored: Bool[Tensor, "samples"]
) -> Float[Tensor, "samples d d"]:
    """Haar-uniform orthogonal matrices, of determinant -1 where ``mirrored``.

    Args:
        generator: the source of randomness, on whose device they are.
        samples: number of matrices.
        dimension: their number of rows.
        mirrored: which ones reflect.

    Source:
        Mezzadri, How to generate random matrices from the classical compact groups, 2007: the Q of
        a Gaussian matrix is uniform once the signs make the diagonal of its R positive.
    """
    gaussian = normal(generator, samples, dimension, dimension)
    Q, R = torch.linalg.qr(gaussian)
    Q = Q * R.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    flip = (torch.linalg.det(Q) < 0) != mirrored
    sign = torch.ones_like(Q[:, 0])
    sign[:, 0] = torch.where(flip, -1.0, 1.0)
    return Q * sign.unsqueeze(-2)


def in_ball(generator: torch.Generator, samples: int, dimension: int) -> Float[Tensor, "samples d"]:
    """Points uniform in the unit ball.

    Args:
        generator: the source of randomness.
        samples: number of points.
        dimension: their number of coordinates.
    """
    direction = torch.nn.functional.normalize(normal(generator, samples, dimension), dim=-1)
    return direction * uniform(generator, samples, 1) ** (1 / dimension)


def log_uniform(generator: torch.Generator, *shape: int, largest: float) -> Float[Tensor, "*shape"]:
    """Numbers between ``1 / largest`` and ``largest``, whose logarithm is uniform.

    Args:
        generator: the source of randomness.
        shape: of the tensor.
        largest: above 1.
    """
    return torch.exp(log(largest) * (2 * uniform(generator, *shape) - 1))


def normal(generator: torch.Generator, *shape: int) -> Float[Tensor, "*shape"]:
    """Numbers of the standard normal distribution."""
    return torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device)


def uniform(generator: torch.Generator, *shape: int) -> Float[Tensor, "*shape"]:
    """Numbers uniform in 0 to 1."""
    return torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)
