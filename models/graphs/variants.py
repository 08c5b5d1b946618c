"""The networks whose expressive power is measured, by name."""

import inspect
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch

from eqlib.models.graphs.networks import FAGIN, FAMLP, GAGIN, GIN, MLP, PPGN
from eqlib.models.graphs.networks.base import GraphNetwork
from eqlib.models.graphs.networks.spen import SPEN
from eqlib.usage import unknown


class Variant(NamedTuple):
    """A network and what sets it apart from others of its class."""

    network: type[GraphNetwork]
    options: dict[str, Any]

    def create(self, **options: int) -> GraphNetwork:
        """Return the network in float64.

        Args:
            options: sizes; those that the network does not have are left out.
        """
        known = inspect.signature(self.network).parameters
        given = {name: value for name, value in options.items() if name in known}
        return self.network(**given, **self.options).double()

    def make(self, seed: int, **options: int) -> GraphNetwork:
        """Return the network with weights that a seed decides; see `create`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.create(**options)


_SUMS = {"aggregation": "sum", "read": "sum", "dropout": 0.0}
"""Sums count where means do not; the presets of BREC have these too."""

VARIANTS: dict[str, Variant] = {
    "gin": Variant(GIN, {}),
    "mlp": Variant(MLP, {}),
    "fa_mlp": Variant(FAMLP, {}),
    "fa_gin": Variant(FAGIN, {}),
    "ga_gin": Variant(GAGIN, {}),
    "ppgn": Variant(PPGN, {}),
    "spen": Variant(SPEN, _SUMS),
    "spen_rooted": Variant(SPEN, {**_SUMS, "rooted": True}),
    "spen_polynomials": Variant(SPEN, {**_SUMS, "polynomials": True}),
    "spen_rooted_polynomials": Variant(SPEN, {**_SUMS, "rooted": True, "polynomials": True}),
    "spen_2hop": Variant(SPEN, {**_SUMS, "hops": 2}),
    "spen_2hop_rooted": Variant(SPEN, {**_SUMS, "hops": 2, "rooted": True}),
    "spen_2hop_polynomials": Variant(SPEN, {**_SUMS, "hops": 2, "polynomials": True}),
    "spen_2hop_rooted_polynomials": Variant(
        SPEN, {**_SUMS, "hops": 2, "rooted": True, "polynomials": True}
    ),
}


def check_variants(names: Iterable[str]) -> None:
    """Raise a `UsageError` where a name is unknown."""
    for name in names:
        if name not in VARIANTS:
            raise unknown("model", name, VARIANTS)
