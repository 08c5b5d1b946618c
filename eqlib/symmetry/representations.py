"""How group elements act on tensors: scalars, vectors, points, and the products of these."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from eqlib.symmetry.elements import Element
from eqlib.symmetry.group import Group


class Representation(ABC):
    """How a group acts on one kind of tensor.

    The batch axes of an element are the first axes of the tensor. The result has the dtype of the
    tensor, but is computed in the higher precision of tensor and element. ``node_axes`` are the
    axes of the tensor that permutations act on.
    """

    node_axes: tuple[int, ...] = ()

    @abstractmethod
    def act(self, element: Element, tensor: Tensor) -> Tensor:
        """The tensor after ``element`` has acted on it.

        Args:
            element: a batch of elements; parts that it lacks do nothing.
            tensor: of this kind; its first axes are the batch axes of ``element``.
        """

    @abstractmethod
    def validate(self, name: str, tensor: Tensor, group: Group) -> None:
        """Refuse a tensor that cannot be of this kind.

        Args:
            name: what the messages call the tensor.
            tensor: the tensor.
            group: the group that is to act on it.

        Raises:
            ValueError: the tensor has the wrong shape or wrong values.
            TypeError: the tensor has the wrong dtype.
        """

    def check_group(self, name: str, group: Group) -> None:  # noqa: B027 - most accept all
        """Refuse a group that has no such representation.

        Args:
            name: what the message calls the tensor.
            group: the group that is to act on it.

        Raises:
            ValueError: the group does not act on this kind of tensor.
        """

    def contains(self, kind: type["Representation"]) -> bool:
        """Whether this representation, or a factor of it, is of one kind."""
        return isinstance(self, kind)

    def bind(self, inputs: Mapping[str, object]) -> "Representation":
        """The representation in one call of a map; most are the same in all calls.

        Args:
            inputs: all arguments of the call by name: some rows have their order from another one.

        Raises:
            TypeError: an argument that this representation needs is missing or of another type.
        """
        return self

    def __mul__(self, other: "Representation") -> "RepresentationProduct":
        """The representation in which both act on the same tensor."""
        return RepresentationProduct((self,)) * other


@dataclass(frozen=True, repr=False)
class RepresentationProduct(Representation):
    """Representations that act on different axes of one tensor: ``Point() * NodeOrder(-2)``.

    Args:
        factors: at most one of them acts on the components of the tensor.

    Raises:
        ValueError: two factors act on components, or permutations act on a component axis.
        TypeError: a factor is no representation.
    """

    factors: tuple[Representation, ...]

    def __post_init__(self) -> None:
        for factor in self.factors:
            if not isinstance(factor, Representation):
                raise TypeError(f"factors: expected representations, got {factor!r}")
        components = [factor for factor in self.factors if isinstance(factor, Components)]
        if len(components) > 1:
            raise ValueError(
                f"{self!r}: both {components[0]!r} and {components[1]!r} act on the components; "
                "give each kind of tensor a name of its own"
            )
        axes = tuple(axis for factor in self.factors for axis in factor.node_axes)
        for component in components:
            for axis in set(component.component_axes).intersection(axes):
                raise ValueError(
                    f"{self!r}: axis {axis} holds the components of {component!r}; name the axis "
                    f"of the nodes, such as NodeOrder({min(component.component_axes) - 1})"
                )
        object.__setattr__(self, "node_axes", axes)

    def __repr__(self) -> str:
        return " * ".join(map(repr, self.factors))

    def __mul__(self, other: Representation) -> "RepresentationProduct":
        """The representation in which all factors of both act."""
        others = other.factors if isinstance(other, RepresentationProduct) else (other,)
        return RepresentationProduct((*self.factors, *others))

    def contains(self, kind: type[Representation]) -> bool:
        """Whether a factor is of one kind."""
        return any(factor.contains(kind) for factor in self.factors)

    def bind(self, inputs: Mapping[str, object]) -> "RepresentationProduct":
        """The product of the factors, each bound."""
        return RepresentationProduct(tuple(factor.bind(inputs) for factor in self.factors))

    def act(self, element: Element, tensor: Tensor) -> Tensor:
        """All factors act, one after the other."""
        for factor in self.factors:
            tensor = factor.act(element, tensor)
        return tensor

    def check_group(self, name: str, group: Group) -> None:
        """Each factor checks the group."""
        for factor in self.factors:
            factor.check_group(name, group)

    def validate(self, name: str, tensor: Tensor, group: Group) -> None:
        """Each factor checks the tensor, and no axis of nodes may hold components."""
        for factor in self.factors:
            factor.validate(name, tensor, group)
        nodes = {axis % tensor.ndim for axis in self.node_axes}
        for factor in self.factors:
            axes = factor.component_axes if isinstance(factor, Components) else ()
            if nodes & {axis % tensor.ndim for axis in axes}:
                raise ValueError(
                    f"{name}: in {self!r}, the nodes and the components have one axis of shape "
                    f"{tuple(tensor.shape)} in common"
                )


class Components(Representation):
    """The base of representations of rotations, reflections and translations.

    ``component_axes`` are the axes, counted from the end, whose entries are the components: the
    last one, none for numbers.
    """

    component_axes: tuple[int, ...] = (-1,)

    def size(self, group: Group) -> int | None:
        """Number of components, None if any number will do."""
        return group.dimension

    def validate(self, name: str, tensor: Tensor, group: Group) -> None:
        """Refuse integers and a wrong number of components."""
        self.check_group(name, group)
        self._require_floating(name, tensor)
        size = self.size(group)
        # `size not in (None, ...)` takes the wrong branch where torch.compile has a dynamic size
        wrong = tensor.ndim == 0 or (size is not None and size != tensor.shape[-1])
        if self.component_axes and wrong:
            raise ValueError(
                f"{name}: expected shape (..., {size}) for {self!r} under {group!r}, "
                f"got {tuple(tensor.shape)}"
            )

    def _require_rotations(self, name: str, group: Group) -> None:
        """Refuse groups whose matrices are not rotations of 3-D space, up to signs and scales."""
        if group.dimension not in (None, 3):
            raise ValueError(f"{name}: {self!r} needs a group of dimension 3, got {group!r}")
        if group.preserves not in ("lengths", "angles"):
            raise ValueError(
                f"{name}: {self!r} turns with rotations and reflections, but {group!r} has other "
                "matrices; use Vector() or Scalar(), or a group of isometries or similarities"
            )

    def _require_floating(self, name: str, tensor: Tensor) -> None:
        if not tensor.is_floating_point():
            raise TypeError(
                f"{name}: {self!r} needs floating-point numbers, got {tensor.dtype}; "
                "convert with .to(torch.get_default_dtype())"
            )


@dataclass(frozen=True)
class Scalar(Components):
    """Numbers that no motion of space changes, of any dtype: charges, energies, masks."""

    component_axes = ()

    def act(self, element: Element, tensor: Tensor) -> Tensor:
        """The tensor itself."""
        return tensor

    def validate(self, name: str, tensor: Tensor, group: Group) -> None:
        """Every tensor will do."""


@dataclass(frozen=True)
class Pseudoscalar(Components):
    """Numbers that change sign with the determinant of the matrix: chirality, signed angles."""

    component_axes = ()

    def act(self, element: Element, tensor: Tensor) -> Tensor:
        r"""The numbers :math:`\operatorname{sign}(\det M)\, s`."""
        return _signed(element, tensor).to(tensor.dtype)


@dataclass(frozen=True)
class Vector(Components):
    """Vectors, components in the last axis: velocities, forces, differences of points."""

    def act(self, element: Element, tensor: Tensor) -> Tensor:
        r"""The vectors :math:`M v`."""
        return _rotated(element, tensor).to(tensor.dtype)


@dataclass(frozen=True)
class Pseudovector(Components):
    """Axial vectors, components in the last axis: angular momenta, magnetic fields.

    Under similarities they scale as vectors do, so a cross product of two vectors, which scales
    with the square, is one only under isometries. Linear and affine groups have none.
    """

    def check_group(self, name: str, group: Group) -> None:
        """Refuse linear and affine groups."""
        if group.preserves == "lines":
            raise ValueError(
                f"{name}: {self!r} has no meaning under {group!r}, whose matrices change angles; "
                "use Vector(), or a group of isometries or similarities"
            )

    def act(self, element: Element, tensor: Tensor) -> Tensor:
        r"""The vectors :math:`\operatorname{sign}(\det M)\, M v`."""
        return _signed(element, _rotated(element, tensor)).to(tensor.dtype)


@dataclass(frozen=True)
class Point(Components):
    """Positions, coordinates in the last axis: the representation that translations move."""

    def act(self, element: Element, tensor: Tensor) -> Tensor:
        r"""The points :math:`M x + t`."""
        points = _rotated(element, tensor)
        if element.translation is not None:
            translation = element.translation.to(tensor.device)
            points = points + spread(translation, points, own_axes=1)
        return points.to(tensor.dtype)


def rotate_rows(matrix: Tensor, tensor: Tensor) -> Tensor:
    """Apply matrices (*batch, d, d) to the last axis of a tensor (*batch, ..., d).

    Args:
        matrix: one matrix per entry of the batch.
        tensor: rows that the matrix of their batch entry acts on.

    Returns:
        The tensor in the higher precision of both.

    Raises:
        ValueError: the shapes do not fit.
    """
    axes = matrix.ndim - 2
    if tensor.shape[:axes] != matrix.shape[:-2] or tensor.shape[-1:] != matrix.shape[-1:]:
        raise ValueError(
            f"tensor: shape {tuple(tensor.shape)} does not fit matrices of shape "
            f"{tuple(matrix.shape)}: their batch axes come first, their columns last"
        )
    dtype = torch.promote_types(matrix.dtype, tensor.dtype)
    rows = (*tensor.shape[:axes], prod(tensor.shape[axes:-1]), tensor.shape[-1])
    matrix = matrix.to(tensor.device, dtype)
    return (tensor.to(dtype).reshape(rows) @ matrix.mT).reshape(tensor.shape)


def spread(part: Tensor, tensor: Tensor, own_axes: int) -> Tensor:
    """Insert axes of length 1 after the batch axes, so that ``part`` broadcasts over ``tensor``.

    Args:
        part: per-element values (*batch, *own).
        tensor: values (*batch, ..., *own).
        own_axes: the number of axes after the batch.
    """
    batch = part.ndim - own_axes
    middle = (1,) * (tensor.ndim - part.ndim)
    return part.reshape(*part.shape[:batch], *middle, *part.shape[batch:])


def _rotated(element: Element, tensor: Tensor) -> Tensor:
    return tensor if element.matrix is None else rotate_rows(element.matrix, tensor)


def _signed(element: Element, tensor: Tensor) -> Tensor:
    if element.matrix is None:
        return tensor
    return tensor * spread(element.determinant.to(tensor.device), tensor, own_axes=0)
