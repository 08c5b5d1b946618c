"""How permutations act on arguments that are no tensors but hold the structure of a graph."""

from abc import abstractmethod
from typing import Any

from torch import Tensor

from eqlib.symmetry.elements import Element
from eqlib.symmetry.representations import Representation


class Structure(Representation):
    """How permutations act on an argument that is no tensor, such as a plan of subgraphs.

    It tells which nodes there are. Rows of tensors may be in an order of its own: their
    representations :meth:`bind` to it.
    """

    @abstractmethod
    def act(self, element: Element, tensor: Any) -> Any:
        """The structure of the graph with other numbers of its nodes.

        Args:
            element: a single one; all but its permutation does nothing.
            tensor: the structure.
        """

    @abstractmethod
    def batch_of(self, structure: Any) -> Tensor:
        """The graph of each node, (nodes,) and sorted.

        Args:
            structure: of this kind.
        """
