"""Convolution over the orientations of a node, channel by channel."""

from collections.abc import Sequence
from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eqlib.geometry._checks import check_count
from eqlib.kernels.channelwise_matmul import channelwise_matmul, pick
from eqlib.kernels.operation import is_transforming
from eqlib.position_orientation.convolution.kernel_network import FibreKernels, Kernels


class OrientationConv(nn.Module):
    r"""Depthwise convolution over orientations.

    .. math:: z_{ipc} = \sum_o w_o\, F_{opc}\, y_{ioc} + b_c, \qquad F_{opc} = (W B_{op})_c

    with the quadrature weights w of the grid and the basis B that all layers share
    (:class:`FibreKernels`). On a space without orientations it is a factor per channel.

    The kernel F depends on weights and the grid only. In evaluation mode without gradients it is
    kept from call to call, until a weight changes.

    Args:
        channels: number of channels.
        kernels: what the layers share; it is passed again to every call, and not part of the layer.
        bias: learn b.

    Raises:
        TypeError: ``channels`` is not an integer.
        ValueError: ``channels`` is not positive.

    Note:
        Writing to ``weight.data`` goes unnoticed by torch, and by the kept kernel: call
        ``.eval()`` again afterwards.
    """

    def __init__(self, channels: int, kernels: Kernels, bias: bool = True) -> None:
        super().__init__()
        check_count("channels", channels, 1)
        self.channels = channels
        basis = 1 if kernels.fibre is None else kernels.fibre.basis.out_features
        self.weight = nn.Parameter(torch.empty(channels, basis))
        self.bias = nn.Parameter(torch.empty(channels)) if bias else None
        self._kept = _Kept()
        self.reset_parameters(kernels)

    def reset_parameters(self, kernels: Kernels, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew, normal with variance 1 / (basis * mean of B^2); biases are zero.

        Args:
            kernels: what the layers share, with weights already drawn.
            generator: source of the weights; by default the global one, as in torch's layers.
        """
        if kernels.fibre is None:
            nn.init.ones_(self.weight)
        else:
            variance = self.weight.shape[1] * kernels.fibre.mean_square(kernels.grid)
            nn.init.normal_(self.weight, std=variance**-0.5, generator=generator)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def train(self, mode: bool = True) -> "OrientationConv":
        """Set the mode, and forget the kernel that was kept.

        Args:
            mode: training, or evaluation.
        """
        self._kept = _Kept()
        return super().train(mode)

    def forward(
        self, features: Float[Tensor, "nodes grid channels"], kernels: Kernels
    ) -> Float[Tensor, "nodes grid channels"]:
        """The convolved features.

        Args:
            features: of each node and orientation, in any unit.
            kernels: what the layers share.
        """
        bias = None if self.bias is None else self.bias.to(features.dtype)
        if kernels.fibre is None:
            z = features * self.weight[:, 0].to(features.dtype)
            return z if bias is None else z + bias
        kernel = self._kernel(kernels, kernels.fibre).to(features.dtype)
        return mix_orientations(features, kernel, bias)

    def extra_repr(self) -> str:
        """Channels and option."""
        return f"{self.channels}, bias={self.bias is not None}"

    def _kernel(self, kernels: Kernels, fibre: FibreKernels) -> Tensor:
        """Return the kernel times the quadrature weights."""
        grid = kernels.grid
        parts = (self.weight, *fibre.parameters(), grid.orientations, grid.weights)
        keep = not (self.training or torch.is_grad_enabled() or torch.compiler.is_compiling())
        if keep and (kept := self._kept.find(parts)) is not None:
            return kept
        kernel = fibre(grid.orientations, self.weight)
        kernel = kernel * grid.weights[:, None].to(kernel.dtype)
        if keep:
            self._kept = _Kept(kernel, parts)
        return kernel


def mix_orientations(
    features: Float[Tensor, "nodes grid channels"],
    kernel: Float[Tensor, "channels grid others"],
    bias: Float[Tensor, "channels"] | None = None,
) -> Float[Tensor, "nodes others channels"]:
    r"""The sum :math:`\sum_o F_{cop}\, y_{ioc} + b_c`.

    Args:
        features: y.
        kernel: F, in the same dtype.
        bias: b, in the same dtype.
    """
    if _is_channelwise(features):
        z: Tensor = channelwise_matmul(features.transpose(0, 1), kernel.permute(1, 2, 0), "auto")
        return z if bias is None else z + bias
    nodes, orientations, channels = features.shape
    # Products of matrices want channels first. Two-dimensional transposes there and back, also of
    # the gradients, take less than the products; einsum and bmm would copy element by element.
    first = _transposed(features.reshape(nodes * orientations, channels))
    first = first.reshape(channels, nodes, orientations)
    if bias is None:
        mixed = torch.bmm(first, kernel)
    else:
        mixed = torch.baddbmm(bias[:, None, None], first, kernel)
    others = kernel.shape[2]
    return _transposed(mixed.reshape(channels, nodes * others)).reshape(nodes, others, channels)


def _is_channelwise(features: Tensor) -> bool:
    """Return whether the operation of the CPU, which leaves channels where they are, is faster."""
    if features.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    if features.dtype not in (torch.float32, torch.float64):
        return False
    # What is traced may run where there is a C compiler.
    return torch.compiler.is_compiling() or pick(features.device, features.dtype)[0] == "compiled"


@no_type_check  # a type checker at run time would wrap what torch.compile has to trace
class _Transposition(torch.autograd.Function):
    """A transposed copy of a matrix, whose gradient is a contiguous copy as well."""

    generate_vmap_rule = True

    @staticmethod
    def forward(matrix: Tensor) -> Tensor:
        return matrix.t().contiguous()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _transposed(grads[0])


def _transposed(matrix: Tensor) -> Tensor:
    if is_transforming():
        return matrix.t().contiguous()
    transposed: Tensor = _Transposition.apply(matrix)
    return transposed


class _Kept:
    """A kernel with the state of what it was made of; copies of a module start without."""

    def __init__(self, kernel: Tensor | None = None, parts: Sequence[Tensor] = ()) -> None:
        self.state = None if kernel is None else _state(parts)
        known = self.state is not None
        self.kernel = kernel if known else None
        # Held, so that no other tensor can come to stand at the address of one of them.
        self.parts = [part.detach() for part in parts] if known else []

    def __reduce__(self) -> tuple[type["_Kept"], tuple[()]]:
        return _Kept, ()

    def find(self, parts: Sequence[Tensor]) -> Tensor | None:
        """Return the kernel if it was made of these parts as they are now."""
        return self.kernel if self.kernel is not None and self.state == _state(parts) else None


def _state(parts: Sequence[Tensor]) -> list[object] | None:
    """Return what changes with the values of tensors, None where that is not known."""
    try:
        return [(part.data_ptr(), part._version, part.dtype, part.device) for part in parts]
    except RuntimeError:  # tensors of torch.func have no address, those of inference no version
        return None
