"""From the graph to its subgraphs and back: features are gathered, and averaged or summed."""

from eqlib.geometry import gather_nodes
from eqlib.subgraph._arguments import check_how, check_levels
from eqlib.subgraph.features import Features, features_of
from eqlib.subgraph.levels import How, join_copies, row_of_graph
from eqlib.subgraph.plans.plan import SubgraphPlan


def extract(features: Features, plan: SubgraphPlan) -> Features:
    r"""Features of the subgraphs: those that the graph has for the same nodes.

    .. math:: A^e_{ij} = X_{v_i v_j}, \qquad x^e_i = x_{v_i}, \qquad z^e = z_{\text{owner}(e)}

    Args:
        features: rows of the graph: (G, C) for the stored pairs of nodes, (n, C) for the nodes, and
            (owners, C) for what the subgraphs belong to: their centers, or their graphs where the
            plan has no centers.
        plan: the subgraphs.

    Returns:
        Rows of the subgraphs: (P, C), (M, C), (N, C).

    Raises:
        ValueError: the features have other rows.
    """
    found = check_levels(features, plan, local=False)
    rows = {order: gather_nodes(x, row_of_graph(plan, order)) for order, x in found.items()}
    return features_of(rows)


def aggregate(features: Features, plan: SubgraphPlan, how: How = "mean") -> Features:
    r"""Features of the graph: the mean or the sum over the subgraphs that hold a pair or a node.

    .. math:: X_{uv} = \frac1{|\{e \ni u, v\}|} \sum_{e \ni u, v} A^e_{uv}

    The sum tells in how many subgraphs a pair is; the mean does not, and undoes :func:`extract`.

    Args:
        features: rows of the subgraphs, as :func:`extract` gives them.
        plan: the subgraphs.
        how: "mean" or "sum".

    Returns:
        Rows of the graph, as :func:`extract` takes them; 0 for nodes and owners without subgraph.

    Raises:
        ValueError: the features have other rows, or ``how`` another value.
    """
    check_how(how)
    found = check_levels(features, plan, local=True)
    return features_of({order: join_copies(x, plan, order, how) for order, x in found.items()})
