r"""All maps of a layer at once, on a CPU: sums, products on all levels, and what members spread.

A layer L is linear in its weights W and, but for its bias, in its features f, so that two functions
are closed under differentiation: L and its transpose, and the gradient

.. math:: \nabla_W \langle g, L_W(f) \rangle

They are no operations of ``torch.library``, whose calls take as long as a small layer and which
only graphs of torch.compile need: these are made of ``eqlib::pair_linear`` and others.
"""

import ctypes
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from eqlib.kernels import native
from eqlib.kernels.pair_linear import compiled
from eqlib.kernels.pair_linear import layer_library as library
from eqlib.kernels.pair_linear.arguments import Pairs, WeightGradient
from eqlib.kernels.pair_linear.checks import (
    check_nodes,
    check_pairs,
    check_shape,
    remember,
)
from eqlib.kernels.pair_linear.layer_library import ORDERS, whynot

_MAPS = ((15, 5, 2), (5, 2, 1), (2, 1, 1), (2, 1, 1))
"""Number of maps from pairs, nodes, scalars and the constant 1 to pairs, nodes and scalars."""
_ROOTED_MAPS = ((52, 15, 5), (15, 5, 2), (5, 2, 1), (5, 2, 1))

Features = tuple[Tensor, Tensor, Tensor]
"""Of the slots of pairs, of the nodes and of the subgraphs, (rows, channels) each."""


class Nodes(NamedTuple):
    """The node of each member of the subgraphs, as :class:`Pairs` has their slots; all int64."""

    node: Tensor
    """Node of each member, (members,)."""
    member_order: Tensor
    """The members, sorted stably by node, (members,)."""
    member_starts: Tensor
    """Where those of each node begin, then the number of members, (nodes + 1,)."""


class Settings(NamedTuple):
    """What a layer is given beside features and weights."""

    pairs: Pairs
    nodes: Nodes | None
    """None: each member has a row of its own, as each pair has then."""
    channels: Sequence[int]
    """Those of pairs, nodes and scalars, of the features and then of the results."""
    normalised: bool
    """Whether sums over a subgraph are divided by its size."""
    constant: bool = True
    """Whether the bias counts."""

    def rows(self) -> tuple[int, int, int]:
        """Number of rows of features of pairs, nodes and scalars."""
        pairs, nodes = self.pairs, self.nodes
        members = pairs.subgraph.shape[0]
        count = members if nodes is None else nodes.member_starts.shape[0] - 1
        return pairs.transpose.shape[0], count, pairs.starts.shape[0] - 1

    def widths(self, transposed: bool) -> Sequence[int]:
        """Channels of pairs, nodes and scalars: of the features, or ``transposed`` the results."""
        return self.channels[ORDERS:] if transposed else self.channels[:ORDERS]

    @property
    def rooted(self) -> bool:
        """Whether subgraphs have roots."""
        return self.pairs.root is not None

    def shapes(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Place 3 p + q and shape of the weights from order p to order q, the biases last."""
        for p, maps in enumerate(_ROOTED_MAPS if self.rooted else _MAPS):
            inputs = (self.channels[p],) if p < ORDERS else ()
            for q, outputs in enumerate(self.widths(transposed=True)):
                if outputs and 0 not in inputs:
                    yield ORDERS * p + q, (maps[q], *inputs, outputs)


def pair_layer(
    features: Sequence[Tensor],
    weights: Sequence[Tensor],
    settings: Settings,
    transposed: bool = False,
) -> Features:
    r"""Map features of pairs, nodes and scalars in all subgraphs, and average over these.

    In a subgraph of m members the vectors of member i and the scalars are

    .. math::
        v_i = \Bigl(A_{ii},\; \tfrac1m \sum_j A_{ij},\; \tfrac1m \sum_j A_{ji},\; x_i\Bigr), \qquad
        s = \Bigl(\tfrac1m \sum_i A_{ii},\; \tfrac1{m^2} \sum_{ij} A_{ij},\; \tfrac1m \sum_i x_i,\;
        z\Bigr)

    and with :math:`(t^0, t^1, t^2, t^3) = s W_s + b` and
    :math:`(u^0, u^1, u^2, u^3)_i = v_i W_v + (t^0, t^1, 0, t^2)` the results are
    :math:`A W_0 + A^\top W_1 + \delta_{ij} u^0_i + u^1_i + u^2_j`, :math:`u^3_i` and :math:`t^3`.
    With a root 0, there are also the vectors :math:`A_{i0}` and :math:`A_{0i}`, spread to
    :math:`A_{i0}` and :math:`A_{0i}` in turn, and scalars of the root, :math:`A_{00}`, its row and
    column and :math:`x_0`, given to its diagonal, row, column and features.
    Where subgraphs share rows of pairs and nodes, these results are means over the subgraphs.

    Args:
        features: A, x and z, (slots, C2), (nodes, C1) and (subgraphs, C0), in any unit.
        weights: for each order of the features that has channels, from pairs to scalars, and for
            each order of the results, those of the basis maps, (maps, channels, outputs): those of
            A and its transpose, then the vectors to each place, then the scalars; last the biases
            b of each order, (places, outputs).
        settings: the subgraphs, and the channels.
        transposed: apply the transpose of the linear map instead; features then have the channels
            of the results, and the bias does not count.

    Returns:
        Features of the slots, nodes and subgraphs.

    Raises:
        ValueError: shapes or indices do not fit, or the C form cannot run.
        TypeError: a tensor has another dtype than its kind may have.
    """
    pairs, nodes, scalars = _Apply.apply(settings, transposed, *features, *weights)
    return pairs, nodes, scalars


def pair_layer_gradient(
    features: Sequence[Tensor], gradients: Sequence[Tensor], settings: Settings
) -> tuple[Tensor, ...]:
    """The gradient of :func:`pair_layer` by its weights.

    Args:
        features: as there.
        gradients: those by the three results.
        settings: as there.

    Returns:
        Tensors like the weights.

    Raises:
        ValueError: as there.
        TypeError: as there.
    """
    found: tuple[Tensor, ...] = _Gradient.apply(settings, *features, *gradients)
    return found


class _Apply(torch.autograd.Function):
    """A layer or its transpose."""

    @staticmethod
    def forward(ctx: Any, settings: Settings, transposed: bool, *tensors: Tensor) -> Features:
        ctx.save_for_backward(*tensors)
        ctx.settings, ctx.transposed = settings, transposed
        features = _checked(tensors[:ORDERS], settings, transposed)
        weights = _checked_weights(tensors[ORDERS:], features[0], settings)
        columns = settings.widths(not transposed)
        sizes = zip(settings.rows(), columns, strict=True)
        pairs, nodes, scalars = (features[0].new_empty(size) for size in sizes)
        results = library.Results(pairs.data_ptr(), nodes.data_ptr(), scalars.data_ptr())
        _run("apply", features, settings, weights, transposed, results)
        return pairs, nodes, scalars

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: checkpoints give them up
        features, weights = saved[:ORDERS], saved[ORDERS:]
        settings, needed = ctx.settings, ctx.needs_input_grad[2:]
        by_features: Sequence[Tensor | None] = [None] * ORDERS
        by_weights: Sequence[Tensor | None] = [None] * len(weights)
        if ctx.transposed:  # the bias took no part
            settings = settings._replace(constant=False)
        if any(needed[:ORDERS]):
            by_features = pair_layer(gradients, weights, settings, not ctx.transposed)
        if any(needed[ORDERS:]):
            one, other = (gradients, features) if ctx.transposed else (features, gradients)
            by_weights = pair_layer_gradient(one, other, settings)
        return None, None, *by_features, *by_weights


class _Gradient(torch.autograd.Function):
    """The gradient of a layer by its weights."""

    @staticmethod
    def forward(ctx: Any, settings: Settings, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*tensors)
        ctx.settings = settings
        features = _checked(tensors[:ORDERS], settings, transposed=False)
        gradients = _checked(tensors[ORDERS:], settings, transposed=True)
        vector, scalar = _by_matrices(features, gradients, settings)
        found = _weights_of(vector, scalar, settings)
        if settings.channels[0] and settings.channels[ORDERS]:
            transpose = settings.pairs.transpose.contiguous()
            pairs = WeightGradient(features[0], gradients[0], transpose)
            found[0][:2] = compiled.weight_gradient(pairs) if len(transpose) else 0
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *seeds: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: checkpoints give them up
        features, gradients = saved[:ORDERS], saved[ORDERS:]
        by_features = pair_layer(gradients, seeds, ctx.settings, transposed=True)
        return None, *by_features, *pair_layer(features, seeds, ctx.settings)


def _by_matrices(
    features: Features, gradients: Features, settings: Settings
) -> tuple[Tensor, Tensor]:
    """Gradients by the matrices of vectors and of scalars, as the C source has them."""
    members, nodes, scalars = _gather(features, settings, transposed=False)
    by_members, by_nodes, by_scalars = _gather(gradients, settings, transposed=True)
    sums, places = members.shape[1], by_members.shape[1]
    vector = members.new_empty(nodes.shape[1], by_nodes.shape[1])
    torch.mm(members.mT, by_members, out=vector[:sums, :places])
    torch.mm(nodes[:, sums:].mT, by_nodes[:, :places], out=vector[sums:, :places])
    torch.mm(nodes.mT, by_nodes[:, places:], out=vector[:, places:])
    return vector, scalars.mT @ by_scalars


def _gather(features: Features, settings: Settings, transposed: bool) -> Features:
    """Sums of members, vectors of nodes and scalars of subgraphs."""
    c2, c1, c0 = settings.widths(transposed)
    _, nodes, subgraphs = settings.rows()
    x, constant = features[0], settings.constant and not transposed
    levels, sums, totals = (4, 5, 2) if settings.rooted else (2, 2, 1)
    found = (
        x.new_empty(len(settings.pairs.subgraph), levels * c2),
        x.new_empty(nodes, (levels + 1) * c2 + c1),
        x.new_empty(subgraphs, sums * c2 + totals * c1 + c0 + constant),
    )
    results = library.Results(None, None, None, *(tensor.data_ptr() for tensor in found))
    _run("gather", features, settings, [], transposed, results)
    return found


def _weights_of(vector: Tensor, scalar: Tensor, settings: Settings) -> list[Tensor]:
    """Gradients by the weights, out of those by the matrices; A and its transpose are left out."""
    found = [vector.new_empty(shape) for _, shape in settings.shapes()]
    if not settings.constant:
        for bias in found[-sum(outputs > 0 for outputs in settings.widths(transposed=True)) :]:
            bias.zero_()
    layer = _layer((None, None, None), settings, found, transposed=False)
    library.load_layer(vector.dtype).give_weights(layer, vector.data_ptr(), scalar.data_ptr())
    return found


def _run(
    name: str,
    features: Features,
    settings: Settings,
    weights: Sequence[Tensor],
    transposed: bool,
    results: library.Results,
) -> None:
    x, structure = features[0], _structure(settings)
    problem = compiled.Problem(x=x.data_ptr(), threads=_count_threads(settings))
    layer = _layer(features, settings, weights, transposed)
    given = (problem, structure.pairs, structure.nodes, layer)
    source = library.load_layer(x.dtype)
    space = torch.empty(source.measure(*given, name == "gather"), dtype=torch.uint8)
    results.space = space.data_ptr()
    if getattr(source, name)(*given, results):
        raise MemoryError("no memory for the weights and one block of subgraphs")


def _layer(
    features: Sequence[Tensor | None],
    settings: Settings,
    weights: Sequence[Tensor],
    transposed: bool,
) -> library.Layer:
    pointers = (ctypes.c_void_p * ((ORDERS + 1) * ORDERS))()
    for (place, _), weight in zip(settings.shapes(), weights, strict=False):
        pointers[place] = weight.data_ptr()
    from_ = *settings.widths(transposed=False), int(settings.constant)
    channels = library.Channels(from_, tuple(settings.widths(transposed=True)), settings.rooted)
    rows = map(native.pointer, features[1:])
    return library.Layer(*rows, pointers, channels, settings.normalised, transposed)


class _Structure(NamedTuple):
    """Indices that fit, in C; they live as long as the tensors do, and copies are kept here."""

    pairs: compiled.Structure
    nodes: library.Nodes
    copies: tuple[Tensor | None, ...]


def _structure(settings: Settings) -> _Structure:
    """Indices in C; they are looked at once."""
    nodes = (None, None, None) if settings.nodes is None else settings.nodes
    return remember(_make_structure, [*settings.pairs, *nodes])


def _make_structure(*tensors: Tensor | None) -> _Structure:
    pairs = Pairs(*tensors[: len(Pairs._fields)])  # type: ignore[arg-type]
    x = pairs.transpose.new_empty(len(pairs.transpose), 0)
    check_pairs(x, pairs)
    nodes = tensors[len(Pairs._fields) :]
    check_nodes(x, pairs, *nodes)
    kept = tuple(None if index is None else index.contiguous() for index in tensors)
    *others, starts = kept[len(Pairs._fields) :]
    count = len(pairs.subgraph) if starts is None else len(starts) - 1
    pointers = map(native.pointer, (*others, starts))
    first = Pairs(*kept[: len(Pairs._fields)])  # type: ignore[arg-type]
    copies = tuple(mine for mine, given in zip(kept, tensors, strict=True) if mine is not given)
    return _Structure(compiled.structure_of(first), library.Nodes(*pointers, count), copies)


def _count_threads(settings: Settings) -> int:
    c2, c1, c0, s2, s1, s0 = settings.channels
    pairs, nodes, subgraphs = settings.rows()
    levels = 16 if settings.rooted else 4
    products = levels * settings.pairs.subgraph.shape[0] * c2 * s2 + pairs * c2 * s2
    products += nodes * (3 * c2 + c1) * (s2 + s1)
    products += subgraphs * (2 * c2 + c1 + c0) * (2 * s2 + s1 + s0)
    return native.count_threads(products)


def _checked(features: Sequence[Tensor], settings: Settings, transposed: bool) -> Features:
    """Features that are contiguous and fit.

    Raises:
        ValueError: they do not.
        TypeError: a tensor has another dtype than its kind may have.
    """
    x, nodes, scalars = features
    if reason := whynot(x.device, x.dtype):
        raise ValueError(f"pair_layer cannot run: {reason}; use pair_reduce and pair_linear")
    _structure(settings)
    sizes = zip(settings.rows(), settings.widths(transposed), strict=True)
    for name, tensor, size in zip(("x", "nodes", "scalars"), features, sizes, strict=True):
        _check_like(name, tensor, x, size)
    return x.contiguous(), nodes.contiguous(), scalars.contiguous()


def _checked_weights(weights: Sequence[Tensor], x: Tensor, settings: Settings) -> Sequence[Tensor]:
    """Weights that are contiguous and fit; raises as :func:`_checked`."""
    expected = [shape for _, shape in settings.shapes()]
    if len(weights) != len(expected):
        raise ValueError(f"weights: expected {len(expected)} tensors, got {len(weights)}")
    for number, (weight, shape) in enumerate(zip(weights, expected, strict=True)):
        _check_like(f"weights[{number}]", weight, x, shape)
    return [weight.contiguous() for weight in weights]


def _check_like(name: str, tensor: Tensor, x: Tensor, shape: tuple[int, ...]) -> None:
    if tensor.dtype != x.dtype:
        raise TypeError(f"{name}: expected {x.dtype}, as x, got {tensor.dtype}")
    if tensor.device != x.device:
        raise ValueError(f"{name} is on {tensor.device} and x on {x.device}; move them together")
    check_shape(name, tensor, shape)
