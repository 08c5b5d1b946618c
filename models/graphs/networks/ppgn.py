"""Provably powerful graph network: matrix products of second-order features."""

from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from eqlib.geometry import gather_nodes, segment_max, segment_sum
from eqlib.models.graphs.networks.base import (
    GraphNetwork,
    RaggedGraphs,
    require_choice,
    require_positive,
)
from eqlib.models.graphs.networks.recompute import recomputed
from eqlib.models.graphs.networks.squares import Squares, multiply, squares

Pool = Literal["sum", "mean", "max"]


class PPGN(GraphNetwork):
    r"""Matrix products of pair features: as strong as 3-WL (2-FWL), and no stronger.

    .. math:: X \leftarrow \mathrm{BN}\bigl(X W + (m_1(X) \cdot m_2(X))\,V + b\bigr)

    with perceptrons :math:`m_1, m_2` on each pair and one matrix product for every channel. The
    diagonal and the rest of every block are pooled, mapped to the outputs, and summed.

    Features lie in rows, one for each pair of nodes of a graph, so that no layer sees padding and a
    large graph costs the others nothing. Memory is linear in :math:`\sum n^2`, time has a part that
    is linear in :math:`\sum n^3`.

    Args:
        width: channels of the pair features.
        layers: number of blocks.
        node_types: number of node types.
        outputs: numbers per graph, one for each class of a classification.
        pool: how the pairs of a graph become one row, the diagonal apart from the others: sum,
            mean or max. Only sums keep counts.
        normalised: whether the adjacency matrix is divided by the square roots of the degrees.
        norm: whether each block ends with batch normalisation over all pairs.
        dropout: share of the pooled features that training sets to zero.
        recompute: whether the backward pass computes the insides of a block anew instead of keeping
            them.

    Raises:
        UsageError: ``pool`` is none of the above, or a size is not positive.

    Source:
        Maron et al., Provably Powerful Graph Networks, NeurIPS 2019, with the suffix that reads out
        all blocks. Its classification networks have width 400, pool="max", normalised=True and
        norm=False, and see types as one-hot rows; here they are embedded first.
    """

    def __init__(
        self,
        width: int = 64,
        layers: int = 3,
        node_types: int = 2,
        outputs: int = 2,
        pool: Pool = "sum",
        normalised: bool = False,
        norm: bool = True,
        dropout: float = 0.0,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        require_choice("pool", pool, ("sum", "mean", "max"))
        require_positive(width=width, layers=layers, node_types=node_types, outputs=outputs)
        self.node_types = node_types
        self.pool, self.normalised, self.recompute = pool, normalised, recompute
        self.embed = nn.Embedding(node_types, width)
        self.edge = nn.Parameter(torch.randn(width))
        self.blocks = nn.ModuleList(_Block(width, norm) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.decode = nn.ModuleList(nn.Linear(2 * width, outputs) for _ in range(layers))

    def predict(
        self, graphs: RaggedGraphs, classes: Int[Tensor, "nodes"] | None
    ) -> Float[Tensor, "graphs outputs"]:
        """Return the outputs of each graph."""
        pairs = squares(graphs)
        features = self.features(graphs, pairs)
        outputs = []
        for block, decode in zip(self.blocks, self.decode, strict=True):
            run = partial(recomputed, block) if self.recompute else block
            features = run(features, pairs.sizes)
            outputs.append(decode(self.dropout(_pooled(features, pairs, self.pool))))
        return torch.stack(outputs).sum(0)

    def features(self, graphs: RaggedGraphs, pairs: Squares) -> Float[Tensor, "pairs channels"]:
        """Return what the first block sees of each pair: edges, and types on the diagonal."""
        adjacency = self.edge.new_zeros(len(pairs.graph))
        adjacency[pairs.edges] = 1
        if self.normalised:
            adjacency[pairs.edges] = _normalisation(graphs, pairs).to(adjacency.dtype)
        features = adjacency[:, None] * self.edge
        return features.index_add(0, pairs.diagonal, self.embed(graphs.x))


class _Block(nn.Module):
    """One product of two perceptrons of the features, mixed with the features themselves."""

    def __init__(self, width: int, norm: bool) -> None:
        super().__init__()
        self.left, self.right = _perceptron(width), _perceptron(width)
        self.keep = nn.Linear(width, width, bias=not norm)
        self.mix = nn.Linear(width, width, bias=False)
        self.norm = nn.BatchNorm1d(width) if norm else nn.Identity()
        # drawn as one layer on both, side by side
        bound = (6 / (3 * width)) ** 0.5
        for layer in (self.keep, self.mix):
            nn.init.uniform_(layer.weight, -bound, bound)
        if self.keep.bias is not None:
            nn.init.zeros_(self.keep.bias)

    def forward(self, features: Tensor, sizes: list[int]) -> Tensor:
        product = multiply(self.left(features), self.right(features), sizes)
        return self.norm(self.keep(features) + self.mix(product))


def _perceptron(width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(2):
        linear = nn.Linear(width, width)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers)


def _pooled(features: Tensor, pairs: Squares, pool: Pool) -> Tensor:
    """Pool the diagonal of each graph, and beside it all other pairs."""
    part = 2 * pairs.graph
    part = part.index_add(0, pairs.diagonal, torch.ones_like(pairs.diagonal))
    parts = 2 * len(pairs.sizes)
    if pool == "max":
        return segment_max(features, part, parts).unflatten(0, (-1, 2)).flatten(1)
    total = segment_sum(features, part, parts)
    if pool == "mean":
        total = total / torch.bincount(part, minlength=parts).clamp(min=1)[:, None]
    return total.unflatten(0, (-1, 2)).flatten(1)


def _normalisation(graphs: RaggedGraphs, pairs: Squares) -> Tensor:
    """Return one over the root of the product of the degrees at both ends of each edge."""
    copies = torch.bincount(pairs.edges, minlength=len(pairs.graph))[pairs.edges]
    once = 1 / copies.double()  # edges that are given several times count once
    scale = torch.ones_like(once)
    for end in graphs.edge_index:
        scale = scale * gather_nodes(segment_sum(once, end, len(graphs.x)), end).rsqrt()
    return scale
