"""Signatures: which group acts how on the named inputs and outputs of a layer."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from eqlib.symmetry.group import Group
from eqlib.symmetry.representations import Representation
from eqlib.symmetry.structures import Structure


@dataclass(frozen=True, repr=False)
class Signature:
    r"""The symmetry of a map: :math:`f(\rho_{in}(g) x) = \rho_{out}(g) f(x)` for all :math:`g`.

    Args:
        group: the group that acts.
        inputs: representation of each named input; what is not named here is not transformed.
        outputs: representation of the output, or of each named output. One may be None where the
            input of its name is.
        exact: whether the symmetry holds to rounding; False for layers that approximate it on a
            grid, by quadrature or by samples.

    Raises:
        TypeError: an argument is of another type.
        ValueError: there are no inputs or no outputs, the group has no such representation, or it
            permutes nodes but no input has any.
    """

    group: Group
    inputs: Mapping[str, Representation]
    outputs: Representation | Mapping[str, Representation]
    exact: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.group, Group):
            raise TypeError(
                f"group: expected a group such as SE(3), got {self.group!r}; "
                "as_group reads a group from its name"
            )
        object.__setattr__(self, "inputs", _representations("inputs", self.inputs))
        if not isinstance(self.outputs, Representation):
            object.__setattr__(self, "outputs", _representations("outputs", self.outputs))
        for argument, named in (("inputs", self.inputs), ("outputs", self.named_outputs)):
            for name, representation in named.items():
                representation.check_group(f"{argument}: {name!r}", self.group)
        for name, representation in self.named_outputs.items():
            if isinstance(representation, Structure):
                raise ValueError(f"outputs: {name!r} is {representation!r}; only inputs can be")
        with_nodes = (r.node_axes or isinstance(r, Structure) for r in self.inputs.values())
        if self.group.permutations and not any(with_nodes):
            raise ValueError(
                f"inputs: {self.group!r} permutes nodes, but no input has any; "
                "name their axis, such as Point() * NodeOrder(-2)"
            )

    def __repr__(self) -> str:
        exact = "" if self.exact else "    exact=False,\n"
        return (
            f"Signature(\n    {self.group!r},\n    inputs={_lines(self.inputs)},\n"
            f"    outputs={_lines(self.outputs)},\n{exact})"
        )

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        """Copy and pickle by the arguments: read-only mappings can do neither."""
        outputs = self.outputs
        if not isinstance(outputs, Representation):
            outputs = dict(outputs)
        return Signature, (self.group, dict(self.inputs), outputs, self.exact)

    def bind(self, inputs: Mapping[str, object]) -> "Signature":
        """The signature in one call of a map, with representations that know its arguments.

        Args:
            inputs: all arguments by name.

        Raises:
            TypeError: an argument that a representation needs is missing or of another type.
        """
        outputs = self.outputs
        return replace(
            self,
            inputs={name: kind.bind(inputs) for name, kind in self.inputs.items()},
            outputs=outputs.bind(inputs)
            if isinstance(outputs, Representation)
            else {name: kind.bind(inputs) for name, kind in outputs.items()},
        )

    @property
    def named_outputs(self) -> Mapping[str, Representation]:
        """The representation of each output; a single one is called "output"."""
        if isinstance(self.outputs, Representation):
            return {"output": self.outputs}
        return self.outputs


def _representations(argument: str, named: object) -> Mapping[str, Representation]:
    """Check and copy the representations of named tensors."""
    if not isinstance(named, Mapping):
        raise TypeError(f"{argument}: expected representations by name, got {named!r}")
    if not named:
        raise ValueError(f"{argument}: expected at least one representation, got none")
    for name, representation in named.items():
        if not isinstance(representation, Representation):
            call = isinstance(representation, type) and issubclass(representation, Representation)
            hint = f"; write {representation.__name__}()" if call else ""
            raise TypeError(
                f"{argument}: {name!r} is no representation but {representation!r}{hint}"
            )
    return MappingProxyType(dict(named))


def _lines(outputs: Representation | Mapping[str, Representation]) -> str:
    if isinstance(outputs, Representation):
        return repr(outputs)
    lines = "".join(f"        {name!r}: {rep!r},\n" for name, rep in outputs.items())
    return f"{{\n{lines}    }}"
