"""The most general linear layer between orders that commutes with permutations."""

from collections.abc import Mapping, Sequence
from functools import reduce
from math import prod
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from eqlib.geometry import gather_nodes
from eqlib.kernels.tracing import is_readable
from eqlib.subgraph._arguments import (
    check_channels,
    check_features,
    check_implementation,
    check_root,
    check_rows,
    check_weights,
    dense_shape,
)
from eqlib.subgraph.features import ORDER_NAMES, Features, features_of
from eqlib.subgraph.maps.basis import basis_count, scalar_count
from eqlib.subgraph.maps.layouts import Dense, Layout, Ragged, Shared
from eqlib.subgraph.maps.products import Terms, apply_terms
from eqlib.subgraph.maps.sizes import SizeScales, nearest_size
from eqlib.subgraph.maps.terms import Term
from eqlib.subgraph.plans.plan import SubgraphPlan
from eqlib.symmetry import (
    EdgeIndex,
    NodeOrder,
    Permutations,
    Representation,
    Scalar,
    Signature,
)

Coefficients = dict[tuple[int, int], Tensor]


class PermutationLinear(nn.Module):
    r"""Linear map between features of pairs, nodes and subgraphs: the most general equivariant one.

    .. math:: y^{(q)} = \sum_p \sum_k B^{(pq)}_k\bigl(x^{(p)}\bigr)\, W^{(pq)}_k
        + \sum_k b^{(q)}_k\, E^{(q)}_k

    with the basis maps :math:`B_k` of :func:`basis_names`, of which there are 15 from pairs to
    pairs, 52 with a root. They are never built: sums over rows, columns and diagonal are taken
    once, and mixed by one product each for pairs, members and subgraphs.

    Args:
        channels_in: number of channels of each order of the input, such as ``{2: 8, 1: 4}``.
        channels_out: the same of the output.
        rooted: use the root of each subgraph: the map then commutes with permutations that leave
            it in its place.
        weights: "shared" by subgraphs of all sizes; "per_size": other ones for each of ``sizes``,
            of which subgraphs of other sizes take the nearest, the smaller of two; or
            "size_embedding": shared ones that a small network of log m scales, map by map.
        sizes: for "per_size".
        bias: learn a bias, which subgraphs of all sizes share.
        normalised: divide each sum over nodes by m, so that outputs keep their size where
            subgraphs grow; otherwise sums are plain.
        implementation: of the sums over ragged pairs, "auto" or one of
            ``eqlib.kernels.pair_linear.NAMES``.

    Raises:
        ValueError: an argument has another value.
        TypeError: an argument has another type.

    Note:
        Weights start normal with a variance of one over the number of maps and channels that a
        feature adds up, so that the outputs of any order have a variance of at most about that of
        the inputs; biases start at zero.
        For m < 4 the basis maps depend on each other (of the 15, at m = 1, 2, 3 only 1, 8 and 14
        are independent): outputs take no notice, but several weights then say the same, and weight
        decay counts them all.
        ``signature`` is that of the dense form; it is None where only scalars go in.

    Source:
        Maron et al., Invariant and Equivariant Graph Networks, ICLR 2019; weights per size: Mitton
        and Murray-Smith, Subgraph Permutation Equivariant Networks, TMLR 2023. Here in factorised
        form, for ragged batches.
    """

    known_sizes: Tensor

    def __init__(
        self,
        channels_in: Mapping[int, int],
        channels_out: Mapping[int, int],
        rooted: bool = False,
        weights: str = "shared",
        sizes: Sequence[int] = (),
        bias: bool = True,
        normalised: bool = True,
        implementation: str = "auto",
    ) -> None:
        super().__init__()
        check_channels("channels_in", channels_in)
        check_channels("channels_out", channels_out)
        check_weights(weights, sizes)
        check_implementation(implementation)
        self.channels_in = dict(sorted(channels_in.items(), reverse=True))
        self.channels_out = dict(sorted(channels_out.items(), reverse=True))
        self.rooted, self.weights, self.normalised = rooted, weights, normalised
        self.implementation = implementation
        self.sizes = tuple(sorted(sizes))
        if self.sizes:  # with the weights, so that those of other sizes are not taken for them
            self.register_buffer("known_sizes", torch.tensor(self.sizes))
        pairs = [(p, q) for p in self.channels_in for q in self.channels_out]
        self.maps = {(p, q): basis_count(p, q, rooted) for p, q in pairs}
        lead = (len(self.sizes),) if self.sizes else ()
        self.weight = nn.ParameterDict()
        for (p, q), count in self.maps.items():
            shape = (*lead, count, self.channels_in[p], self.channels_out[q])
            self.weight[f"{p}_{q}"] = nn.Parameter(torch.empty(shape))
        self.bias = nn.ParameterDict()
        for q, outputs in self.channels_out.items() if bias else ():
            self.bias[str(q)] = nn.Parameter(torch.empty(scalar_count(q, rooted), outputs))
        self.scale: SizeScales | None = None
        if weights == "size_embedding":
            self.scale = SizeScales(sum(self.maps.values()))
        self.signature = self._make_signature()
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew.

        Args:
            generator: source of the weights; by default the global one, as in torch's layers.
        """
        for q in self.channels_out:
            fan = sum(self.maps[p, q] * count for p, count in self.channels_in.items())
            for p in self.channels_in:
                nn.init.normal_(self.weight[f"{p}_{q}"], std=fan**-0.5, generator=generator)
        for bias in self.bias.values():
            nn.init.zeros_(bias)
        if self.scale is not None:
            self.scale.reset_parameters(generator)

    def forward(
        self,
        pairs: Float[Tensor, "*pairs channels_2"] | None = None,
        nodes: Float[Tensor, "*nodes channels_1"] | None = None,
        scalars: Float[Tensor, "*scalars channels_0"] | None = None,
        plan: SubgraphPlan | None = None,
        root: Int[Tensor, "*batch"] | int | None = None,
        size: int | None = None,
    ) -> Features:
        """The mapped features, of the orders in ``channels_out``.

        Args:
            pairs: with a plan (P, C), one row for each pair of each subgraph, as :func:`extract`
                gives them; without one dense (..., m, m, C).
            nodes: (M, C), one row for each member; or dense (..., m, C).
            scalars: (N, C), one row for each subgraph; or dense (..., C).
            plan: the subgraphs; None: features are dense, of subgraphs of one size.
            root: place of the root in each dense subgraph, (...) or one for all; by default 0.
            size: number of nodes m, where dense scalars alone do not tell.

        Raises:
            ValueError: features do not fit the layer, the plan, or each other.
            TypeError: a dtype is not that of the layer, save under autocast.
        """
        found = check_features(Features(pairs, nodes, scalars), self.channels_in, self._like)
        if plan is None:
            return self._map_dense(found, root, size)
        if root is not None or size is not None:
            raise ValueError("root, size: expected none with a plan, which tells them")
        check_rows(found, plan, local=True)
        if self.rooted:
            check_root(plan)
        layout = Ragged(plan, self.rooted, self.implementation)
        return self._map(found, layout, self._terms(plan.sizes))

    def map_shared(self, features: Features, plan: SubgraphPlan) -> Features:
        """Map in all subgraphs at once what they share: rows of the graph.

        The same as mapping the rows that :func:`extract` gives, and averaging pairs and nodes over
        subgraphs as :func:`aggregate` does, with no row for each pair of each subgraph in memory.

        Args:
            features: rows of the graph.
            plan: the subgraphs.

        Returns:
            Pairs and nodes on the level of the graph, scalars on that of the subgraphs.

        Raises:
            ValueError: features do not fit the layer or the plan, or weights are not shared.
            TypeError: a dtype is not that of the layer, save under autocast.
        """
        if self.weights != "shared":
            raise ValueError(f'weights is {self.weights!r}; rows of the graph expect "shared"')
        found = check_features(features, self.channels_in, self._like)
        check_rows(found, plan, local=False)
        if self.rooted:
            check_root(plan)
        if 0 in found:
            found[0] = gather_nodes(found[0], plan.owner)
        layout = Shared(plan, self.rooted, self.implementation, self._like.dtype)
        return self._map(found, layout, self._terms(plan.sizes))

    def coefficients(self, size: int | None = None) -> Coefficients:
        """The weights of the basis maps, (maps, C, S) for each order in and order out.

        Args:
            size: number of nodes of the subgraphs; None with "size_embedding": before scaling.

        Returns:
            Tensors that depend on the parameters, in the order of :func:`basis_names`.

        Raises:
            ValueError: weights differ by size, and there is none.
        """
        found = {key: self.weight["{}_{}".format(*key)] for key in self.maps}
        if self.weights == "per_size":
            if size is None:
                raise ValueError('size is None; weights="per_size" expects the size of subgraphs')
            index = min(range(len(self.sizes)), key=lambda k: abs(self.sizes[k] - size))
            return {key: weight[index] for key, weight in found.items()}
        if self.scale is None or size is None:
            return found
        factors = self._factors(self.scale, torch.full((1,), size, device=self._like.device))
        return {key: weight * factors[key][0, :, None, None] for key, weight in found.items()}

    @torch.no_grad()
    def set_coefficients(self, coefficients: Coefficients, size: int | None = None) -> None:
        """Set the weights of the basis maps, as of another implementation.

        Args:
            coefficients: (maps, C, S) for some pairs of order in and order out, maps in the order
                of :func:`basis_names`; biases are parameters of their own.
            size: with "per_size" the size whose weights these are; None elsewhere, and
                "size_embedding" then scales them.

        Raises:
            ValueError: there is no such pair of orders, a shape is another, or ``size`` is missing
                or unexpected.
        """
        if self.weights != "per_size" and size is not None:
            raise ValueError(f'size is {size}; expected None with weights="{self.weights}"')
        if size is not None and size not in self.sizes:
            raise ValueError(f"size is {size}; expected one of the sizes {self.sizes}")
        known = self.coefficients(size)
        for key, values in coefficients.items():
            if key not in known:
                raise ValueError(
                    f"coefficients has {key}; the layer maps {', '.join(map(str, known))}"
                )
            if values.shape != known[key].shape:
                raise ValueError(
                    f"coefficients[{key}] has shape {tuple(values.shape)}; expected "
                    f"{tuple(known[key].shape)}"
                )
        for key, values in coefficients.items():
            known[key].copy_(values)

    def unseen_sizes(self, plan: SubgraphPlan) -> Int[Tensor, " unseen"]:
        """Sizes of subgraphs that take the weights of the nearest size, as they have none.

        Args:
            plan: the subgraphs.

        Returns:
            The sizes in ascending order; none where weights are not "per_size".
        """
        sizes = plan.sizes.unique()
        if self.weights != "per_size":
            return sizes[:0]
        return sizes[~torch.isin(sizes, self.known_sizes)]

    def extra_repr(self) -> str:
        """Channels and options."""
        parts = [f"{self.channels_in}, {self.channels_out}, rooted={self.rooted}"]
        parts.append(f"weights={self.weights!r}, bias={len(self.bias) > 0}")
        if self.sizes:
            parts.append(f"sizes={self.sizes}")
        return ", ".join([*parts, f"normalised={self.normalised}"])

    @property
    def _like(self) -> Tensor:
        """A parameter, for device and dtype."""
        return next(iter(self.weight.values()))

    def _map(self, found: dict[int, Tensor], layout: Layout, terms: Terms) -> Features:
        biases = {
            q: self.bias[str(q)]
            if self.bias
            else self._like.new_zeros(scalar_count(q, self.rooted), outputs)
            for q, outputs in self.channels_out.items()
        }
        mapped = apply_terms(found, layout, terms, biases, self.normalised)
        # Under autocast some products come in half precision.
        dtype = reduce(torch.promote_types, (rows.dtype for rows in found.values()))
        return features_of({q: rows.to(dtype) for q, rows in mapped.items()})

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *others: Any, **named: Any
    ) -> None:
        """Refuse weights of other sizes."""
        given = state_dict.get(f"{prefix}known_sizes")
        if given is not None and self.sizes and tuple(given.tolist()) != self.sizes:
            raise RuntimeError(
                f"{prefix}known_sizes: the weights are those of sizes {tuple(given.tolist())}; "
                f"the layer has sizes={self.sizes}"
            )
        super()._load_from_state_dict(state_dict, prefix, *others, **named)

    def _map_dense(
        self, found: dict[int, Tensor], root: Tensor | int | None, size: int | None
    ) -> Features:
        batch, nodes = dense_shape(found, size)
        count = prod(batch)
        rows = {
            order: values.reshape(count, *[nodes] * order, values.shape[-1])
            for order, values in found.items()
        }
        if 1 in rows:
            rows[1] = rows[1].flatten(0, 1)
        layout = Dense(nodes, self._dense_root(root, batch, nodes), count, self._like.device)
        terms = {key: Term(weight) for key, weight in self.coefficients(nodes).items()}
        mapped = self._map(rows, layout, terms)
        return features_of(
            {
                order: values.reshape(*batch, *[nodes] * order, values.shape[-1])
                for order, values in mapped.by_order().items()
            }
        )

    def _dense_root(
        self, root: Tensor | int | None, batch: tuple[int, ...], nodes: int
    ) -> Tensor | None:
        if not self.rooted:
            if root is not None:
                raise ValueError("root is given; the layer expects none (rooted=False)")
            return None
        places = torch.as_tensor(0 if root is None else root, device=self._like.device)
        if places.dtype != torch.int64:
            raise TypeError(f"root has dtype {places.dtype}; expected torch.int64: use .long()")
        if places.ndim and places.shape != batch:
            raise ValueError(f"root has shape {tuple(places.shape)}; expected {batch}, or a number")
        if is_readable(places) and places.numel() and prod(batch):
            low, high = (int(bound) for bound in places.aminmax())
            if low < 0 or high >= nodes:
                raise ValueError(
                    f"root has entries from {low} to {high}; expected 0 to {nodes - 1}"
                )
        return places.expand(batch).reshape(-1)

    def _terms(self, sizes: Tensor) -> Terms:
        """The weights that subgraphs of each size have."""
        found = {key: self.weight["{}_{}".format(*key)] for key in self.maps}
        if self.weights == "per_size":
            chosen = nearest_size(sizes, self.known_sizes)
            return {key: Term(weight, size=chosen) for key, weight in found.items()}
        if self.scale is None:
            return {key: Term(weight) for key, weight in found.items()}
        factors = self._factors(self.scale, sizes)
        return {key: Term(weight, scale=factors[key]) for key, weight in found.items()}

    def _factors(self, scale: SizeScales, sizes: Tensor) -> Coefficients:
        """Factor of each map in subgraphs of each size, (subgraphs, maps)."""
        parts = scale(sizes).split(list(self.maps.values()), 1)
        return dict(zip(self.maps, parts, strict=True))

    def _make_signature(self) -> Signature | None:
        if not {1, 2} & self.channels_in.keys():
            return None
        kinds: dict[int, Representation] = {
            2: Scalar() * NodeOrder(-3, -2),
            1: Scalar() * NodeOrder(-2),
            0: Scalar(),
        }
        inputs = {ORDER_NAMES[p]: kinds[p] for p in self.channels_in}
        if self.rooted:
            inputs["root"] = EdgeIndex()
        outputs = {ORDER_NAMES[q]: kinds[q] for q in self.channels_out}
        return Signature(Permutations(), inputs, outputs)
