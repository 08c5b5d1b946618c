"""Networks that predict the motion of charged particles."""

from eqlib.models.nbody.networks.egnn import EGNN
from eqlib.models.nbody.networks.fa_gnn import FAGNN
from eqlib.models.nbody.networks.gaunt_net import GauntNet
from eqlib.models.nbody.networks.gnn import GNN
from eqlib.models.nbody.networks.linear import Linear

__all__ = ["EGNN", "FAGNN", "GNN", "GauntNet", "Linear"]
