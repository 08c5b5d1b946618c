"""Nonlinearity for spherical tensors: scalars activate, and gate all other components."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from eqlib.steerable._features import check_at_least, check_features, degree_sizes
from eqlib.symmetry import O, Signature, SphericalTensor

SILU_GAIN = 1.6765324703310912
"""One over the root mean square of SiLU(z) for standard normal z."""
SIGMOID_GAIN = 1.8462285453386056
"""One over the root mean square of sigmoid(z) for standard normal z."""


class Gate(nn.Module):
    r"""SiLU of the scalars; all other degrees times sigmoids of what is learned from the scalars.

    .. math::
        y_{0} &= a\, x_{0}\, \sigma(x_{0}) \\
        y_{lmc} &= b\, x_{lmc}\, \sigma\bigl(V^{(l)} x_{0} + v^{(l)}\bigr)_c, \qquad l > 0

    With ``complete=True`` every degree of the other parity has gates of its own, the pseudoscalars
    too: a nonlinear function of theirs would have to be odd.

    Args:
        lmax: largest degree.
        channels: channels of the features.
        complete: features (..., 2, (lmax + 1)^2, channels) hold both parities, natural ones first.
        normalize: with the gains a = 1.677 and b = 1.846, standard normal features keep a second
            moment of 1; without, a = b = 1.

    Raises:
        ValueError: ``lmax`` is negative, or ``channels`` not positive.
        TypeError: ``lmax`` or ``channels`` is not an integer.

    Source:
        Weiler et al., 3D Steerable CNNs, NeurIPS 2018. Here the gates are linear in the scalars
        that are also activated, where the paper convolves to scalars of their own. The gains are
        those of Geiger and Smidt, e3nn: Euclidean Neural Networks, 2022.
    """

    def __init__(
        self, lmax: int, channels: int, complete: bool = False, normalize: bool = True
    ) -> None:
        super().__init__()
        check_at_least(0, lmax=lmax)
        check_at_least(1, channels=channels)
        self.lmax, self.channels = lmax, channels
        self.complete, self.normalize = complete, normalize
        features = SphericalTensor(lmax, complete)
        self.signature = Signature(O(3), inputs={"features": features}, outputs=features)
        self.sizes = degree_sizes(lmax, complete)
        gates = (len(self.sizes) - 1) * channels
        self.linear = nn.Linear(channels, gates) if gates else None
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights of the gates anew, with variance 1 / ``channels``; biases are zero.

        Args:
            generator: source of the weights; by default the global one, as in torch's layers.
        """
        if self.linear is not None:
            nn.init.normal_(self.linear.weight, std=self.channels**-0.5, generator=generator)
            nn.init.zeros_(self.linear.bias)

    def forward(
        self, features: Float[Tensor, "*batch coeffs channels"]
    ) -> Float[Tensor, "*batch coeffs channels"]:
        """The gated features.

        Args:
            features: spherical tensors (..., (lmax + 1)^2, channels), or
                (..., 2, (lmax + 1)^2, channels) if ``complete``, without unit.

        Raises:
            ValueError: the shape or the device does not fit.
            TypeError: the dtype differs from that of the weights, save under autocast.
        """
        weight = features if self.linear is None else self.linear.weight
        check_features(features, self.lmax, self.channels, self.complete, weight)
        rows = features.flatten(-3, -2) if self.complete else features
        scalars, *others = rows.split(self.sizes, -2)
        gated = [silu(scalars) * (SILU_GAIN if self.normalize else 1.0)]
        if self.linear is not None:
            gates = self.linear(scalars).to(rows.dtype).sigmoid()
            gates = gates * SIGMOID_GAIN if self.normalize else gates
            pairs = zip(others, gates.split(self.channels, -1), strict=True)
            gated += [part * gate for part, gate in pairs]
        return torch.cat(gated, -2).reshape(features.shape)

    def extra_repr(self) -> str:
        """Degrees, channels and options."""
        return (
            f"lmax={self.lmax}, channels={self.channels}, complete={self.complete}, "
            f"normalize={self.normalize}"
        )
