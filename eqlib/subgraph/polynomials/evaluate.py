"""Values of equivariant polynomials on dense matrices."""

from math import prod
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from eqlib.kernels.tracing import constant_result
from eqlib.subgraph.polynomials.contraction import contraction_order
from eqlib.subgraph.polynomials.multigraph import Multigraph

EXACT = 2**53
"""Whole numbers below are exact in float64, and a result below was rounded nowhere."""

Factors = dict[tuple[int, ...], Tensor]
"""What is left to multiply, by the nodes that its axes belong to, in ascending order."""


def evaluate(
    multigraph: Multigraph | str,
    X: Float64[Tensor, "*batch n n"] | Int64[Tensor, "*batch n n"],  # noqa: N803
    limit: int | None = 2**30,
) -> Tensor:
    r"""Evaluate the polynomial of a multigraph on matrices.

    .. math:: P_H(X)_{\text{red}} = \sum_{\text{black}} \prod_{(a, b) \in E(H)} X_{ab}.

    The black nodes are summed over one at a time, in the cheapest order.

    Args:
        multigraph: the multigraph, or what `Multigraph.parse` reads.
        X: square matrices, symmetric or not.
        limit: bytes that the largest intermediate result may take; None: any.

    Returns:
        Numbers of shape ``batch``, ``batch n`` or ``batch n n`` for no, one and two red nodes.
        Integers give integers, and all of them are exact.

    Raises:
        TypeError: X is neither float64 nor int64.
        ValueError: X is not square; an intermediate result would pass ``limit``; or one of integers
            reaches 2^53, as may an entry of X.

    Note:
        Integers are multiplied in float64, where whole numbers below 2^53 are exact: products of
        integer matrices are slow. That no sum of absolute values reaches 2^53 is looked at in eager
        mode alone.

    Source:
        Puny et al., Equivariant Polynomials for Graph Neural Networks, ICML 2023.
    """
    _check(X)
    program = compile_program(multigraph)
    require_memory(program, X.shape[-1], prod(X.shape[:-2]), limit)
    if X.dtype == torch.float64:
        return _contract(program, X)
    values = X.to(torch.float64)
    if torch.compiler.is_compiling():
        return _contract(program, values).to(torch.int64)
    if X.numel() and not -EXACT < X.min().item() <= X.max().item() < EXACT:
        raise ValueError(f"X has entries from {X.min()} to {X.max()}; expected less than 2^53")
    signed = bool((X < 0).any())
    result = _contract(program, values, exact=not signed)
    if signed:
        _contract(program, values.abs(), exact=True)  # bounds all sums of the other
    return result.to(torch.int64)


class Program(NamedTuple):
    """What `evaluate` does for a multigraph."""

    name: str
    edges: tuple[tuple[int, int], ...]
    red: tuple[int, ...]
    order: tuple[int, ...]
    """Black nodes, in the order in which they are summed over."""
    width: int
    """The largest intermediate result has n to this power numbers."""


@constant_result
def compile_program(multigraph: Multigraph | str) -> Program:
    """Return what is to be done for a multigraph; the search for it is not traced."""
    if isinstance(multigraph, str):
        multigraph = Multigraph.parse(multigraph)
    found = contraction_order(multigraph)
    return Program(str(multigraph), multigraph.edges, multigraph.red, found.order, found.width)


def require_memory(program: Program, nodes: int, matrices: int, limit: int | None) -> None:
    """Raise where the largest intermediate result would pass a number of bytes."""
    width = program.width
    needed = 8 * matrices * nodes**width
    if limit is not None and needed > limit:
        raise ValueError(
            f"X: {program.name} of {matrices} matrices with n = {nodes} needs {needed:,} bytes at "
            f"once (8 n^{width} for each); expected at most limit = {limit:,}: give fewer matrices "
            "at a time, raise the limit, or take multigraphs whose contraction_order is narrower"
        )


def _check(X: Tensor) -> None:  # noqa: N803
    if X.dtype not in (torch.float64, torch.int64):
        raise TypeError(
            f"X has dtype {X.dtype}; expected torch.float64, or torch.int64 for exact counts: "
            "convert it with .double() or .long()"
        )
    if X.ndim < 2 or X.shape[-1] != X.shape[-2]:
        raise ValueError(f"X has shape {tuple(X.shape)}; expected square matrices (..., n, n)")


def _contract(program: Program, X: Tensor, exact: bool = False) -> Tensor:  # noqa: N803
    """Sum over the black nodes; where ``exact``, refuse results from 2^53 on."""
    factors: Factors = {}
    for a, b in program.edges:
        if a == b:
            _multiply(factors, (a,), X.diagonal(dim1=-2, dim2=-1))
        else:
            _multiply(factors, (min(a, b), max(a, b)), X if a < b else X.mT)
    nodes, batch = X.shape[-1], X.shape[:-2]
    for node in program.order:
        mine = {key: factors.pop(key) for key in list(factors) if node in key}
        key, total = _sum_over(node, mine, X.new_full(batch, nodes))
        _multiply(factors, key, total)
        if exact:
            _require_exact(program.name, factors[key])
    result = X.new_ones((*batch, *(nodes for _ in program.red)))
    for key, values in factors.items():
        result = result * _aligned(values, key, program.red, len(batch))
    if exact:
        _require_exact(program.name, result)
    return result


def _multiply(factors: Factors, key: tuple[int, ...], values: Tensor) -> None:
    factors[key] = factors[key] * values if key in factors else values


def _sum_over(node: int, factors: Factors, size: Tensor) -> tuple[tuple[int, ...], Tensor]:
    """Multiply the factors that have an axis of a node and sum over it."""
    if not factors:
        return (), size
    # The largest one last: that product is also the sum over the node, a matrix product.
    (key, values), *others = sorted(factors.items(), key=lambda item: len(item[0]))
    for position, (other, further) in enumerate(others):
        last = position == len(others) - 1
        joint = tuple(sorted({*key, *other} - ({node} if last else set())))
        values = torch.einsum(f"{_axes(key)},{_axes(other)}->{_axes(joint)}", values, further)
        key = joint
    if node in key:
        values = values.sum(key.index(node) - len(key))
        key = tuple(other for other in key if other != node)
    return key, values


def _axes(key: tuple[int, ...]) -> str:
    return "..." + "".join(chr(ord("a") + node) for node in key)


def _aligned(values: Tensor, key: tuple[int, ...], red: tuple[int, ...], batch: int) -> Tensor:
    """Put the axes of a factor where they belong in the output."""
    axes = [key.index(node) for node in red if node in key]
    values = values.permute((*range(batch), *(batch + axis for axis in axes)))
    missing = [batch + place for place, node in enumerate(red) if node not in key]
    for place in missing:
        values = values.unsqueeze(place)
    return values


def _require_exact(name: str, values: Tensor) -> None:
    if values.numel() and values.max().item() >= EXACT:
        raise ValueError(
            f"X: {name} reaches {values.max().item():.3g}; from 2^53 = {EXACT:,} on "
            "float64 is not exact; expected smaller entries or fewer nodes: convert X with "
            ".double() for rounded values"
        )
