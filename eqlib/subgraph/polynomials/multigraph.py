"""Multigraphs with output nodes: the names of equivariant polynomials."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from eqlib.subgraph.polynomials.canonical import canonical_order
from eqlib.subgraph.polynomials.names import parse, print_name

Edge = tuple[int, int]


@dataclass(frozen=True)
class Multigraph:
    r"""A multigraph H whose red nodes are the indices of an output: the name of a polynomial.

    .. math:: P_H(X)_{\text{red}} = \sum_{\text{black}} \prod_{(a, b) \in E(H)} X_{ab}.

    The sum runs over all values of the black nodes, equal ones and those of red nodes included.
    Parallel edges are powers of an entry, and a loop is an entry of the diagonal. An edge (a, b) is
    directed only in so far as the matrix X is not symmetric.

    Args:
        nodes: number of nodes, named 0 to ``nodes - 1``.
        edges: pairs of nodes, in any order; repeated pairs are parallel edges.
        red: the output nodes, in the order of the output's axes: none (an output for each graph),
            one (for each node) or two (for each pair of nodes).

    Raises:
        ValueError: an edge or a red node is not among the nodes, a red node is given twice, or
            there are more than two.

    Source:
        Puny et al., Equivariant Polynomials for Graph Neural Networks, ICML 2023.
    """

    nodes: int
    edges: tuple[Edge, ...]
    red: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        edges = tuple(sorted((int(a), int(b)) for a, b in self.edges))
        object.__setattr__(self, "edges", edges)
        object.__setattr__(self, "red", tuple(self.red))
        named = {node for edge in edges for node in edge} | set(self.red)
        if any(not 0 <= node < self.nodes for node in named):
            raise ValueError(
                f"edges, red: name the nodes {sorted(named)}; expected 0 to {self.nodes - 1}: "
                "set nodes to one more than the largest"
            )
        if len(self.red) > 2 or len(set(self.red)) < len(self.red):
            raise ValueError(f"red: got {self.red}; expected at most two nodes, none of them twice")

    @classmethod
    def parse(cls, text: str) -> "Multigraph":
        """Read a multigraph from its name or from its list of edges.

        Names are those of complete graphs, circles, paths and stars ("K4", "C5", "P3" with three
        nodes, "S3" with three leaves), alone or with " rooted" (node 0 is red: an end of a path,
        the centre of a star), complete graphs and circles also with " with a red edge" or " minus
        the red edge" (nodes 0 and 1 are red, joined or not), and paths " with red ends". Edges are
        listed as in "0-1, 1-2, 2-2; red 0, 1".

        Raises:
            ValueError: the text is neither; the message shows both forms.
        """
        return cls(*parse(text))

    def __str__(self) -> str:
        return print_name(self.nodes, self.canonical().edges, len(self.red)) or self.listing

    @property
    def listing(self) -> str:
        """The edges as text, such as "0-1, 1-2; red 0"."""
        edges = ", ".join(f"{a}-{b}" for a, b in self.edges)
        return edges + (f"; red {', '.join(map(str, self.red))}" if self.red else "")

    @property
    def degree(self) -> int:
        """Degree of the polynomial: the number of edges."""
        return len(self.edges)

    @property
    def black(self) -> tuple[int, ...]:
        """The nodes that are summed over."""
        return tuple(node for node in range(self.nodes) if node not in self.red)

    @property
    def is_simple(self) -> bool:
        """Whether there are neither loops nor parallel edges, whatever their direction."""
        pairs = {frozenset(edge) for edge in self.edges}
        return len(pairs) == len(self.edges) and all(len(pair) == 2 for pair in pairs)

    @property
    def is_connected(self) -> bool:
        """Whether a path joins any two nodes; the graph without nodes is connected."""
        reached, ahead = {0}, [0]
        while ahead:
            node = ahead.pop()
            near = {a + b - node for a, b in self.edges if node in (a, b)} - reached
            reached |= near
            ahead += near
        return self.nodes == 0 or len(reached) == self.nodes

    def canonical(self, directed: bool = False) -> "Multigraph":
        """Return the multigraph that all isomorphic ones share: red nodes first, in their order.

        Args:
            directed: whether the direction of edges counts; otherwise they run from the smaller
                node to the larger.
        """
        return self._directed if directed else self._undirected

    @cached_property
    def _directed(self) -> "Multigraph":
        return self._canonical(directed=True)

    @cached_property
    def _undirected(self) -> "Multigraph":
        return self._canonical(directed=False)

    def _canonical(self, directed: bool) -> "Multigraph":
        colours = [
            self.red.index(node) if node in self.red else len(self.red)
            for node in range(self.nodes)
        ]
        counts = Counter(self.edges)
        if not directed:
            counts += Counter((b, a) for a, b in self.edges if a != b)
        matrix = [[counts[a, b] for b in range(self.nodes)] for a in range(self.nodes)]
        place = {node: rank for rank, node in enumerate(canonical_order(matrix, colours))}
        moved = [(place[a], place[b]) for a, b in self.edges]
        if not directed:
            moved = [(min(edge), max(edge)) for edge in moved]
        return Multigraph(self.nodes, tuple(moved), tuple(range(len(self.red))))
