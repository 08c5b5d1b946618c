"""What kernels in Triton share: how they are made and run, and factors of matrix products."""
# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: N803 - compile-time arguments are in capitals

from functools import partial
from inspect import unwrap

import triton
import triton.language as tl


def constant(function):
    """Let a function run at compile time, also where an import hook has wrapped it to check it."""
    return triton.constexpr_function(unwrap(function))


def jit(function=None, **options):
    """Do what triton.jit does, also where an import hook has wrapped the function to check it."""
    if function is None:
        return partial(jit, **options)
    return triton.jit(unwrap(function), **options)


_MANTISSA: tl.constexpr = tl.constexpr(-8192)


@jit
def round_to_tf32(value):
    """Round float32 to the nearest number with the 10 mantissa bits of TF32."""
    bits = value.to(tl.int32, bitcast=True)
    return ((bits + 4096) & _MANTISSA).to(tl.float32, bitcast=True)


@jit
def split(value, PRECISION: tl.constexpr):
    """Return a factor of a matrix product as one number or, for three products, as a sum of two.

    Hardware cuts float32 off to TF32, which would bias the product: it is rounded here.
    """
    if PRECISION == "ieee":
        parts = (value,)
    elif PRECISION == "tf32":
        # A GPU's NaN has all bits set and would round to zero. Of two parts the second is NaN.
        parts = (tl.where(value == value, round_to_tf32(value), value),)
    else:
        high = round_to_tf32(value)
        parts = (high, value - high)
    return parts


@jit
def matmul(left, right, total, PRECISION: tl.constexpr, ACC: tl.constexpr):
    """Add a product of factors, each in one part or in two, to a total."""
    HOW: tl.constexpr = "ieee" if PRECISION == "ieee" else "tf32"
    if len(left) == 2:
        total = tl.dot(left[1], right[0], total, input_precision=HOW, out_dtype=ACC)
    if len(right) == 2:
        total = tl.dot(left[0], right[1], total, input_precision=HOW, out_dtype=ACC)
    return tl.dot(left[0], right[0], total, input_precision=HOW, out_dtype=ACC)


@jit
def factor_of(
    weight, first, begin, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, N: tl.constexpr,
    K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Return N rows and K columns of a matrix (HEIGHT, WIDTH), transposed, with zeros beyond.

    A matrix product takes its second factor from memory that is contiguous along the summed axis.
    """
    i = first + tl.arange(0, N)[:, None]
    j = begin + tl.arange(0, K)[None, :]
    if HEIGHT % N == 0 and WIDTH % K == 0:
        tile = tl.load(weight + i * WIDTH + j)
    else:
        tile = tl.load(weight + i * WIDTH + j, mask=(i < HEIGHT) & (j < WIDTH), other=0.0)
    return split(tl.trans(tile), PRECISION)


COMPILED = isinstance(split, triton.JITFunction)
"""Whether kernels are compiled; in the interpreter of Triton they are not, and run anywhere."""


def runnable(kernel, x, name="x"):
    """Return a kernel, or raise where it cannot run on the device of a tensor.

    Args:
        kernel: the kernel.
        x: a tensor that it is given.
        name: of the tensor.

    Raises:
        ValueError: the tensor is not on a CUDA device, and there is no interpreter.
    """
    if COMPILED and x.device.type != "cuda":
        raise ValueError(
            f"{name}: expected a CUDA device, on which Triton kernels run, got {x.device}; move it "
            "there, or set TRITON_INTERPRET=1 before the first import to run them slowly on the CPU"
        )
    return kernel
