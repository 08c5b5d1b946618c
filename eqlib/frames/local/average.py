"""Networks on patches, averaged over the local frames of each point."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from eqlib.frames.average import FrameAverage
from eqlib.frames.dispatch import FrameFunction
from eqlib.frames.local.patches import (
    Neighbours,
    Origin,
    check_origin,
    check_size,
    find_patches,
    gather_patches,
    relative_points,
    without_padding,
)
from eqlib.frames.signatures import in_form_of, inputs_by_name, relative_signature, signature_of
from eqlib.frames.types import Frames, RaggedFrames
from eqlib.symmetry import BatchIndex, Point, Signature, Vector
from eqlib.symmetry.arguments import results_by_name
from eqlib.symmetry.group import Group
from eqlib.symmetry.representations import spread

_STRUCTURE = ("neighbours", "mask", "batch", "num_graphs")


class LocalFrameAverage(nn.Module):
    r"""Average of a network on patches over the local frames of each point.

    .. math::
        \Phi_i(x) = \frac{1}{|F_i|} \sum_{g \in F_i}
        \rho_{out}(g)\, \phi\bigl(\rho_{in}(g)^{-1} x_{N(i)}\bigr)

    Each point collects its patch, the network maps the patch, in each frame of the point, to the
    outputs of this point, and these are brought back and averaged. The network runs once: it gets
    positions relative to the origin of the frame, (frames * points, k, d), other inputs collected
    in the same way, (frames * points, k, ...), and returns (frames * points, ...). In clouds of
    fewer than k points the missing slots hold the origin of the frame, and the other inputs of the
    point itself.

    Args:
        backbone: module or function that takes the inputs by name (a sole input of the signature
            by position), and returns a tensor, or a dict or a NamedTuple of tensors.
        group: such as ``"SE(3)"``; by default that of ``signature``, else SE(3). Translations are
            always among what the outputs follow.
        k: number of points of a patch, the point itself counted.
        signature: representation of every tensor per point, in and out; by default one input
            ``points`` and one vector per point. The first :class:`~eqlib.symmetry.Point` is what
            patches and frames are taken of.
        origin: "point" or "centroid", that of the patch.
        mode: of training, as in :class:`FrameAverage`.
        eval_mode: of evaluation, as in :class:`FrameAverage`.
        chunk: as in :class:`FrameAverage`, where a patch is a cloud.
        detach: treat frames as constants in the backward pass. Gradients with respect to the
            inputs, such as forces, are then **wrong**.
        samples: number of frames drawn for each point in the mode "stochastic".
        generator: source of these draws.
        frame_options: further arguments of the functions that make the frames.

    Raises:
        ValueError: the arguments contradict each other, or name what does not exist.

    Note:
        Exact where the frames are; see :func:`local_frames`. Features that are invariant in each
        patch see the shape of each patch but not how patches lie to one another.

    Source:
        Puny et al., Frame Averaging for Invariant and Equivariant Network Design, ICLR 2022.
    """

    def __init__(
        self,
        backbone: Callable[..., Any],
        group: str | Group | None = None,
        k: int = 20,
        signature: Signature | None = None,
        origin: Origin = "point",
        mode: str | FrameFunction = "full",
        eval_mode: str | FrameFunction | None = None,
        chunk: int | None = None,
        detach: bool = False,
        samples: int = 1,
        generator: torch.Generator | None = None,
        frame_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        signature = signature_of(group, signature, Vector())
        check_size(k)
        check_origin(origin)
        self.signature, self.k, self.origin = signature, k, origin
        seen = [
            name
            for name, kind in signature.inputs.items()
            if name not in _STRUCTURE and not kind.contains(BatchIndex)
        ]
        self.average = FrameAverage(
            backbone,
            None,
            mode,
            eval_mode,
            relative_signature(signature, seen),
            chunk=chunk,
            detach=detach,
            samples=samples,
            generator=generator,
            frame_options=frame_options,
        )
        self.cloud = str(self.average.cloud)

    @property
    def backbone(self) -> Callable[..., Any]:
        """What runs on the patches."""
        return self.average.backbone

    def frames(
        self,
        points: Float[Tensor, "*clouds d"],
        mask: Bool[Tensor, "*clouds"] | None = None,
        batch: Int[Tensor, "nodes"] | None = None,
        num_graphs: int | None = None,
        neighbours: Neighbours | None = None,
    ) -> Frames | RaggedFrames:
        """The frames of each point, with their gap.

        Args:
            points: as in :func:`local_frames`.
            mask: as in :func:`local_frames`.
            batch: as in :func:`local_frames`.
            num_graphs: as in :func:`local_frames`.
            neighbours: as in :func:`local_frames`.

        Returns:
            Those of training or of evaluation, whichever the module is in.
        """
        patches = find_patches(points, self.k, neighbours, mask, batch, num_graphs)
        relative, origins = relative_points(points, patches, self.origin, mask)
        dtype = torch.promote_types(points.dtype, torch.float32)
        return self.average.frames(relative.to(dtype))._replace(centroid=origins.to(dtype))

    def forward(self, *args: Any, **inputs: Any) -> Any:
        """The outputs at each point.

        Args:
            args: inputs in the order of the signature.
            inputs: inputs by name, and the structure of the batch: ``mask`` of a dense batch,
                ``batch`` and ``num_graphs`` of a ragged one, and ``neighbours`` as for
                :func:`local_frames`.

        Returns:
            What the backbone returns, averaged, with one row per point: a tensor, or a dict or a
            NamedTuple of tensors. Points that the mask excludes get zero.

        Raises:
            ValueError: a shape does not fit, or an input is unknown or missing.
            TypeError: an argument has the wrong type.
        """
        named = inputs_by_name(args, inputs, self.signature, self.average.signature.inputs)
        structure = {name: named.pop(name, None) for name in _STRUCTURE}
        points, mask = named[self.cloud], structure["mask"]
        patches = find_patches(points, self.k, **structure)
        relative, origins = relative_points(points, patches, self.origin, mask)
        collected = {self.cloud: relative.to(points.dtype)}
        for name, kind in self.average.signature.inputs.items():
            if name != self.cloud:
                values = gather_patches(without_padding(named.pop(name), mask), patches)
                if isinstance(kind, Point):
                    values = (values - spread(origins, values, own_axes=1)).to(values.dtype)
                collected[name] = values
        named.pop(self.cloud)
        return self._finish(self.average(**collected, **named), origins, mask)

    def extra_repr(self) -> str:
        """Group and options."""
        return f"group={self.signature.group!r}, k={self.k}, origin={self.origin!r}"

    def _finish(self, result: Any, origins: Tensor, mask: Tensor | None) -> Any:
        """Move points to the origins, and clear the rows that the mask excludes."""
        signature = self.average.signature
        outputs: dict[str, Any] = dict(results_by_name(result, signature))
        for name, kind in signature.named_outputs.items():
            if isinstance(kind, Point):
                outputs[name] = outputs[name] + spread(origins, outputs[name], own_axes=1)
            outputs[name] = without_padding(outputs[name], mask)
        return in_form_of(result, outputs, signature)
