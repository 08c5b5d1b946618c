"""Many-body products: polynomials of a function on the sphere, with one projection."""

from collections.abc import Callable
from math import pi, prod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from eqlib.gaunt._many_body_terms import input_scale, output_scale, part_scale, parts, terms
from eqlib.harmonics import (
    e3nn_irreps,
    sphere_grid,
    spherical_harmonics,
    spherical_harmonics_gradient,
    tangent_frames,
)
from eqlib.kernels.gaunt_many_body import IMPLEMENTATIONS, gaunt_many_body
from eqlib.kernels.gaunt_many_body.terms import encode
from eqlib.kernels.tracing import is_readable
from eqlib.steerable import EquivariantLinear
from eqlib.steerable._features import check_at_least, check_features
from eqlib.symmetry import O, Signature, SphericalTensor

ORDERS = (2, 3, 4)


class GauntManyBody(nn.Module):
    r"""Products of up to ``order`` copies of a feature, in one pass through the sphere.

    The features of a node and channel are the function :math:`f(r) = \sum_{lm} v_l x_{lm}
    Y_{lm}(r)` on the sphere. Its polynomial is taken point by point and projected once:

    .. math:: z_{lm} = w_l \int \sum_{\nu=1}^{order} a_\nu\, f(r)^\nu\; Y_{lm}(r)\, dr

    with learned v, a and w per species and channel. With ``complete=True`` there are a natural
    function n and a function p of the other parity, products :math:`n^i p^j`, and besides products
    :math:`\{g, h\}\, n^i p^j` with one Poisson bracket, whose operands g and h are maps of the
    features by an :class:`~eqlib.steerable.EquivariantLinear` each. All functions are natural or
    not, and so are the products: each adds to the output of its parity.

    Args:
        lmax: largest degree L of the features, at least 1.
        channels: channels of the features.
        order: largest number of factors, 2, 3 or 4.
        lmax_out: largest degree of the output, at most ``order * lmax``; by default ``lmax``.
        num_species: number of sets of weights v, a and w.
        complete: features and outputs (..., 2, (L + 1)^2, channels) hold both parities.
        implementation: "auto", "blocked" or "naive"; see ``eqlib.kernels.gaunt_many_body``.

    Raises:
        ValueError: a degree, an order, a number or the implementation is out of range.
        TypeError: a degree, an order or a number is not an integer.

    Note:
        Exact: the grid integrates degree ``order * lmax + lmax_out``, and no degree is cut off
        between the factors. Products are channel by channel; only brackets mix channels.
        Without ``complete`` the output cannot tell a cloud of points from its mirror image.

        Features whose coefficients are independent with variance 1 give outputs with a mean square
        of about 1 on average over channels and initial weights: constant factors, derived for
        Gaussian functions, are applied to the features, to each product and to the outputs. The
        weights v and w start at 1, a uniformly distributed with variance 1.

        Memory: besides weighted copies of the input (one; five if ``complete``) and the weights of
        each node, only the grid values of a block of nodes; the backward pass computes them anew.

    Source:
        Luo, Chen, Krishnapriyan, Enabling Efficient Equivariant Operations in the Fourier Basis via
        Gaunt Tensor Products, ICLR 2024, after the symmetric contraction of Batatia et al., MACE,
        NeurIPS 2022. Here the grid is a quadrature on the sphere; brackets are new.
    """

    tables: Tensor
    quadrature: Tensor
    input_scale: Tensor
    output_scale: Tensor
    part_scale: Tensor

    def __init__(
        self,
        lmax: int,
        channels: int,
        order: int = 3,
        lmax_out: int | None = None,
        num_species: int = 1,
        complete: bool = False,
        implementation: str = "auto",
    ) -> None:
        super().__init__()
        lmax_out = lmax if lmax_out is None else lmax_out
        _check_options(lmax, channels, order, lmax_out, num_species, implementation)
        self.lmax, self.channels, self.order, self.lmax_out = lmax, channels, order, lmax_out
        self.num_species, self.complete = num_species, complete
        self.implementation = implementation
        self.signature = Signature(
            O(3),
            inputs={"features": SphericalTensor(lmax, complete)},
            outputs=SphericalTensor(lmax_out, complete),
        )
        self._parts = parts(order, complete)
        self._terms = encode(terms(self._parts, complete))
        parities = 2 if complete else 1
        self.weight_in = nn.Parameter(torch.empty(num_species, parities, lmax + 1, channels))
        self.weight = nn.Parameter(torch.empty(num_species, len(self._parts), channels))
        self.weight_out = nn.Parameter(torch.empty(num_species, parities, lmax_out + 1, channels))
        self.first, self.second = (
            EquivariantLinear(lmax, channels, channels, bias=False, complete=True)
            if complete
            else None
            for _ in range(2)
        )
        for name, constant in self._constants(self.weight).items():
            self.register_buffer(name, constant, persistent=False)
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew.

        Args:
            generator: source of the weights; by default the global one, as in torch's layers.
        """
        nn.init.ones_(self.weight_in)
        nn.init.ones_(self.weight_out)
        nn.init.uniform_(self.weight, -(3**0.5), 3**0.5, generator=generator)
        for linear in (self.first, self.second):
            if linear is not None:
                linear.reset_parameters(generator)

    @property
    def irreps_in(self) -> str:
        """The features in e3nn's grammar."""
        return e3nn_irreps(self.lmax, self.channels, self.complete)

    @property
    def irreps_out(self) -> str:
        """The outputs in e3nn's grammar."""
        return e3nn_irreps(self.lmax_out, self.channels, self.complete)

    def forward(
        self,
        features: Float[Tensor, "*batch coeffs channels"],
        species: Int[Tensor, "*nodes"] | None = None,
    ) -> Float[Tensor, "*batch coeffs_out channels"]:
        """The projected polynomial of each feature.

        Args:
            features: spherical tensors (..., (lmax + 1)^2, channels), or
                (..., 2, (lmax + 1)^2, channels) if ``complete``, in any unit.
            species: set of weights of each entry of the batch, 0 ... ``num_species`` - 1; may be
                left out if there is only one.

        Raises:
            ValueError: a shape or a device does not fit, or a species is out of range.
            TypeError: the dtype of the features differs from that of the weights, save under
                autocast, or ``species`` is not int64.
        """
        check_features(features, self.lmax, self.channels, self.complete, self.weight)
        axes = 3 if self.complete else 2
        batch, parities = features.shape[:-axes], 2 if self.complete else 1
        self._check_species(species, batch)
        rows = features.reshape(prod(batch), parities, (self.lmax + 1) ** 2, self.channels)
        species = None if species is None else species.reshape(-1)
        outputs = gaunt_many_body(
            self._fields(rows, species),
            self.tables,
            self.quadrature,
            self._terms,
            [(self.lmax_out + 1) ** 2] * parities,
            self.implementation,
        )
        scale = _select(_per_component(self.weight_out * self.output_scale), species)
        scaled = [z * scale[:, parity] for parity, z in enumerate(outputs)]
        found = torch.stack(scaled, dim=1) if self.complete else scaled[0]
        return found.reshape(*batch, *found.shape[1:]).to(features.dtype)

    def extra_repr(self) -> str:
        """Degrees, channels and options."""
        return (
            f"lmax={self.lmax}, channels={self.channels}, order={self.order}, "
            f"lmax_out={self.lmax_out}, num_species={self.num_species}, complete={self.complete}, "
            f"implementation={self.implementation!r}"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "GauntManyBody":
        """Move or convert the module; constants are made anew, as they would be rounded twice."""
        super()._apply(fn, recurse)
        for name, constant in self._constants(self.weight).items():
            setattr(self, name, constant)
        return self

    def _constants(self, like: Tensor) -> dict[str, Tensor]:
        """Constant factors in the dtype of a tensor; the grid in float64, which is cast last."""
        points, quadrature, _ = sphere_grid(self.order * self.lmax + self.lmax_out)
        lmax = max(self.lmax, self.lmax_out)
        tables = [spherical_harmonics(points, lmax)]
        if self.complete:
            slopes = tangent_frames(points) @ spherical_harmonics_gradient(points, lmax).mT
            tables += slopes.unbind(-2)
        grid = {"tables": torch.stack(tables), "quadrature": quadrature}
        scales = {
            "input_scale": input_scale(self.lmax)[:, None],
            "part_scale": part_scale(self._parts, self.lmax)[:, None],
            "output_scale": output_scale(self._parts, self.lmax, self.lmax_out)[..., None],
        }
        return {
            **{name: table.to(like.device) for name, table in grid.items()},
            **{name: torch.tensor(values).to(like) for name, values in scales.items()},
        }

    def _fields(
        self, rows: Float[Tensor, "nodes parities coeffs channels"], species: Tensor | None
    ) -> list[Float[Tensor, "nodes _ channels"]]:
        """The functions on the sphere, and the weights of their products as constant functions."""
        functions = rows * _select(_per_component(self.weight_in * self.input_scale), species)
        fields = [*functions.unbind(1)]
        if self.first is not None and self.second is not None:
            scaled = rows * _per_component(self.input_scale)
            fields += [*self.first(scaled).unbind(1), *self.second(scaled).unbind(1)]
        # A constant function of value a has the coefficient sqrt(4 pi) a.
        weights = _select(self.weight * self.part_scale * (4 * pi) ** 0.5, species)
        fields += weights.expand(rows.shape[0], -1, -1).split(1, dim=1)
        # Under autocast, linear layers return a lower precision.
        return [field.to(functions.dtype) for field in fields]

    def _check_species(self, species: Tensor | None, batch: torch.Size) -> None:
        if species is None:
            if self.num_species > 1:
                raise ValueError(
                    f"species: got None; expected one of 0 ... {self.num_species - 1} for each "
                    "entry of the batch"
                )
            return
        if species.dtype != torch.int64:
            raise TypeError(f"species: expected torch.int64, got {species.dtype}; use .long()")
        if species.shape != batch:
            raise ValueError(
                f"species: got shape {tuple(species.shape)}; expected the batch of features, "
                f"{tuple(batch)}"
            )
        # Reading values would stop a GPU and break compiled graphs; there the lookup itself stops.
        if is_readable(species) and species.numel():
            low, high = (int(bound) for bound in species.aminmax())
            if low < 0 or high >= self.num_species:
                raise ValueError(
                    f"species: got {low} ... {high}; expected 0 ... {self.num_species - 1}"
                )


def _per_component(
    weight: Float[Tensor, "*sets degrees channels"],
) -> Float[Tensor, "*sets coeffs channels"]:
    """Weights per degree, copied to the components of the degree."""
    degrees = enumerate(weight.split(1, dim=-2))
    return torch.cat(
        [part.expand(*part.shape[:-2], 2 * degree + 1, -1) for degree, part in degrees], dim=-2
    )


def _select(
    weight: Float[Tensor, "sets *own"], species: Int[Tensor, "nodes"] | None
) -> Float[Tensor, "_ *own"]:
    """Weights of each node; without species, those of the only one, to be broadcast."""
    # By indexing, not index_select: its backward pass adds in one order on CUDA too.
    return weight if species is None else weight[species]


def _check_options(
    lmax: int, channels: int, order: int, lmax_out: int, num_species: int, implementation: str
) -> None:
    check_at_least(1, lmax=lmax, channels=channels, order=order, num_species=num_species)
    check_at_least(0, lmax_out=lmax_out)
    if order not in ORDERS:
        raise ValueError(f"order: expected 2, 3 or 4, got {order}")
    if lmax_out > order * lmax:
        raise ValueError(
            f"lmax_out: got {lmax_out}; expected at most order * lmax = {order * lmax}, since "
            "higher degrees are zero"
        )
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"implementation: got {implementation!r}; expected one of {', '.join(IMPLEMENTATIONS)}"
        )
