"""Weights that depend on the number of nodes of a subgraph."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

HIDDEN = 16
"""Width of the network of the logarithm of the size."""


class SizeScales(nn.Module):
    """Factors of basis maps that a small network makes of the logarithm of the size.

    All factors start at one. Between and beyond the sizes seen in training they change smoothly.

    Args:
        factors: their number.
    """

    def __init__(self, factors: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(1, HIDDEN)
        self.activation = nn.SiLU()
        self.output = nn.Linear(HIDDEN, factors)
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew.

        Args:
            generator: source of the weights; by default the global one.
        """
        nn.init.normal_(self.hidden.weight, generator=generator)
        nn.init.normal_(self.hidden.bias, generator=generator)
        nn.init.zeros_(self.output.weight)
        nn.init.ones_(self.output.bias)

    def forward(self, sizes: Int[Tensor, "subgraphs"]) -> Float[Tensor, "subgraphs factors"]:
        """The factors for subgraphs of each size.

        Args:
            sizes: numbers of nodes.
        """
        logarithms = sizes.clamp(min=1).to(self.hidden.weight.dtype).log()[:, None]
        return self.output(self.activation(self.hidden(logarithms)))


def nearest_size(
    sizes: Int[Tensor, "subgraphs"], known: Int[Tensor, "known"]
) -> Int[Tensor, "subgraphs"]:
    """Place of the nearest known size, of the smaller one where two are as near.

    Args:
        sizes: numbers of nodes.
        known: in ascending order.
    """
    return torch.searchsorted(known[1:] + known[:-1], 2 * sizes)
