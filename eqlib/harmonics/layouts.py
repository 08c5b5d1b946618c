"""Features of one width for all degrees, in e3nn's layouts and normalisations and back."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from eqlib.harmonics._tables import check_degree

Layout = Literal["mul_ir", "ir_mul"]
Normalization = Literal["integral", "component", "norm"]


def e3nn_irreps(lmax: int, channels: int, complete: bool = False) -> str:
    """Name of the features' irreps in e3nn's grammar, in the order of :func:`to_e3nn`.

    Args:
        lmax: the largest degree.
        channels: number of channels.
        complete: features of both parities.

    Returns:
        All degrees of natural parity such as ``8x0e+8x1o+8x2e``; if ``complete``, followed by
        those of the other parity, ``+8x0o+8x1e+8x2o``.

    Raises:
        TypeError: a number is not whole.
        ValueError: a number is negative.
    """
    check_degree(lmax, "lmax")
    if channels < 0:
        raise ValueError(f"channels is {channels}; expected at least 0")
    parities = ("eo", "oe") if complete else ("eo",)
    return "+".join(
        f"{channels}x{degree}{parity[degree % 2]}"
        for parity in parities
        for degree in range(lmax + 1)
    )


def to_e3nn(
    features: Float[Tensor, "*batch_parity coeffs channels"],
    complete: bool = False,
    layout: Layout = "mul_ir",
    normalization: Normalization = "integral",
) -> Float[Tensor, "*batch components"]:
    r"""Features of the irreps :func:`e3nn_irreps`, flat as e3nn has them.

    Args:
        features: ``(..., (L+1)^2, channels)``, or ``(..., 2, (L+1)^2, channels)`` if ``complete``.
        complete: features of both parities, the natural one first.
        layout: "mul_ir" has the components of one channel after another in each degree (e3nn's
            default), "ir_mul" the channels of one component after another.
        normalization: that of the result, by the names of e3nn's spherical harmonics. Degree l is
            multiplied by 1 ("integral", eqlib's own), :math:`\sqrt{4\pi}` ("component") or
            :math:`\sqrt{4\pi / (2l+1)}` ("norm"), so that eqlib's harmonics become e3nn's.

    Returns:
        The features, in a new tensor.

    Raises:
        TypeError: ``features`` is not floating point.
        ValueError: the number of coefficients is not a square, there is no axis of length 2 for the
            parities, or an option has another value.
    """
    _check_options(layout, normalization)
    _check_floating(features)
    lmax = _largest_degree(features, complete)
    if complete:
        parts = [part for block in features.unbind(-3) for part in _split(block, lmax)]
    else:
        parts = _split(features, lmax)
    scaled = [part * _factor((part.shape[-2] - 1) // 2, normalization) for part in parts]
    ordered = [part.mT if layout == "mul_ir" else part for part in scaled]
    return torch.cat([part.flatten(-2) for part in ordered], dim=-1)


def from_e3nn(
    features: Float[Tensor, "*batch components"],
    lmax: int,
    complete: bool = False,
    layout: Layout = "mul_ir",
    normalization: Normalization = "integral",
) -> Float[Tensor, "*batch_parity coeffs channels"]:
    """Take features out of e3nn's flat form: the inverse of :func:`to_e3nn`.

    Args:
        features: components of the irreps :func:`e3nn_irreps`: equal multiplicities, in this order.
        lmax: the largest degree.
        complete: whether the irreps of the other parity follow.
        layout: that of ``features``.
        normalization: that of ``features``.

    Returns:
        ``(..., (L+1)^2, channels)``, or ``(..., 2, (L+1)^2, channels)`` if ``complete``.

    Raises:
        TypeError: ``features`` is not floating point, or ``lmax`` not a whole number.
        ValueError: the number of components is not a multiple of that of one channel, ``lmax`` is
            negative, or an option has another value.

    Note:
        Irreps of different multiplicities have no uniform layout: pad them with zeros first.
    """
    _check_options(layout, normalization)
    check_degree(lmax, "lmax")
    _check_floating(features)
    parities = 2 if complete else 1
    size = parities * (lmax + 1) ** 2
    if features.ndim == 0 or features.shape[-1] % size != 0:
        raise ValueError(
            f"features has shape {tuple(features.shape)}; expected a multiple of {size} components "
            f"for the irreps {e3nn_irreps(lmax, 1, complete)} of each channel"
        )
    channels = features.shape[-1] // size
    sizes = [(2 * degree + 1) * channels for degree in range(lmax + 1)] * parities
    blocks = []
    for number, part in enumerate(features.split(sizes, dim=-1)):
        degree = number % (lmax + 1)
        shape = (channels, 2 * degree + 1) if layout == "mul_ir" else (2 * degree + 1, channels)
        block = part.unflatten(-1, shape) / _factor(degree, normalization)
        blocks.append(block.mT if layout == "mul_ir" else block)
    joined = torch.cat(blocks, dim=-2)
    return joined.unflatten(-2, (2, (lmax + 1) ** 2)) if complete else joined


def _split(block: Tensor, lmax: int) -> list[Tensor]:
    return list(block.split([2 * degree + 1 for degree in range(lmax + 1)], dim=-2))


def _factor(degree: int, normalization: str) -> float:
    if normalization == "integral":
        return 1.0
    if normalization == "component":
        return math.sqrt(4 * math.pi)
    return math.sqrt(4 * math.pi / (2 * degree + 1))


def largest_degree(features: Tensor, name: str) -> int:
    """Degree L of features ``(..., (L+1)^2, channels)``.

    Raises:
        ValueError: the number of coefficients is not the square of a positive number.
    """
    if features.ndim < 2:
        raise ValueError(
            f"{name} has shape {tuple(features.shape)}; expected (..., (L+1)^2, channels)"
        )
    count = features.shape[-2]
    # By comparison: it also works for the symbolic sizes of compilers.
    lmax = 0
    while (lmax + 1) ** 2 < count:
        lmax += 1
    if (lmax + 1) ** 2 != count:
        raise ValueError(
            f"{name} has shape {tuple(features.shape)} with {count} coefficients; expected "
            f"(..., (L+1)^2, channels), such as {(lmax + 1) ** 2} coefficients"
        )
    return lmax


def _largest_degree(features: Tensor, complete: bool) -> int:
    lmax = largest_degree(features, "features")
    if complete and (features.ndim < 3 or features.shape[-3] != 2):
        raise ValueError(
            f"features has shape {tuple(features.shape)}; expected (..., 2, (L+1)^2, channels) "
            "for complete=True: the natural parity, then the other"
        )
    return lmax


def _check_floating(features: Tensor) -> None:
    if not features.is_floating_point():
        raise TypeError(
            f"features has dtype {features.dtype}; expected floating point: "
            "convert it with .float()"
        )


def _check_options(layout: str, normalization: str) -> None:
    if layout not in ("mul_ir", "ir_mul"):
        raise ValueError(f"layout: expected 'mul_ir' or 'ir_mul', got {layout!r}")
    if normalization not in ("integral", "component", "norm"):
        raise ValueError(
            f"normalization: expected 'integral', 'component' or 'norm', got {normalization!r}"
        )
