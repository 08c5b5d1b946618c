"""Channelwise tensor products of other packages, given the paths of ours.

All are made for a problem: features `x` and `y` of shape `(batch, coefficients, channels)`, and the
degree `lmax_out` of the output.
"""

import warnings
from collections.abc import Callable
from functools import partial
from math import isqrt
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from benchmarks.registry import Foreign, Inputs, MadeFor, Operation
from eqlib.harmonics import (
    gaunt_coefficients,
    poisson_coefficients,
    sphere_grid,
    spherical_harmonics,
)

Paths = Literal["even", "odd", "all"]
Method = Literal["naive", "uniform_1d", "fused_tp"]

COMPILED_UP_TO = 2
"""Largest degree at which e3nn is compiled: the code of all paths takes minutes beyond."""


class Size(NamedTuple):
    """What a tensor product is made for."""

    lmax1: int
    lmax2: int
    lmax_out: int
    channels: int


def size_of(inputs: Inputs) -> Size:
    """Return the size of a problem."""
    x, y = inputs["x"], inputs["y"]
    return Size(isqrt(x.shape[1]) - 1, isqrt(y.shape[1]) - 1, inputs["lmax_out"], x.shape[2])


def coefficients(paths: Paths, lmax1: int, lmax2: int, lmax_out: int) -> Tensor:
    """Return the coefficients of the product along some of the paths, as float64."""
    tables = []
    if paths != "odd":
        tables.append(gaunt_coefficients(lmax1, lmax2, lmax_out))
    if paths != "even":
        tables.append(poisson_coefficients(lmax1, lmax2, lmax_out))
    return torch.stack(tables).sum(0)


def blocks(paths: Paths, size: Size) -> list[tuple[int, int, int, Tensor]]:
    """Return the degrees of each path with its block of coefficients."""
    table = coefficients(paths, *size[:3])
    found = []
    for a in range(size.lmax1 + 1):
        for b in range(size.lmax2 + 1):
            for c in range(size.lmax_out + 1):
                block = table[_degree(a), _degree(b), _degree(c)]
                if block.count_nonzero():
                    found.append((a, b, c, block))
    return found


def _degree(degree: int) -> slice:
    return slice(degree**2, (degree + 1) ** 2)


def to_mul_ir(x: Tensor) -> Tensor:
    """Bring features into e3nn's layout: all channels of a degree, each with its components."""
    degrees = range(isqrt(x.shape[-2]))
    return torch.cat([x[..., _degree(degree), :].mT.flatten(-2) for degree in degrees], -1)


def from_mul_ir(x: Tensor, channels: int) -> Tensor:
    """Undo :func:`to_mul_ir`."""
    degrees = isqrt(x.shape[-1] // channels)
    parts = x.split([channels * (2 * degree + 1) for degree in range(degrees)], -1)
    return torch.cat([part.unflatten(-1, (channels, -1)).mT for part in parts], -2)


def e3nn_uuu(paths: Paths, compiled: bool = False) -> MadeFor:
    """Return e3nn's channelwise product of the same paths, in its own layout."""
    return MadeFor(partial(_make_e3nn, paths, compiled))


def _make_e3nn(paths: Paths, compiled: bool, inputs: Inputs) -> Foreign:
    from e3nn import o3

    size = size_of(inputs)
    if compiled and max(size[:3]) > COMPILED_UP_TO:
        raise NotImplementedError(f"takes minutes to compile above degree {COMPILED_UP_TO}")
    # Parities are left out: e3nn would forbid the odd paths.
    irreps = [
        o3.Irreps([(size.channels, (degree, 1)) for degree in range(lmax + 1)]) for lmax in size[:3]
    ]
    # e3nn multiplies a wigner_3j of norm 1 by the square root of a path's weight.
    instructions = [
        (a, b, c, "uuu", False, block.square().sum().item())
        for a, b, c, block in blocks(paths, size)
    ]
    module = o3.TensorProduct(
        *irreps, instructions, irrep_normalization="none", path_normalization="none"
    )
    product = _compiled(module.to(inputs["x"].device), compiled)

    def run(x: Tensor, y: Tensor, lmax_out: int) -> Tensor:
        return product(x, y)

    return Foreign(run, to_mul_ir, partial(from_mul_ir, channels=size.channels))


def cuequivariance_uuu(paths: Paths, method: Method) -> MadeFor:
    """Return cuEquivariance's product of the same paths; its layout is ours."""
    return MadeFor(partial(make_cuequivariance, paths, method))


def make_cuequivariance(paths: Paths, method: Method, inputs: Inputs) -> Operation:
    """Make what :func:`cuequivariance_uuu` stands for."""
    import cuequivariance as cue
    import cuequivariance_torch as cuet

    size, device = size_of(inputs), inputs["x"].device
    if method != "naive" and device.type != "cuda":
        raise NotImplementedError("needs a GPU")
    product: Any = cue.SegmentedTensorProduct.from_subscripts("iu,ju,ku+ijk")
    for operand, lmax in enumerate(size[:3]):
        for degree in range(lmax + 1):
            product.add_segment(operand, (2 * degree + 1, size.channels))
    for a, b, c, block in blocks(paths, size):
        product.add_path(a, b, c, c=block.numpy())
    if method != "naive":
        product = product.flatten_coefficient_modes()
    polynomial = cue.SegmentedPolynomial.eval_last_operand(product)
    with warnings.catch_warnings(action="ignore"):  # it warns where it takes another method
        module = cuet.SegmentedPolynomial(polynomial, method=method, math_dtype=torch.float32)
    if module.method != method:
        raise RuntimeError(f"method {method} needs cuequivariance-ops-torch")
    module = module.to(device)

    def run(x: Tensor, y: Tensor, lmax_out: int) -> Tensor:
        (result,) = module([x.flatten(1), y.flatten(1)])
        return result.unflatten(1, (-1, size.channels))

    return run


def torch_grid(compiled: bool = False) -> MadeFor:
    """Return the even paths as three matrix products with the values on a grid, in plain torch."""
    return MadeFor(partial(_make_grid, compiled))


def _make_grid(compiled: bool, inputs: Inputs) -> Operation:
    degrees = size_of(inputs)[:3]
    grid = sphere_grid(sum(degrees))
    first, second, out = (
        spherical_harmonics(grid.points, lmax).to(inputs["x"]) for lmax in degrees
    )
    out = (grid.weights[:, None].to(out) * out).mT.contiguous()

    def product(x: Tensor, y: Tensor, lmax_out: int) -> Tensor:
        return out @ ((first @ x) * (second @ y))

    return _compiled(product, compiled)


def _compiled(operation: Callable[..., Tensor], wanted: bool) -> Callable[..., Tensor]:
    """Compile for the sizes of one problem, forgetting those of the last.

    Without that the number of compilations is limited, and the rest would run uncompiled.
    """
    if not wanted:
        return operation
    torch.compiler.reset()
    return torch.compile(operation, dynamic=False)
