"""How much the answers of a backbone differ between frames."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eqlib.frames.average import FrameAverage
from eqlib.frames.dispatch import frame_function
from eqlib.frames.sampling import Draws
from eqlib.frames.types import Frames
from eqlib.symmetry.arguments import results_by_name
from eqlib.symmetry.group import Group


def frame_variance(layer: FrameAverage, *args: Any, **inputs: Any) -> dict[str, Tensor]:
    r"""Variance of each output over all frames of its cloud.

    .. math::
        \operatorname{Var}_F(x) = \frac{1}{|F|} \sum_{g \in F(x)} \Bigl(\rho_{out}(g)\,
        \Phi\bigl(\rho_{in}(g)^{-1} x\bigr) - \langle\Phi\rangle(x)\Bigr)^2

    It is zero for a backbone that is equivariant by itself, or has learned to be on these inputs.
    The mean square error of k of the frames, drawn without replacement as in the mode "stochastic",
    is :math:`\operatorname{Var}_F\,(|F| - k) / (k\,(|F| - 1))`.

    Args:
        layer: whose frames of evaluation are as many for each cloud, as those of "full" are.
        args: as in :meth:`FrameAverage.forward`.
        inputs: as in :meth:`FrameAverage.forward`.

    Returns:
        Variances by name (a single output is "output"), of the shape of the outputs, each in the
        square of its unit.

    Raises:
        ValueError: the frames differ in number or weight from cloud to cloud.
    """
    all_frames = _Single(layer)
    values: dict[str, list[Tensor]] = {name: [] for name in layer.signature.named_outputs}
    while all_frames.chosen < all_frames.count:
        single = FrameAverage(
            layer.backbone,
            mode=all_frames,
            signature=layer.signature,
            cloud=layer.cloud,
            levels=layer.levels,
        )
        for name, value in results_by_name(single(*args, **inputs), layer.signature).items():
            if isinstance(value, Tensor):
                values[name].append(value)
        all_frames.chosen += 1
    return {name: torch.stack(copies).var(0, correction=0) for name, copies in values.items()}


class _Single:
    """One of the frames of each cloud; ``count`` is their number once they were made."""

    def __init__(self, layer: FrameAverage) -> None:
        group, mode = layer.signature.group, layer.eval_mode
        if mode == "stochastic":
            raise ValueError(
                "layer: eval_mode is 'stochastic'; choose 'full', which has all frames"
            )
        self.make = frame_function(group, mode, layer.detach, layer.frame_options, Draws(1))
        self.mode, self.chosen, self.count = mode, 0, 1

    def __call__(
        self,
        points: Float[Tensor, "*clouds d"],
        group: Group,
        mask: Bool[Tensor, "*clouds"] | None = None,
        batch: Int[Tensor, "nodes"] | None = None,
        num_graphs: int | None = None,
    ) -> Frames:
        found = self.make(points, mask=mask, batch=batch, num_graphs=num_graphs)
        if not isinstance(found, Frames) or found.weights is not None:
            raise ValueError(
                f"layer: the frames of mode {self.mode!r} differ in number or weight from cloud to "
                "cloud; choose 'full'"
            )
        self.count = found.frames.shape[-3]
        one = slice(self.chosen, self.chosen + 1)
        inverse = None if found.inverse is None else found.inverse[..., one, :, :]
        return found._replace(frames=found.frames[..., one, :, :], inverse=inverse, signs=None)
