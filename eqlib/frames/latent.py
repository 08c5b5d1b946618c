"""Frames of the latent vectors in the layers of a network."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from eqlib.frames.dispatch import FrameFunction, frame_function, options_of
from eqlib.frames.sampling import Draws, number_of
from eqlib.frames.types import Frames
from eqlib.geometry import gather_nodes
from eqlib.symmetry import as_group
from eqlib.symmetry.group import Group, moving_factor


class LatentFrames(nn.Module):
    r"""Frames that a network computes anew, from latent vectors, between its layers.

    A layer without symmetry maps features (rows, frames, channels), with one copy per frame.
    Between two layers the channels are read as vectors in their frame, :math:`v_k` for frame
    :math:`F_k`. These are brought back and averaged, :math:`v = \frac1{|F|} \sum_k F_k v_k`; the
    vectors of all nodes of a cloud are a point cloud of its own, with frames :math:`F'`, and the
    features of the next layer are the :math:`F_k'^{-1} v`. All of a network so built is
    equivariant, and each layer may turn to what the last one has found.

    Args:
        group: such as ``"O(3)"``. Translations only decide whether frames are those about the mean
            of the vectors, as for ``"E(3)"``, or about zero: latent vectors are not moved.
        mode: of training: "full", "stochastic", or a function that makes as many frames for each
            cloud; see :class:`FrameAverage`.
        eval_mode: of evaluation; by default ``mode``, but "full" for "stochastic".
        samples: number of frames drawn for each cloud in the mode "stochastic".
        generator: source of these draws; by default that of the device, as for dropout.
        detach: treat frames as constants in the backward pass. Latent frames depend on parameters,
            so that their gradients too are then **biased**.

    Raises:
        ValueError: the group has no such frames.

    Source:
        Puny et al., Frame Averaging for Invariant and Equivariant Network Design, ICLR 2022.
    """

    def __init__(
        self,
        group: str | Group = "O(3)",
        mode: str | FrameFunction = "full",
        eval_mode: str | FrameFunction | None = None,
        samples: int = 1,
        generator: torch.Generator | None = None,
        detach: bool = False,
    ) -> None:
        super().__init__()
        self.group = moving_factor(as_group(group))
        self.mode = mode
        self.eval_mode = eval_mode or ("full" if mode == "stochastic" else mode)
        self.samples, self.generator, self.detach = samples, generator, detach
        if samples < 1:
            raise ValueError(f"samples: expected at least one frame per cloud, got {samples}")
        for name in (self.mode, self.eval_mode):
            options_of(self.group, name)  # refuses a mode that the group does not have
        self._make_functions()

    def frames(
        self,
        vectors: Float[Tensor, "*rows vectors d"],
        mask: Bool[Tensor, "*rows"] | None = None,
        batch: Int[Tensor, "nodes"] | None = None,
        num_graphs: int | None = None,
    ) -> Frames:
        """Frames of the vectors of each cloud, repeated for each of its nodes.

        Args:
            vectors: one or more at each node: (*batch, nodes, vectors, d), or (nodes, vectors, d)
                with ``batch``.
            mask: True for the nodes of a dense batch that exist.
            batch: graph of each node of a ragged batch, sorted.
            num_graphs: number of graphs of a ragged batch.

        Returns:
            Frames whose batch axes are those of the nodes.

        Raises:
            ValueError: the shapes do not fit.
            TypeError: the mode gives each cloud a number of frames of its own.
        """
        function = self._train_frames if self.training else self._eval_frames
        if batch is not None:
            found = function(vectors, batch=batch, num_graphs=num_graphs)
        else:
            exists = None if mask is None else mask[..., None].expand(vectors.shape[:-1])
            exists = None if exists is None else exists.flatten(-2)
            found = function(vectors.flatten(-3, -2), mask=exists)
        if not isinstance(found, Frames):
            raise TypeError(
                f"mode: {self.mode!r} has frames of another number for each cloud; latent features "
                "need an axis of frames, as 'full' and 'stochastic' make it"
            )
        parts = {
            name: _at_nodes(part, batch, vectors.shape[:-2])
            for name, part in found._asdict().items()
            if part is not None and name != "signs"
        }
        return found._replace(**parts)

    def enter(
        self, vectors: Float[Tensor, "*rows vectors d"], frames: Frames
    ) -> Float[Tensor, "*rows frames channels"]:
        """Express vectors in every frame, and read their components as channels.

        Args:
            vectors: at each node.
            frames: those of the nodes, of :meth:`frames`.
        """
        with torch.autocast(vectors.device.type, enabled=False):
            inverse = frames.frames.mT if frames.inverse is None else frames.inverse
            exact = vectors.to(torch.promote_types(vectors.dtype, inverse.dtype))
            inside = torch.einsum("...vc,...fdc->...fvd", exact, inverse.to(exact.dtype))
        return inside.flatten(-2).to(vectors.dtype)

    def leave(
        self, features: Float[Tensor, "*rows frames channels"], frames: Frames
    ) -> Float[Tensor, "*rows vectors d"]:
        """Read channels as vectors in their frame, bring them back and average them.

        Args:
            features: in each frame.
            frames: those in which the features are.

        Raises:
            ValueError: the number of channels is no multiple of the dimension.
        """
        dimension, count = frames.frames.shape[-1], frames.frames.shape[-3]
        if features.shape[-1] % dimension:
            raise ValueError(
                f"features: expected a multiple of {dimension} channels, which are vectors, got "
                f"shape {tuple(features.shape)}"
            )
        components = features.unflatten(-1, (-1, dimension))
        with torch.autocast(features.device.type, enabled=False):
            exact = components.to(torch.promote_types(features.dtype, frames.frames.dtype))
            weights = frames.weights
            if weights is not None:
                exact, count = exact * weights[..., None, None], 1
            matrices = frames.frames.to(exact.dtype)
            return torch.einsum("...fvd,...fcd->...vc", exact, matrices) / count

    def forward(
        self,
        features: Float[Tensor, "*rows frames channels"],
        frames: Frames,
        mask: Bool[Tensor, "*rows"] | None = None,
        batch: Int[Tensor, "nodes"] | None = None,
        num_graphs: int | None = None,
    ) -> tuple[Float[Tensor, "*rows frames2 channels"], Frames]:
        """Turn features from the frames of the last layer to those of the vectors they hold.

        Args:
            features: in each of ``frames``.
            frames: those in which the features are.
            mask: as in :meth:`frames`.
            batch: as in :meth:`frames`.
            num_graphs: as in :meth:`frames`.

        Returns:
            The features in the new frames, and these.
        """
        vectors = self.leave(features, frames)
        turned = self.frames(vectors, mask, batch, num_graphs)
        return self.enter(vectors, turned).to(features.dtype), turned

    def extra_repr(self) -> str:
        """Group and options."""
        return (
            f"group={self.group!r}, mode={self.mode!r}, eval_mode={self.eval_mode!r}, "
            f"samples={self.samples}, detach={self.detach}"
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy, which draws from a generator of its own."""
        super().__setstate__(state)
        self._make_functions()

    def _make_functions(self) -> None:
        draws = Draws(self.samples, number_of(self.generator))
        self._train_frames, self._eval_frames = (
            frame_function(self.group, mode, self.detach, {}, draws)
            for mode in (self.mode, self.eval_mode)
        )


def _at_nodes(part: Tensor, batch: Tensor | None, rows: torch.Size) -> Tensor:
    """What belongs to a cloud, at each of its nodes."""
    if batch is not None:
        return gather_nodes(part.contiguous(), batch)
    axis = len(rows) - 1
    return part.unsqueeze(axis).expand(*rows, *part.shape[axis:])
