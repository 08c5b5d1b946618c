"""Layer normalisation of spherical tensors."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eqlib.steerable._features import check_at_least, check_features, degree_sizes
from eqlib.symmetry import O, Signature, SphericalTensor

HALF = (torch.float16, torch.bfloat16)


class EquivariantLayerNorm(nn.Module):
    r"""Layer norm of the scalars, and of all other degrees by their common root mean square.

    .. math::
        y_{0c} &= \gamma^{(0)}_c\, \frac{x_{0c} - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta_c \\
        y_{lmc} &= \gamma^{(l)}_c\, \frac{x_{lmc}}{\sqrt{q + \epsilon}}, \qquad
        q = \frac1L \sum_{l=1}^{L} q_l, \qquad
        q_l = \frac{1}{(2l + 1)\, C} \sum_{m, c} x_{lmc}^2

    with the mean :math:`\mu` and the variance :math:`\sigma^2` of the scalars over channels. Every
    degree has the same say in :math:`q`, whatever its number of components. With ``complete=True``
    the degrees of the other parity, pseudoscalars included, count among the :math:`q_l`.

    Args:
        lmax: largest degree.
        channels: channels of the features.
        complete: features (..., 2, (lmax + 1)^2, channels) hold both parities, natural ones first.
        per_degree: divide each degree (and parity) by its own :math:`\sqrt{q_l + \epsilon}`, which
            forgets how large the degrees are relative to each other.
        eps: what is added to mean squares, in the squared unit of the features.

    Raises:
        ValueError: ``lmax`` is negative, or ``channels`` or ``eps`` not positive.
        TypeError: ``lmax`` or ``channels`` is not an integer.

    Note:
        Defined and smooth everywhere, at zero too. Half precision is computed in float32. One
        channel is its own mean, so its scalars become the bias.

    Source:
        Liao et al., EquiformerV2, ICLR 2024 (separable layer normalisation); ``per_degree`` is the
        norm of Liao and Smidt, Equiformer, ICLR 2023. Here with both parities.
    """

    def __init__(
        self,
        lmax: int,
        channels: int,
        complete: bool = False,
        per_degree: bool = False,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        check_at_least(0, lmax=lmax)
        check_at_least(1, channels=channels)
        if not eps > 0:
            raise ValueError(f"eps: expected a positive number, got {eps}")
        self.lmax, self.channels, self.complete = lmax, channels, complete
        self.per_degree, self.eps = per_degree, eps
        features = SphericalTensor(lmax, complete)
        self.signature = Signature(O(3), inputs={"features": features}, outputs=features)
        self.sizes = degree_sizes(lmax, complete)
        others = self.sizes[1:]
        groups = [[size] for size in others] if per_degree else [others]
        self.groups = [[1], *filter(None, groups)]
        parities = (2,) if complete else ()
        self.weight = nn.Parameter(torch.empty(*parities, lmax + 1, channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights of one and biases of zero."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(
        self, features: Float[Tensor, "*batch coeffs channels"]
    ) -> Float[Tensor, "*batch coeffs channels"]:
        """The normalised features.

        Args:
            features: spherical tensors (..., (lmax + 1)^2, channels), or
                (..., 2, (lmax + 1)^2, channels) if ``complete``, in any unit.

        Raises:
            ValueError: the shape or the device does not fit.
            TypeError: the dtype differs from that of the weights, save under autocast.
        """
        check_features(features, self.lmax, self.channels, self.complete, self.weight)
        exact = features.float() if features.dtype in HALF else features
        exact = exact.flatten(-3, -2) if self.complete else exact
        weight, bias = self.weight.flatten(0, -2).to(exact.dtype), self.bias.to(exact.dtype)
        totals = [sum(sizes) for sizes in self.groups]
        parts = list(exact.split(totals, -2))
        parts[0] = parts[0] - parts[0].mean(-1, keepdim=True)
        rows = zip(weight.split(1), self.sizes, strict=True)  # one for all components of a degree
        scales = torch.cat([row.expand(size, -1) for row, size in rows]).split(totals)
        normed = [
            self._normed(part, sizes) * scale
            for part, sizes, scale in zip(parts, self.groups, scales, strict=True)
        ]
        normed[0] = normed[0] + bias
        return torch.cat(normed, -2).reshape(features.shape).to(features.dtype)

    def extra_repr(self) -> str:
        """Degrees, channels and options."""
        return (
            f"lmax={self.lmax}, channels={self.channels}, complete={self.complete}, "
            f"per_degree={self.per_degree}, eps={self.eps:g}"
        )

    def _normed(
        self, values: Float[Tensor, "*batch coeffs channels"], sizes: list[int]
    ) -> Float[Tensor, "*batch coeffs channels"]:
        """Values over the root of the mean of the mean squares of blocks of these sizes."""
        # No square overflows, as values are first divided by the largest where it exceeds 1: for
        # autograd that is a constant, since the result does not depend on it.
        peak = values.detach().abs().amax((-2, -1), keepdim=True).clamp(min=1)
        units = values / peak
        powers = units.square().mean(-1, keepdim=True).split(sizes, -2)
        square = torch.cat([power.mean(-2, keepdim=True) for power in powers], -2)
        return units * (square.mean(-2, keepdim=True) + self.eps / peak.square()).rsqrt()
