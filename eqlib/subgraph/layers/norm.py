"""Norms of features: over the batch, or over each graph; diagonal pairs apart from the others."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from eqlib.geometry import gather_nodes, segment_mean
from eqlib.kernels.operation import is_transforming
from eqlib.kernels.tracing import is_traced
from eqlib.subgraph._arguments import check_channels, check_features, check_rows
from eqlib.subgraph.features import Features, features_of
from eqlib.subgraph.levels import graph_of_rows, off_diagonal
from eqlib.subgraph.plans.plan import SubgraphPlan
from eqlib.subgraph.representations import feature_signature
from eqlib.symmetry import Signature


class _FeatureNorm(nn.Module, ABC):
    """A norm of each order, whose rows are of one kind or, for pairs, of two.

    Args:
        channels: number of channels of each order.
        norm: makes the norm of an order from the numbers of kinds and of channels.
    """

    def __init__(self, channels: Mapping[int, int], norm: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        check_channels("channels", channels)
        self.channels = dict(sorted(channels.items(), reverse=True))
        self.norms = nn.ModuleDict()
        for order, count in self.channels.items():
            self.norms[str(order)] = norm(2 if order == 2 else 1, count)

    @property
    def signature(self) -> Signature:
        """Permutations of the nodes: of rows of the graph, or where ``local`` of the subgraphs."""
        return feature_signature(self.channels, self.channels, "local", "local")

    def forward(
        self,
        pairs: Float[Tensor, "pairs channels_2"] | None = None,
        nodes: Float[Tensor, "nodes channels_1"] | None = None,
        scalars: Float[Tensor, "scalars channels_0"] | None = None,
        *,
        plan: SubgraphPlan,
        local: bool = False,
    ) -> Features:
        """The normalised features.

        Args:
            pairs: order 2.
            nodes: order 1.
            scalars: order 0.
            plan: the subgraphs.
            local: whether rows are those of the subgraphs; otherwise they are those of the graph.

        Raises:
            ValueError: features do not fit the layer or the plan.
            TypeError: a dtype is not that of the layer, save under autocast.
        """
        like = next(self.parameters())
        found = check_features(Features(pairs, nodes, scalars), self.channels, like)
        check_rows(found, plan, local)
        return features_of({q: self._normalised(q, x, plan, local) for q, x in found.items()})

    def reset_parameters(self) -> None:
        """Set all parameters and running statistics to what they start with."""
        for norm in self.norms.values():
            norm.reset_parameters()  # type: ignore[operator]

    def extra_repr(self) -> str:
        """Channels."""
        return f"{self.channels}"

    @abstractmethod
    def _normalised(self, order: int, rows: Tensor, plan: SubgraphPlan, local: bool) -> Tensor:
        """The rows of an order after its norm."""


class FeatureBatchNorm(_FeatureNorm):
    r"""Batch norm of each order, with statistics of their own for diagonal and other pairs.

    .. math:: y = \gamma_k\, \frac{x - \mu_k}{\sqrt{\sigma_k^2 + \epsilon}} + \beta_k

    with mean and variance over all rows of the kind k in the batch, as in
    ``torch.nn.BatchNorm1d``.

    Args:
        channels: number of channels of each order.
        eps: added to the variances.
        momentum: share of the batch in the running statistics, which are used in evaluation.

    Raises:
        ValueError: an argument has another value.
        TypeError: an argument has another type.

    Note:
        In training, a kind with fewer than two rows in the batch is normalised by the running
        statistics and leaves these as they are.
    """

    def __init__(
        self, channels: Mapping[int, int], eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        super().__init__(channels, partial(_BatchNorm, eps=eps, momentum=momentum))

    def _normalised(self, order: int, rows: Tensor, plan: SubgraphPlan, local: bool) -> Tensor:
        normalised: Tensor = self.norms[str(order)](rows, _kind_of_rows(plan, order, local))
        return normalised


class FeatureGraphNorm(_FeatureNorm):
    r"""Norm over each graph and order, diagonal pairs apart from the others.

    .. math:: y = \gamma_k\, \frac{x - \alpha_k \mu_{gk}}{\sqrt{\sigma_{gk}^2 + \epsilon}}
        + \beta_k, \qquad \sigma_{gk}^2 = \mathrm{mean}\,(x - \alpha_k \mu_{gk})^2

    with means over the rows of the kind k in the graph g, and learnt :math:`\alpha, \beta, \gamma`.

    Args:
        channels: number of channels of each order.
        eps: added to the variances.

    Raises:
        ValueError: an argument has another value.
        TypeError: an argument has another type.

    Note:
        A row that is alone in its graph, such as the pair of a single node, starts at 0, as
        :math:`\alpha` starts at 1. Scalars pass unchanged where subgraphs have no centers, as those
        of whole graphs are all alone.

    Source:
        Cai et al., GraphNorm: A Principled Approach to Accelerating Graph Neural Network Training,
        ICML 2021; here for pairs and scalars too.
    """

    def __init__(self, channels: Mapping[int, int], eps: float = 1e-5) -> None:
        super().__init__(channels, partial(_GraphNorm, eps=eps))

    def _normalised(self, order: int, rows: Tensor, plan: SubgraphPlan, local: bool) -> Tensor:
        if order == 0 and not plan.has_centers:
            return rows
        graph, kind = graph_of_rows(plan, order, local), _kind_of_rows(plan, order, local)
        normalised: Tensor = self.norms[str(order)](rows, kind, graph, plan.num_graphs)
        return normalised


class _BatchNorm(nn.Module):
    """Batch norm of rows of several kinds."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, kinds: int, channels: int, eps: float, momentum: float) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.empty(kinds, channels))
        self.bias = nn.Parameter(torch.empty(kinds, channels))
        self.register_buffer("running_mean", torch.empty(kinds, channels))
        self.register_buffer("running_var", torch.empty(kinds, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for zeros, ones in (self.bias, self.weight), (self.running_mean, self.running_var):
            nn.init.zeros_(zeros)
            nn.init.ones_(ones)

    def forward(self, rows: Tensor, kind: Tensor) -> Tensor:
        if len(self.weight) == 1:
            return self._normalise(rows, 0)
        if is_traced(rows, kind):  # how many rows are of a kind is not known then
            return self._without_splitting(rows, kind)
        found = [(kind == which).nonzero().flatten() for which in range(len(self.weight))]
        order = torch.cat(found)
        inverse = torch.empty_like(order).scatter_(
            0, order, torch.arange(len(order), device=order.device)
        )
        parts = _reordered(rows, order, inverse).split([len(index) for index in found])
        parts = [self._normalise(part, which) for which, part in enumerate(parts)]
        return _reordered(torch.cat(parts), inverse, order)

    def _normalise(self, rows: Tensor, kind: int) -> Tensor:
        # A plain bool: in torch.compile the comparison is a symbol, which batch_norm does not take.
        several = True if rows.shape[0] > 1 else False  # noqa: SIM210
        return batch_norm(
            rows,
            self.running_mean[kind],
            self.running_var[kind],
            self.weight[kind],
            self.bias[kind],
            self.training and several,
            self.momentum,
            self.eps,
        )

    def _without_splitting(self, rows: Tensor, kind: Tensor) -> Tensor:
        """The same by sums that weigh the rows of other kinds with zero."""
        x = rows.to(torch.promote_types(rows.dtype, torch.float32))
        mean, variance = self.running_mean.to(x.dtype), self.running_var.to(x.dtype)
        if self.training:
            mean, variance = self._of_batch(x, kind, mean, variance)
        centred = x - gather_nodes(mean, kind)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * gather_nodes(scale, kind) + gather_nodes(self.bias, kind)).to(rows.dtype)

    def _of_batch(
        self, x: Tensor, kind: Tensor, mean: Tensor, variance: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Statistics of the batch, for kinds of which it has two rows; updates the running ones."""
        belongs = (kind[:, None] == torch.arange(len(mean), device=kind.device)).to(x.dtype)
        counts = belongs.sum(0)[:, None]
        shares = belongs / counts.mT.clamp(min=1)
        found = _weighted_sums(x, shares)
        spread = _weighted_sums((x - gather_nodes(found, kind)).square(), shares)
        enough = counts >= 2
        with torch.no_grad():
            unbiased = spread * counts / (counts - 1).clamp(min=1)
            step = self.momentum * enough.to(x.dtype)
            self.running_mean += (step * (found - mean)).to(self.running_mean.dtype)
            self.running_var += (step * (unbiased - variance)).to(self.running_var.dtype)
        return torch.where(enough, found, mean), torch.where(enough, spread, variance)


class _GraphNorm(nn.Module):
    """Graph norm of rows of several kinds."""

    def __init__(self, kinds: int, channels: int, eps: float) -> None:
        super().__init__()
        self.eps, self.kinds = eps, kinds
        self.weight = nn.Parameter(torch.empty(kinds, channels))
        self.bias = nn.Parameter(torch.empty(kinds, channels))
        self.mean_scale = nn.Parameter(torch.empty(kinds, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.bias)
        nn.init.ones_(self.weight)
        nn.init.ones_(self.mean_scale)

    def forward(self, rows: Tensor, kind: Tensor, graph: Tensor, num_graphs: int) -> Tensor:
        x = rows.to(torch.promote_types(rows.dtype, torch.float32))
        group, groups = graph * self.kinds + kind, num_graphs * self.kinds
        mean = segment_mean(x, group, groups) * self.mean_scale.repeat(num_graphs, 1)
        centred = x - gather_nodes(mean, group)
        variance = segment_mean(centred.square(), group, groups)
        scale = self.weight.repeat(num_graphs, 1) * (variance + self.eps).rsqrt()
        return (centred * gather_nodes(scale, group) + gather_nodes(self.bias, kind)).to(rows.dtype)


@no_type_check  # a type checker at run time would wrap what torch.compile has to trace
class _Reordered(torch.autograd.Function):
    """Rows in another order; the gradient is a selection too, which costs less than sums."""

    generate_vmap_rule = True

    @staticmethod
    def forward(rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        return rows.index_select(0, order)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        order, inverse = ctx.saved_tensors
        return _Reordered.apply(grads[0], inverse, order), None, None


def _reordered(rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    if is_transforming():
        return rows.index_select(0, order)
    return _Reordered.apply(rows, order, inverse)


def _weighted_sums(x: Tensor, shares: Tensor) -> Tensor:
    return torch.stack([(x * share[:, None]).sum(0) for share in shares.unbind(1)])


def _kind_of_rows(plan: SubgraphPlan, order: int, local: bool) -> Tensor:
    """Kind of each row: 1 for pairs of two nodes, 0 for all others."""
    if order == 2:
        return off_diagonal(plan, local).long()
    return torch.zeros_like(graph_of_rows(plan, order, local))
