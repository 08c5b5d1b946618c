"""The named inputs and outputs of a map, checked against its signature."""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from eqlib.symmetry.nodes import EdgeIndex
from eqlib.symmetry.representations import Representation
from eqlib.symmetry.signature import Signature
from eqlib.symmetry.structures import Structure

Represented = tuple[Tensor, Representation]
Structured = tuple[Any, Structure]


def check_inputs(
    fn: Callable[..., object], inputs: Mapping[str, object], signature: Signature
) -> None:
    """Raise unless inputs have the names that a map takes.

    Args:
        fn: the map, which takes the inputs by name.
        inputs: tensors by name, and whatever else ``fn`` takes. An input of the signature may be
            None, and may be missing if ``fn`` has a default for it.
        signature: group and representations.

    Raises:
        ValueError: a name is missing or unknown.
        TypeError: the inputs have no names.
    """
    if not isinstance(inputs, Mapping):
        raise TypeError(
            "inputs: expected tensors by name such as {'points': points}, "
            f"got {type(inputs).__name__}"
        )
    _check_names(fn, inputs, signature)


def structured_inputs(inputs: Mapping[str, object], signature: Signature) -> dict[str, Structured]:
    """The inputs on which permutations act that are no tensors, each with its representation.

    Args:
        inputs: arguments by name.
        signature: group and representations.

    Raises:
        ValueError: an argument has wrong values.
        TypeError: an argument has the wrong type.
    """
    found: dict[str, Structured] = {}
    for name, representation in signature.inputs.items():
        if inputs.get(name) is not None and isinstance(representation, Structure):
            value: Any = inputs[name]
            representation.validate(f"input {name!r}", value, signature.group)
            found[name] = (value, representation)
    return found


def represented_inputs(
    inputs: Mapping[str, object], structures: Mapping[str, Structured], signature: Signature
) -> dict[str, Represented]:
    """The tensors on which the group acts, each with its representation.

    Args:
        inputs: arguments by name.
        structures: those that are no tensors.
        signature: group and representations.

    Raises:
        ValueError: a tensor has a wrong shape or wrong values.
        TypeError: an argument has the wrong type.
    """
    found: dict[str, Represented] = {}
    for name, representation in signature.inputs.items():
        value = inputs.get(name)
        if value is None or name in structures:
            continue
        if not isinstance(value, Tensor):
            raise TypeError(f"input {name!r}: expected a tensor, got {type(value).__name__}")
        representation.validate(f"input {name!r}", value, signature.group)
        if not value.isfinite().all():
            raise ValueError(f"input {name!r}: expected finite numbers, got NaN or infinity")
        found[name] = (value, representation)
    if not found:
        raise ValueError(f"inputs: expected tensors for {', '.join(signature.inputs)}, got none")
    if signature.group.permutations:
        _check_permutable(found, structures, signature)
    return found


def count_nodes(
    tensors: Mapping[str, Represented], structures: Mapping[str, Structured] | None = None
) -> int | None:
    """The number of nodes of all arguments, None if none of them has any.

    Args:
        tensors: arguments with their representations; nodes are those of their axes of nodes.
        structures: the same of arguments that are no tensors.

    Raises:
        ValueError: the numbers differ.
    """
    counts = [
        (tensor.shape[axis], name)
        for name, (tensor, representation) in tensors.items()
        for axis in representation.node_axes
    ]
    for name, (value, structure) in (structures or {}).items():
        counts.append((structure.batch_of(value).shape[0], name))
    if len({count for count, _ in counts}) > 1:
        found = ", ".join(f"{name} has {count}" for count, name in counts)
        raise ValueError(f"the numbers of nodes differ: {found}")
    return counts[0][0] if counts else None


def represented_outputs(
    results: Mapping[str, object], signature: Signature, optional: Collection[str] = ()
) -> dict[str, Represented]:
    """The outputs that the signature names, detached, each with its representation.

    Args:
        results: what the map returned, by name.
        signature: group and representations.
        optional: names of the outputs that may be None, and are then left out.

    Raises:
        ValueError: an output is missing or has a wrong shape.
        TypeError: an output has the wrong type.
    """
    found: dict[str, Represented] = {}
    for name, representation in signature.named_outputs.items():
        if name not in results:
            raise ValueError(
                f"output {name!r} is missing{_nearest(name, results)}; "
                f"the map returned {', '.join(results) or 'nothing'}"
            )
        value = results[name]
        if value is None and name in optional:
            continue
        if not isinstance(value, Tensor):
            raise TypeError(f"output {name!r}: expected a tensor, got {type(value).__name__}")
        if value.is_complex():
            raise TypeError(f"output {name!r}: expected real numbers, got {value.dtype}")
        representation.validate(f"output {name!r}", value, signature.group)
        found[name] = (value.detach(), representation)
    return found


def results_by_name(result: object, signature: Signature) -> Mapping[str, object]:
    """What a map returned, by name; a single unnamed output is called "output".

    Args:
        result: a tensor, a NamedTuple or a dict.
        signature: tells whether the outputs have names.

    Raises:
        TypeError: the outputs have no names but the signature names them, or the reverse.
    """
    if isinstance(signature.outputs, Representation):
        if isinstance(result, Tensor):
            return dict.fromkeys(signature.named_outputs, result)
        expected = "one tensor, as the signature has one unnamed output"
    else:
        if isinstance(result, Mapping):
            return result
        if isinstance(result, tuple) and hasattr(result, "_asdict"):
            return result._asdict()
        expected = f"a NamedTuple or a dict with {', '.join(signature.outputs)}"
    raise TypeError(f"outputs: expected {expected}, got {type(result).__name__}")


def _check_names(
    fn: Callable[..., object], inputs: Mapping[str, object], signature: Signature
) -> None:
    keywords = _keywords(fn)
    optional = {name for name, has_default in (keywords or {}).items() if has_default}
    known = {*signature.inputs, *(inputs if keywords is None else keywords)}
    unknown = [name for name in inputs if name not in known]
    for name in signature.inputs:
        if name not in inputs and name not in optional:
            raise ValueError(
                f"input {name!r} is missing{_nearest(name, unknown)}; "
                f"the signature has {', '.join(signature.inputs)}"
            )
    if unknown:
        raise ValueError(
            f"input {unknown[0]!r} is unknown{_nearest(unknown[0], known)}; "
            f"the map takes {', '.join(sorted(known))}"
        )


def _keywords(fn: Callable[..., object]) -> dict[str, bool] | None:
    """The names that ``fn`` takes and whether each has a default; None if it takes any."""
    try:
        signature = inspect.signature(fn.forward if isinstance(fn, nn.Module) else fn)
    except (TypeError, ValueError):  # some builtins have none
        return None
    parameters = signature.parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return {p.name: p.default is not p.empty for p in parameters}


def _check_permutable(
    inputs: Mapping[str, Represented], structures: Mapping[str, Structured], signature: Signature
) -> None:
    nodes = count_nodes(inputs, structures)
    if nodes is None:
        raise ValueError(
            f"inputs: {signature.group!r} permutes nodes, but none of {', '.join(inputs)} has any"
        )
    for name, (tensor, representation) in inputs.items():
        if representation.contains(EdgeIndex) and tensor.numel():
            low, high = int(tensor.min()), int(tensor.max())
            if low < 0 or high >= nodes:
                raise ValueError(
                    f"input {name!r}: expected node indices in 0 ... {nodes - 1}, "
                    f"got {low} ... {high}"
                )


def _nearest(name: str, names: Iterable[str]) -> str:
    near = get_close_matches(name, list(names), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
