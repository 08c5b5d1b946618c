"""What a network is stacked of: convolutions, and a block that mixes channels."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu
from torch.utils.checkpoint import checkpoint

from eqlib.geometry._checks import check_count
from eqlib.kernels.convnext_block import convnext_block, pick
from eqlib.position_orientation._arguments import check_dtype, check_number
from eqlib.position_orientation.convolution.attention import make_spatial
from eqlib.position_orientation.convolution.chirality import HandedTerm
from eqlib.position_orientation.convolution.fibre import OrientationConv
from eqlib.position_orientation.convolution.kernel_network import Kernels
from eqlib.position_orientation.edges.geometry import Geometry


class ConvNeXtBlock(nn.Module):
    r"""Residual block that mixes the channels of each node and orientation.

    .. math:: x + \gamma \odot W_2 \operatorname{GELU}(W_1 \operatorname{LayerNorm}(z) + b_1) + b_2

    Args:
        channels: number of channels.
        expansion: width of the hidden layer, in channels.
        layer_scale: where the factors :math:`\gamma` start; None: there are none.
        recompute: keep no hidden layer for the backward pass, but compute it anew. On a CPU with a
            C compiler this is always so, and faster.

    Raises:
        TypeError: a number is not one, or no integer where one is expected.
        ValueError: a number is not positive.

    Source:
        Liu et al., A ConvNet for the 2020s, CVPR 2022.
    """

    def __init__(
        self,
        channels: int,
        expansion: int = 4,
        layer_scale: float | None = None,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        check_count("channels", channels, 1)
        check_count("expansion", expansion, 1)
        if layer_scale is not None:
            check_number("layer_scale", layer_scale)
        self.channels, self.layer_scale, self.recompute = channels, layer_scale, recompute
        self.norm = nn.LayerNorm(channels)
        self.widen = nn.Linear(channels, expansion * channels)
        self.narrow = nn.Linear(expansion * channels, channels)
        self.scale = None if layer_scale is None else nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew, as torch's layers do.

        Args:
            generator: source of the weights; by default the global one.
        """
        self.norm.reset_parameters()
        for layer in (self.widen, self.narrow):
            bound = layer.in_features**-0.5
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
        if self.scale is not None and self.layer_scale is not None:
            nn.init.constant_(self.scale, self.layer_scale)

    def forward(
        self, features: Float[Tensor, "*rows channels"], convolved: Float[Tensor, "*rows channels"]
    ) -> Float[Tensor, "*rows channels"]:
        """The features with what the block adds to them.

        Args:
            features: x.
            convolved: z, what the convolutions made of x.
        """
        if self._is_fused(features, convolved):
            return self._fused(features, convolved)
        if self.recompute and torch.is_grad_enabled():
            added = checkpoint(self._mixed, convolved, use_reentrant=False)
        else:
            added = self._mixed(convolved)
        return features + added

    def _is_fused(self, features: Tensor, convolved: Tensor) -> bool:
        """Return whether the operation of the CPU can take the tensors, and is faster."""
        dtype, device = convolved.dtype, convolved.device
        alike = features.dtype == dtype == self.widen.weight.dtype
        if not (alike and dtype in (torch.float32, torch.float64) and device.type == "cpu"):
            return False
        if torch.is_autocast_enabled("cpu"):
            return False
        # What is traced may run where there is a C compiler.
        return torch.compiler.is_compiling() or pick(device, dtype)[0] == "compiled"

    def _fused(self, features: Tensor, convolved: Tensor) -> Tensor:
        scale = self.norm.weight.new_empty(0) if self.scale is None else self.scale
        mixed: Tensor = convnext_block(
            features.reshape(-1, self.channels),
            convolved.reshape(-1, self.channels),
            *(self.norm.weight, self.norm.bias),
            *(self.widen.weight, self.widen.bias, self.narrow.weight, self.narrow.bias),
            *(scale, self.norm.eps, "auto"),
        )
        return mixed.reshape(features.shape)

    def _mixed(self, convolved: Tensor) -> Tensor:
        mixed = self.narrow(gelu(self.widen(self.norm(convolved))))
        return mixed if self.scale is None else mixed * self.scale


class InteractionLayer(nn.Module):
    r"""One layer of a network: positions, orientations, and then channels.

    .. math::
        y = \text{SpatialConv}(x), \quad z = \text{OrientationConv}(y) + \text{HandedTerm}(y), \quad
        x \leftarrow \text{ConvNeXtBlock}(x, z)

    The handed term is there on R3xS2 under rotations without reflections.

    Args:
        channels: number of channels.
        kernels: what the layers share; it is passed again to every call, and not part of the layer.
        layer_scale: as in :class:`ConvNeXtBlock`.
        expansion: as in :class:`ConvNeXtBlock`.
        neighbours: as in :class:`SpatialConv`.
        handed: leave out the handed term where it is False.
        attention: number of heads of :class:`SpatialAttention`, which then takes the place of
            :class:`SpatialConv` and needs one edge for each direction; 0 for none.
        recompute: as in :class:`ConvNeXtBlock`.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is not positive.
    """

    def __init__(
        self,
        channels: int,
        kernels: Kernels,
        layer_scale: float | None = None,
        expansion: int = 4,
        neighbours: float = 8.0,
        handed: bool = True,
        recompute: bool = False,
        attention: int = 0,
    ) -> None:
        super().__init__()
        self.spatial = make_spatial(channels, kernels, attention, neighbours)
        self.fibre = OrientationConv(channels, kernels)
        self.handed = HandedTerm(channels, kernels.grid) if handed and kernels.handed else None
        self.block = ConvNeXtBlock(channels, expansion, layer_scale, recompute)

    def forward(
        self,
        features: Float[Tensor, "nodes grid channels"],
        geometry: Geometry,
        kernels: Kernels,
    ) -> Float[Tensor, "nodes grid channels"]:
        """The features after the layer.

        Args:
            features: x, of each node and orientation.
            geometry: edges and orientations.
            kernels: what the layers share.

        Raises:
            TypeError: the features have another dtype than the layer, and there is no autocast.
        """
        check_dtype(features, self.block.norm.weight)
        y = self.spatial(features, geometry, kernels)
        z = self.fibre(y, kernels)
        if self.handed is not None:
            z = z + self.handed(y, geometry, kernels.grid)
        return self.block(features, z)
