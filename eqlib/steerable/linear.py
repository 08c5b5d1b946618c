"""Linear maps between spherical tensors: by Schur's lemma, channels mix within a degree."""

from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eqlib.steerable._features import check_at_least, check_features, degree_sizes
from eqlib.symmetry import O, Signature, SphericalTensor


class EquivariantLinear(nn.Module):
    r"""Linear map of the channels of each degree, the most general one that commutes with O(3).

    .. math:: y_{lmo} = \sum_i W^{(l)}_{oi}\, x_{lmi} + \delta_{l0}\, b_o

    With ``complete=True`` there is one :math:`W` per degree and parity, and the bias is added to
    the scalars but not to the pseudoscalars, which change sign under reflections.

    Args:
        lmax: largest degree of the input.
        channels_in: channels of the input.
        channels_out: channels of the output.
        bias: learn a bias of the scalars.
        complete: features (..., 2, (lmax + 1)^2, channels) hold both parities, natural ones first.
        lmax_out: largest degree of the output, by default ``lmax``; degrees above those of the
            input are zero.

    Raises:
        ValueError: a degree is negative, or a number of channels not positive.
        TypeError: a degree or a number of channels is not an integer.

    Note:
        The weights, (degrees, out, in) or (2, degrees, out, in), start normal with variance
        1 / ``channels_in``, so that independent inputs of unit variance give outputs of unit
        variance; the bias starts at zero.
    """

    def __init__(
        self,
        lmax: int,
        channels_in: int,
        channels_out: int,
        bias: bool = True,
        complete: bool = False,
        lmax_out: int | None = None,
    ) -> None:
        super().__init__()
        lmax_out = lmax if lmax_out is None else lmax_out
        check_at_least(0, lmax=lmax, lmax_out=lmax_out)
        check_at_least(1, channels_in=channels_in, channels_out=channels_out)
        self.lmax, self.lmax_out, self.complete = lmax, lmax_out, complete
        self.channels_in, self.channels_out = channels_in, channels_out
        self.signature = Signature(
            O(3),
            inputs={"features": SphericalTensor(lmax, complete)},
            outputs=SphericalTensor(lmax_out, complete),
        )
        shared = min(lmax, lmax_out)
        parities = (2,) if complete else ()
        self.weight = nn.Parameter(torch.empty(*parities, shared + 1, channels_out, channels_in))
        self.bias = nn.Parameter(torch.empty(channels_out)) if bias else None
        self.sizes = degree_sizes(shared, complete)
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew.

        Args:
            generator: source of the weights; by default the global one, as in torch's layers.
        """
        nn.init.normal_(self.weight, std=self.channels_in**-0.5, generator=generator)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self, features: Float[Tensor, "*batch coeffs channels"]
    ) -> Float[Tensor, "*batch coeffs_out channels_out"]:
        """The mapped features.

        Args:
            features: spherical tensors (..., (lmax + 1)^2, channels_in), or
                (..., 2, (lmax + 1)^2, channels_in) if ``complete``, in any unit.

        Raises:
            ValueError: the shape or the device does not fit.
            TypeError: the dtype differs from that of the weights, save under autocast.
        """
        check_features(features, self.lmax, self.channels_in, self.complete, self.weight)
        features = features[..., : (self.lmax_out + 1) ** 2, :]
        axes = 3 if self.complete else 2
        batch, components = features.shape[:-axes], features.shape[-axes:-1]
        rows = features.reshape(prod(batch), prod(components), self.channels_in)
        mapped = self._map(rows).reshape(*batch, *components, self.channels_out)
        missing = (self.lmax_out + 1) ** 2 - components[-1]
        return nn.functional.pad(mapped, (0, 0, 0, missing)) if missing else mapped

    def extra_repr(self) -> str:
        """Degrees and channels."""
        degrees = f"lmax={self.lmax}"
        if self.lmax_out != self.lmax:
            degrees += f", lmax_out={self.lmax_out}"
        return (
            f"{self.channels_in}, {self.channels_out}, {degrees}, bias={self.bias is not None}, "
            f"complete={self.complete}"
        )

    def _map(
        self, rows: Float[Tensor, "rows coeffs channels"]
    ) -> Float[Tensor, "rows coeffs channels_out"]:
        # Batched over the components of a degree, which read one matrix: a single product for all
        # rows of a degree would have to gather them first, which costs more than the product.
        weights = self.weight.flatten(0, -3).mT.split(1)
        mapped = [
            torch.bmm(part, weight.expand(len(part), -1, -1))
            for part, weight in zip(rows.transpose(0, 1).split(self.sizes), weights, strict=True)
        ]
        if self.bias is not None:
            mapped[0] = mapped[0] + self.bias.to(mapped[0].dtype)
        return torch.cat([part.transpose(0, 1) for part in mapped], 1)
