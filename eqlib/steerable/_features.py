"""What the layers on spherical tensors share: sizes of degrees, and argument checks."""

from torch import Tensor

from eqlib.kernels.autocast import is_autocasting


def degree_sizes(lmax: int, complete: bool) -> list[int]:
    """The number of components of each degree, those of the other parity after the natural ones."""
    return [2 * degree + 1 for degree in range(lmax + 1)] * (2 if complete else 1)


def check_at_least(least: int, **arguments: int) -> None:
    """Raise unless all arguments are integers of at least ``least``."""
    for name, value in arguments.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name}: expected an integer, got {value!r}")
        if value < least:
            raise ValueError(f"{name}: expected an integer of at least {least}, got {value}")


def check_features(
    features: Tensor,
    lmax: int,
    channels: int,
    complete: bool,
    weight: Tensor,
    name: str = "features",
) -> None:
    """Raise unless spherical tensors fit a layer: shape, dtype and device."""
    tail = (*((2,) if complete else ()), (lmax + 1) ** 2, channels)
    if features.shape[-len(tail) :] != tail:
        raise ValueError(
            f"{name}: expected shape (..., {', '.join(map(str, tail))}), the components of "
            f"degrees 0 to {lmax}{' of both parities' if complete else ''}, then channels; "
            f"got {tuple(features.shape)}{_mend(features, tail)}"
        )
    if features.device != weight.device:
        raise ValueError(
            f"{name}: on {features.device}, but the layer is on {weight.device}; "
            "move one to the other with .to(device)"
        )
    check_dtype(name, features, weight)


def check_dtype(name: str, values: Tensor, weight: Tensor) -> None:
    """Raise unless values have the floating-point dtype of the weights; autocast takes any."""
    if not values.is_floating_point():
        raise TypeError(
            f"{name}: expected floating-point numbers, got {values.dtype}; "
            f"convert with .to({weight.dtype})"
        )
    if values.dtype != weight.dtype and not is_autocasting(values.device.type):
        raise TypeError(
            f"{name}: got {values.dtype}, but the weights of the layer are {weight.dtype}; "
            f"convert one with .to({values.dtype})"
        )


def _mend(features: Tensor, tail: tuple[int, ...]) -> str:
    """What may have gone wrong with the shape."""
    if features.ndim >= 2 and features.mT.shape[-len(tail) :] == tail:
        return "; channels come last: transpose with .mT"
    if len(tail) == 3 and features.shape[-2:] == tail[1:]:
        return "; with complete=True, index 0 of axis -3 is of natural parity, 1 of the other"
    return ""
