"""Networks that predict the motion of charged particles."""

from eqlib.models.nbody.networks.egnn import EGNN
from eqlib.models.nbody.networks.fa_gnn import FAGNN
from eqlib.models.nbody.networks.gaunt_net import GauntNet
from eqlib.models.nbody.networks.gnn import GNN
from eqlib.models.nbody.networks.integrator import Integrator
from eqlib.models.nbody.networks.linear import Linear
from eqlib.models.nbody.networks.pnita import PNITA
from eqlib.models.nbody.networks.ponita import PONITA

__all__ = ["EGNN", "FAGNN", "GNN", "PNITA", "PONITA", "GauntNet", "Integrator", "Linear"]
