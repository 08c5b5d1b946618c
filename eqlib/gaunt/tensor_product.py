"""Tensor product of two features as a learned Gaunt product, with the odd paths if wanted."""

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eqlib.gaunt._arguments import check_implementation
from eqlib.gaunt.e3nn_interop import TERMS, e3nn_tensor_product
from eqlib.gaunt.product import gaunt_product, poisson_product
from eqlib.harmonics import e3nn_irreps, gaunt_coefficients, poisson_coefficients
from eqlib.harmonics.layouts import Normalization
from eqlib.steerable._features import check_at_least, check_features
from eqlib.symmetry import O, Signature, SphericalTensor

if TYPE_CHECKING:
    from e3nn import o3


class GauntTensorProduct(nn.Module):
    r"""Channelwise tensor product of two features with one weight per degree of each of the three.

    .. math:: z_{l_3 m_3 c} = \sum_{r=1}^{rank} w_{r l_3 c} \sum_{l_1 m_1 l_2 m_2}
              G_{l_1 m_1, l_2 m_2, l_3 m_3}\; u_{r l_1 c}\, x_{l_1 m_1 c}\;
              v_{r l_2 c}\, y_{l_2 m_2 c}

    with the Gaunt coefficients G, which couple degrees with an even sum. With ``complete=True`` the
    Poisson bracket couples those with an odd sum too, and features hold both parities, the natural
    one N and the other one P. There are eight products, each with weights of its own: Gaunt
    products N N and P P and brackets N P and P N add to N; Gaunt products N P and P N and brackets
    N N and P P add to P. Every Clebsch-Gordan path has a weight then.

    Args:
        lmax1: largest degree of x.
        lmax2: largest degree of y.
        lmax_out: largest degree of the output, at most ``lmax1 + lmax2``.
        channels: channels of x and of the output.
        complete: features (..., 2, (L + 1)^2, channels) hold both parities, natural ones first.
        weights: learn weights; without, all are 1 and there are no constant factors either.
        rank: number of products that are added.
        channels2: channels of y, either ``channels`` (the default) or 1.
        implementation: that of :func:`~eqlib.gaunt.gaunt_product`.

    Raises:
        ValueError: a degree, a number or the implementation is out of range.
        TypeError: a degree or a number is not an integer.

    Note:
        Features whose coefficients are independent with variance 1 give outputs of variance 1, in
        the mean over initial weights: with V the variance that unit weights would give, w has the
        constant factor 1 / sqrt(V rank terms). The weights u and v start uniformly distributed with
        variance 1, w at 1.

        Clebsch-Gordan products have one weight per path, which here is the product u v w times the
        constant that :meth:`to_e3nn_module` shows. Sums of ``rank`` products come closer to free
        weights: two reach equal weights of all even paths at degree 2, three at degree 3.

        The cost is ``rank`` products of all channels. With ``complete`` it is ``rank`` Gaunt
        products and ``rank`` brackets of four times the channels each, on copies of x and y that
        take four times the memory of one parity, twice that of x and y.

    Source:
        Luo, Chen, Krishnapriyan, Enabling Efficient Equivariant Operations in the Fourier Basis via
        Gaunt Tensor Products, ICLR 2024. Rank, parities and brackets are additions.
    """

    scale: Tensor
    weight1: nn.Parameter | None
    weight2: nn.Parameter | None
    weight_out: nn.Parameter | None

    def __init__(
        self,
        lmax1: int,
        lmax2: int,
        lmax_out: int,
        channels: int,
        complete: bool = False,
        weights: bool = True,
        rank: int = 1,
        channels2: int | None = None,
        implementation: str = "auto",
    ) -> None:
        super().__init__()
        self.lmax1, self.lmax2, self.lmax_out = lmax1, lmax2, lmax_out
        self.channels, self.channels2 = channels, channels if channels2 is None else channels2
        self.complete, self.rank = complete, rank
        self.implementation = implementation
        self._check_options(weights)
        self.signature = Signature(
            O(3),
            inputs={"x": SphericalTensor(lmax1, complete), "y": SphericalTensor(lmax2, complete)},
            outputs=SphericalTensor(lmax_out, complete),
        )
        terms = len(TERMS) if complete else 1
        for name, lmax in (("weight1", lmax1), ("weight2", lmax2), ("weight_out", lmax_out)):
            shape = (rank, 2 if complete else 1, lmax + 1, terms, channels)
            self.register_parameter(name, nn.Parameter(torch.empty(shape)) if weights else None)
        scale = self._scale().to(torch.get_default_dtype())
        self.register_buffer("scale", scale, persistent=False)
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew.

        Args:
            generator: source of the weights; by default the global one, as in torch's layers.
        """
        for weight in (self.weight1, self.weight2):
            if weight is not None:
                nn.init.uniform_(weight, -(3**0.5), 3**0.5, generator=generator)
        if self.weight_out is not None:
            nn.init.ones_(self.weight_out)

    @property
    def irreps_in1(self) -> str:
        """The features x in e3nn's grammar."""
        return e3nn_irreps(self.lmax1, self.channels, self.complete)

    @property
    def irreps_in2(self) -> str:
        """The features y in e3nn's grammar."""
        return e3nn_irreps(self.lmax2, self.channels2, self.complete)

    @property
    def irreps_out(self) -> str:
        """The output in e3nn's grammar."""
        return e3nn_irreps(self.lmax_out, self.channels, self.complete)

    def forward(
        self,
        x: Float[Tensor, "*batch1 coeffs1 channels"],
        y: Float[Tensor, "*batch2 coeffs2 channels2"],
    ) -> Float[Tensor, "*batch coeffs channels"]:
        """The product of both features.

        Args:
            x: spherical tensors (..., (lmax1 + 1)^2, channels), or
                (..., 2, (lmax1 + 1)^2, channels) if ``complete``, in any unit.
            y: the same with ``lmax2`` and ``channels2``; the batches of x and y are broadcast.

        Raises:
            ValueError: a shape or a device does not fit.
            TypeError: a dtype differs from that of the weights, save under autocast.
        """
        weight = x if self.weight_out is None else self.weight_out
        check_features(x, self.lmax1, self.channels, self.complete, weight, "x")
        check_features(y, self.lmax2, self.channels2, self.complete, weight, "y")
        dtype = torch.promote_types(x.dtype, y.dtype)
        x, y = x.to(dtype), y.to(dtype)
        if not self.complete:
            return self._sum(x, y, 0)
        y = y.expand(*y.shape[:-1], self.channels)
        x, y = (
            torch.cat([features[..., term[operand], :, :] for term in TERMS], dim=-1)
            for operand, features in enumerate((x, y))
        )
        even, odd = (self._sum(x, y, kind).split(self.channels, dim=-1) for kind in (0, 1))
        natural = even[0] + even[1] + odd[2] + odd[3]
        other = even[2] + even[3] + odd[0] + odd[1]
        return torch.stack([natural, other], dim=-3)

    def path_weights(self) -> Float[Tensor, "kinds terms degrees1 degrees2 degrees channels"]:
        r"""The factor :math:`\sum_r u_{l_1} v_{l_2} w_{l_3}` of each path, with constant factors.

        Returns:
            Factors of the Gaunt products and, if ``complete``, of the brackets (``kinds``), for
            each pair of parities of x and y: NN, PP, NP, PN (``terms``).
        """
        weights = self._weights()
        if weights is None:
            kinds, terms = (2, len(TERMS)) if self.complete else (1, 1)
            degrees = (self.lmax1 + 1, self.lmax2 + 1, self.lmax_out + 1)
            return self.scale.new_ones(kinds, terms, *degrees, self.channels)
        return torch.einsum("rkatc,rkbtc,rkdtc->ktabdc", *weights)

    def to_e3nn_module(self, normalization: Normalization = "integral") -> "o3.TensorProduct":
        """e3nn's tensor product with the same paths, and with weights that make it equal.

        Args:
            normalization: that of the irreps that the product takes and returns, as in
                :func:`~eqlib.harmonics.to_e3nn`; their layout is "mul_ir".

        Returns:
            A product of ``irreps_in1`` and ``irreps_in2`` in the connection mode "uuu" ("uvu" if y
            has one channel of several), on the device and with the dtype of this module. Its
            weights are its own: one per path and channel.
        """
        return e3nn_tensor_product(
            (self.irreps_in1, self.irreps_in2, self.irreps_out),
            self.path_weights().detach(),
            normalization,
        )

    def extra_repr(self) -> str:
        """Degrees, channels and options."""
        return (
            f"lmax1={self.lmax1}, lmax2={self.lmax2}, lmax_out={self.lmax_out}, "
            f"channels={self.channels}, complete={self.complete}, "
            f"weights={self.weight_out is not None}, rank={self.rank}, "
            f"channels2={self.channels2}, implementation={self.implementation!r}"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "GauntTensorProduct":
        """Move or convert the module; constants are made anew, as they would be rounded twice."""
        super()._apply(fn, recurse)
        self.scale = self._scale().to(self.scale)
        return self

    def _scale(self) -> Float[Tensor, "kinds degrees 1 1"]:
        r"""One over the root of the variance of each degree for unit weights, per term and rank.

        A Gaunt product of independent coefficients of variance 1 has in each coefficient c the
        variance :math:`\sum_{ab} G_{abc}^2`, which is one number for all c of a degree.
        """
        lmaxes = (self.lmax1, self.lmax2, self.lmax_out)
        tables = [gaunt_coefficients(*lmaxes)]
        if self.complete:
            tables.append(poisson_coefficients(*lmaxes))
        first = torch.arange(self.lmax_out + 1) ** 2
        variances = torch.stack([table.square().sum((0, 1))[first] for table in tables])
        terms = (variances > 0).sum(0) * (2 if self.complete else 1)
        scale = torch.where(variances > 0, (variances * terms * self.rank) ** -0.5, 1.0)
        return scale[..., None, None]

    def _weights(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """The weights u, v and w, the last with its constant factor."""
        if self.weight1 is None or self.weight2 is None or self.weight_out is None:
            return None
        return self.weight1, self.weight2, self.weight_out * self.scale

    def _sum(self, x: Tensor, y: Tensor, kind: int) -> Tensor:
        """The Gaunt products or, for kind 1, the brackets, with their weights, over the rank."""
        product = poisson_product if kind else gaunt_product
        weights = self._weights()
        if weights is None:
            return product(x, y, self.lmax_out, None, self.implementation)
        products = (
            product(
                x,
                y,
                self.lmax_out,
                [weight[r, kind].flatten(-2) for weight in weights],
                self.implementation,
            )
            for r in range(self.rank)
        )
        return reduce(torch.add, products)

    def _check_options(self, weights: bool) -> None:
        check_at_least(0, lmax1=self.lmax1, lmax2=self.lmax2, lmax_out=self.lmax_out)
        check_at_least(1, channels=self.channels, channels2=self.channels2, rank=self.rank)
        if self.lmax_out > self.lmax1 + self.lmax2:
            raise ValueError(
                f"lmax_out: got {self.lmax_out}; expected at most lmax1 + lmax2 = "
                f"{self.lmax1 + self.lmax2}, since higher degrees are zero"
            )
        if self.channels2 not in (1, self.channels):
            raise ValueError(
                f"channels2: got {self.channels2}; expected 1 or the {self.channels} of x"
            )
        if self.rank > 1 and not weights:
            raise ValueError(
                f"rank: got {self.rank}; expected 1 without weights, as the products would be equal"
            )
        check_implementation(self.implementation)
