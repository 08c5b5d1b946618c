"""Frames from the points themselves: one for each point about an axis, or for each pair."""

from dataclasses import dataclass
from typing import Any, no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor

from eqlib.frames.constructions.draws import draw_members
from eqlib.frames.constructions.listing import NEGLIGIBLE, Clouds, Listing
from eqlib.frames.spans import list_spans
from eqlib.geometry import segment_sum
from eqlib.kernels.operation import is_transforming


@dataclass(frozen=True)
class Directions:
    """Frames from the directions of the points of a batch of clouds.

    Args:
        clouds: all clouds of the batch.
        guard: length, relative to the radius of the cloud, below which the derivative of a
            direction is damped.
        samples: number of points or pairs that are drawn of a cloud which has more; None takes all.
        generator: source of the draws.
    """

    clouds: Clouds
    guard: float
    samples: int | None = None
    generator: torch.Generator | None = None

    def of_points(
        self,
        mass: Float[Tensor, "clouds"],
        signs: Float[Tensor, "signs d"],
        axis: Float[Tensor, "clouds d"] | None = None,
    ) -> Listing:
        r"""One frame for each point, weighted by :math:`|p_i|^2 / \sum_j |p_j|^2`, with all signs.

        The first column is the ``axis``, if there is one, the next the direction of the part
        :math:`p_i` of the point that is normal to it.
        """
        chosen = _present(mass)
        count = self.clouds.sizes[chosen]
        owner, node = list_spans(self.clouds.first[chosen], count)
        normal = self.clouds.points[node]
        if axis is not None:
            # Twice is enough, even where the first result is but rounding errors.
            normal = _reject(_reject(normal, axis[chosen[owner]]), axis[chosen[owner]])
        square = normal.square().sum(-1)
        share = square / segment_sum(square, owner, len(chosen))[owner]
        kept, rarity = self._select(share.detach(), owner, chosen)
        cloud, direction = chosen[owner[kept]], _unit(normal[kept], self.guard)
        columns = [direction] if axis is None else [axis[cloud], direction]
        return _with_signs(columns, cloud, mass[cloud] * share[kept] * rarity, signs)

    def of_pairs(self, mass: Float[Tensor, "clouds"], signs: Float[Tensor, "signs d"]) -> Listing:
        r"""One frame for each ordered pair of points, with all signs.

        The first column is the direction of :math:`x_i`, the second that of the part of :math:`x_j`
        normal to it. The weight is :math:`|x_i \times x_j|^2 / \sum_{kl} |x_k \times x_l|^2`.
        """
        chosen = _present(mass)
        if self.samples is None:
            first, second = self._list_pairs(chosen)
        else:
            pairs = self.clouds.sizes[chosen] * (self.clouds.sizes[chosen] - 1)
            all_of = self._list_pairs(chosen[pairs <= self.samples])
            some_of = self._draw_pairs(chosen[pairs > self.samples], self.samples)
            first, second = (torch.cat(ends) for ends in zip(all_of, some_of, strict=True))
        cloud, share = self.clouds.graph[first], self._pair_shares(first, second)
        weights = mass[cloud] * share
        if self.samples is not None:
            drawn = torch.arange(len(first), device=first.device) >= len(all_of[0])
            weights = torch.where(drawn, weights / (self.samples * share.detach()), weights)
        start = _unit(self.clouds.points[first], self.guard)
        normal = _reject(_reject(self.clouds.points[second], start), start)
        return _with_signs([start, _unit(normal, self.guard)], cloud, weights, signs)

    def _select(self, share: Tensor, owner: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Points to list, and the factor that keeps the sum of their weights in the mean."""
        present = share > NEGLIGIBLE
        if self.samples is None:
            kept = present.nonzero().flatten()
            return kept, torch.ones_like(share[kept])
        many = self.clouds.sizes[chosen] > self.samples
        crowd, uniform = many[owner].nonzero().flatten(), self._uniform(self.samples)[chosen[many]]
        drawn = crowd[draw_members(share[crowd], self.clouds.sizes[chosen[many]], uniform)]
        kept = (present & ~many[owner]).nonzero().flatten()
        rarity = torch.cat([torch.ones_like(share[kept]), 1 / (self.samples * share[drawn])])
        return torch.cat([kept, drawn]), rarity

    def _uniform(self, samples: int) -> Float[Tensor, "clouds samples"]:
        """Random numbers for all clouds, lest the draws of one depend on which others draw."""
        shape = len(self.clouds.sizes), samples
        return self.clouds.points.new_empty(shape).uniform_(generator=self.generator)

    def _pair_shares(self, first: Tensor, second: Tensor) -> Tensor:
        points, cloud = self.clouds.points, self.clouds.graph[first]
        square = torch.linalg.cross(points[first], points[second]).square().sum(-1)
        # The sum over all pairs, for points whose squares sum to their number.
        alike = self.clouds.variances.square().sum(-1)
        return square / (self.clouds.sizes.square() * (1 - alike))[cloud]

    def _list_pairs(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """All ordered pairs with a weight."""
        first, count = self.clouds.first[chosen], self.clouds.sizes[chosen]
        owner, node = list_spans(first, count)
        row, second = list_spans(first[owner], count[owner])
        with torch.no_grad():  # lest the shares of all pairs be kept for the backward pass
            kept = self._pair_shares(node[row], second) > NEGLIGIBLE
        return node[row][kept], second[kept]

    def _draw_pairs(self, chosen: Tensor, samples: int) -> tuple[Tensor, Tensor]:
        """Ordered pairs with probabilities in proportion to their weights."""
        clouds, places = self.clouds, self.clouds.points.detach()
        first_uniform, second_uniform = self._uniform(samples), self._uniform(samples)
        count = clouds.sizes[chosen]
        owner, node = list_spans(clouds.first[chosen], count)
        points, cloud = places[node], chosen[owner]
        # The sum over the partners of a point, without listing them.
        along = (points[:, :, None] * clouds.axes.detach()[cloud]).sum(-2)
        alike = (along.square() * clouds.variances.detach()[cloud].flip(-1)).sum(-1)
        weights = (points.square().sum(-1) - alike).clamp(min=0)
        first = node[draw_members(weights, count, first_uniform[chosen])]
        cloud = clouds.graph[first]
        row, partner = list_spans(clouds.first[cloud], clouds.sizes[cloud])
        weights = torch.linalg.cross(places[first[row]], places[partner]).square().sum(-1)
        uniform = second_uniform[chosen].reshape(-1, 1)
        return first, partner[draw_members(weights, clouds.sizes[cloud], uniform)]


def _present(mass: Tensor) -> Int[Tensor, "chosen"]:
    return (mass.detach() > NEGLIGIBLE).nonzero().flatten()


def _with_signs(
    columns: list[Tensor], cloud: Tensor, weights: Tensor, signs: Float[Tensor, "signs d"]
) -> Listing:
    """Right-handed frames that begin with these columns, copied with all signs."""
    if len(columns) == 1:
        (first,) = columns
        last = torch.stack([-first[:, 1], first[:, 0]], dim=-1)
    else:
        first, second = columns
        second = _reject(second, first)
        columns = [first, second / torch.linalg.vector_norm(second, dim=-1, keepdim=True)]
        last = torch.linalg.cross(*columns)
    frames = torch.stack([*columns, last], dim=-1)[:, None] * signs[:, None]
    return Listing(
        frames.flatten(0, 1),
        cloud.repeat_interleave(len(signs)),
        weights.repeat_interleave(len(signs)) / len(signs),
    )


def _reject(vectors: Tensor, axis: Tensor) -> Tensor:
    """The part of vectors that is normal to a unit vector."""
    return vectors - (vectors * axis).sum(-1, keepdim=True) * axis


def _unit(vectors: Float[Tensor, "rows d"], guard: float) -> Float[Tensor, "rows d"]:
    """Unit vectors in the directions of vectors that are not zero."""
    function = _UnitForward if is_transforming() else _Unit
    direction: Tensor = function.apply(vectors, guard)
    return direction


@no_type_check  # a type checker at run time would wrap what torch.compile has to trace
class _Unit(torch.autograd.Function):
    """Normalised vectors, whose derivative is damped where their length is below ``guard``.

    The directions of a cloud that is all but collinear turn by one over the distance of the points
    from the line; what they multiply cancels that, but for rounding errors.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(vectors: Tensor, guard: float) -> Tensor:
        return vectors / torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)
        ctx.guard = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        vectors, unit = ctx.saved_tensors
        return _turned(grads[0], vectors, unit, ctx.guard), None


class _UnitForward(_Unit):
    """The same in forward mode, which Dynamo does not trace."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _Unit.setup_context(ctx, inputs, output)
        ctx.save_for_forward(inputs[0], output)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        vectors, unit = ctx.saved_tensors
        return _turned(tangent, vectors, unit, ctx.guard)


def _turned(moved: Tensor, vectors: Tensor, unit: Tensor, guard: float) -> Tensor:
    """Apply the damped derivative, a symmetric matrix for each vector."""
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    inverse = length / (length.square() + guard**2)
    return (moved - unit * (unit * moved).sum(-1, keepdim=True)) * inverse
