"""Message passing between particles, shared by the networks."""

from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from eqlib.geometry import gather_nodes, segment_sum
from eqlib.models.nbody.networks.base import Particles


def multilayer_perceptron(*widths: int, activate_last: bool = False) -> nn.Sequential:
    """Return linear layers of these widths with SiLU between them and, on request, at the end."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.SiLU()]
    return nn.Sequential(*layers if activate_last else layers[:-1])


def pair_invariants(particles: Particles) -> Float[Tensor, "edges 2"]:
    """Return the product of charges and the squared distance on every edge."""
    points, charges, source, target = particles[:1] + particles[2:5]
    difference = gather_nodes(points, target) - gather_nodes(points, source)
    square = (difference * difference).sum(-1)
    return torch.stack([gather_nodes(charges, target) * gather_nodes(charges, source), square], -1)


class PairLinear(nn.Module):
    r"""A linear map of :math:`[h_i, h_j, e_{ij}]` on the edges j → i, summed from its three parts.

    The parts of the nodes are computed once per node, before they are gathered: with many edges per
    node this saves most of the multiplications, at equal values.

    Args:
        nodes: width of the node features.
        edges: width of the edge features.
        out: width of the result.
    """

    def __init__(self, nodes: int, edges: int, out: int) -> None:
        super().__init__()
        joint = nn.Linear(2 * nodes + edges, out)
        self.weight, self.bias = joint.weight, joint.bias
        self.widths = [nodes, nodes, edges]

    def forward(
        self,
        node_features: Float[Tensor, "nodes *frames channels"],
        edge_features: Float[Tensor, "edges *frames_or_one width"],
        source: Int[Tensor, "edges"],
        target: Int[Tensor, "edges"],
    ) -> Float[Tensor, "edges *frames out"]:
        """Return the map on every edge."""
        to_target, to_source, to_edge = self.weight.split(self.widths, dim=1)
        return (
            gather_nodes(functional.linear(node_features, to_target), target)
            + gather_nodes(functional.linear(node_features, to_source), source)
            + functional.linear(edge_features, to_edge, self.bias)
        )


class MessagePassing(nn.Module):
    r"""One residual round of messages.

    .. math:: m_{ij} = \phi_e(h_i, h_j, e_{ij}), \qquad
        h_i \leftarrow h_i + \phi_h\bigl(h_i, \textstyle\sum_j m_{ij}\bigr)

    Args:
        width: width of node features and messages.
        edges: width of the edge features.
    """

    def __init__(self, width: int, edges: int) -> None:
        super().__init__()
        self.pair = PairLinear(width, edges, width)
        self.message = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.update = multilayer_perceptron(2 * width, width, width)

    def forward(
        self,
        node_features: Float[Tensor, "nodes *frames channels"],
        edge_features: Float[Tensor, "edges *frames_or_one width"],
        source: Int[Tensor, "edges"],
        target: Int[Tensor, "edges"],
    ) -> Float[Tensor, "nodes *frames channels"]:
        """Return the updated node features."""
        message = self.message(self.pair(node_features, edge_features, source, target))
        received = segment_sum(message, target, len(node_features))
        return node_features + self.update(torch.cat([node_features, received], -1))
