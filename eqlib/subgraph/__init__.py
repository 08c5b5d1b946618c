"""Permutation-equivariant layers on subgraphs."""

from eqlib.subgraph.features import Features
from eqlib.subgraph.graphs import from_data, to_data
from eqlib.subgraph.layers import (
    FeatureBatchNorm,
    FeatureGraphNorm,
    Pointwise,
    SubgraphAttention,
    SubgraphLayer,
    aggregate,
    extract,
    pool,
)
from eqlib.subgraph.maps import (
    PermutationLinear,
    basis_count,
    basis_maps,
    basis_names,
    bias_maps,
    bias_names,
)
from eqlib.subgraph.plans.copies import node_deleted_plan, node_marked_plan, whole_graph_plan
from eqlib.subgraph.plans.cost import CostWarning, PlanCost
from eqlib.subgraph.plans.custom import custom_plan
from eqlib.subgraph.plans.egos import ego_plan
from eqlib.subgraph.plans.estimate import plan_cost
from eqlib.subgraph.plans.joining import join_plans
from eqlib.subgraph.plans.pairs import pair_features
from eqlib.subgraph.plans.plan import SubgraphPlan
from eqlib.subgraph.polynomials import (
    Multigraph,
    contraction_order,
    is_computable,
    multigraphs,
    polynomial_features,
)
from eqlib.subgraph.representations import FeatureRows, PlanIndex

__all__ = [
    "CostWarning",
    "FeatureBatchNorm",
    "FeatureGraphNorm",
    "FeatureRows",
    "Features",
    "Multigraph",
    "PermutationLinear",
    "PlanCost",
    "PlanIndex",
    "Pointwise",
    "SubgraphAttention",
    "SubgraphLayer",
    "SubgraphPlan",
    "aggregate",
    "basis_count",
    "basis_maps",
    "basis_names",
    "bias_maps",
    "bias_names",
    "contraction_order",
    "custom_plan",
    "ego_plan",
    "extract",
    "from_data",
    "is_computable",
    "join_plans",
    "multigraphs",
    "node_deleted_plan",
    "node_marked_plan",
    "pair_features",
    "plan_cost",
    "polynomial_features",
    "pool",
    "to_data",
    "whole_graph_plan",
]
