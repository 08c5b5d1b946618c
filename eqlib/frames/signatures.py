"""Signatures of networks whose inputs are given relative to origins: of patches and of cells."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from eqlib.symmetry import (
    SO,
    Axial,
    O,
    Point,
    Representation,
    RepresentationProduct,
    Scalar,
    Signature,
    Structure,
    as_group,
)
from eqlib.symmetry.euclidean import EuclideanGroup
from eqlib.symmetry.group import Group, moving_factor
from eqlib.symmetry.representations import Components


def signature_of(
    group: str | Group | None, signature: Signature | None, output: Representation
) -> Signature:
    """The signature that is given, or that of one input of points.

    Args:
        group: has to be that of the signature if both are given; by default SE(3).
        signature: representations of the inputs and outputs.
        output: the one output where there is no signature.

    Raises:
        ValueError: the groups differ, or an input is no tensor.
    """
    if signature is None:
        group = as_group("SE(3)" if group is None else group)
        return Signature(group, inputs={"points": Point()}, outputs=output)
    if group is not None and moving_factor(as_group(group)) != moving_factor(signature.group):
        raise ValueError(
            f"group: {as_group(group)!r} is not that of the signature, {signature.group!r}; "
            "give one of them, or the same"
        )
    for name, kind in signature.inputs.items():
        if isinstance(kind, Structure):
            raise ValueError(
                f"signature: {name!r} is {kind!r}, which frames cannot move; let the backbone make "
                "it of inputs that are tensors"
            )
    return signature


def rotations_of(group: str | Group) -> Group:
    """The group without its translations and permutations.

    Raises:
        ValueError: these are no isometries.
    """
    moving = moving_factor(as_group(group))
    if isinstance(moving, Axial):
        return replace(moving, translations=False)
    if not isinstance(moving, EuclideanGroup):
        raise ValueError(f"group: expected one of isometries, such as SE(3), got {group!r}")
    return (O if moving.reflections else SO)(moving.dimension)


def components_of(kind: Representation) -> Components:
    """What acts on the components, without the order of the nodes."""
    factors = kind.factors if isinstance(kind, RepresentationProduct) else (kind,)
    return next((factor for factor in factors if isinstance(factor, Components)), Scalar())


def relative_signature(signature: Signature, names: Collection[str]) -> Signature:
    """The signature of a network that sees some of the inputs, relative to the one fixed point.

    Args:
        signature: that of all inputs and outputs, with translations and node axes.
        names: the inputs that the network sees.
    """
    outputs = signature.outputs
    return Signature(
        rotations_of(signature.group),
        {name: components_of(signature.inputs[name]) for name in signature.inputs if name in names},
        {name: components_of(kind) for name, kind in outputs.items()}
        if isinstance(outputs, Mapping)
        else components_of(outputs),
    )


def inputs_by_name(
    args: tuple[Any, ...],
    inputs: Mapping[str, Any],
    signature: Signature,
    names: Collection[str],
) -> dict[str, Any]:
    """All inputs by name, whether they came by position or by name.

    Args:
        args: inputs in the order of the signature.
        inputs: inputs by name, those that the signature does not know among them.
        signature: of all inputs.
        names: inputs that have to be tensors, checked by what acts on their components.

    Raises:
        TypeError: an input came twice, is missing, or has the wrong type.
        ValueError: a shape does not fit.
    """
    order = list(signature.inputs)
    named = {**dict(zip(order, args, strict=False)), **inputs}
    if len(args) + len(inputs) != len(named):
        raise TypeError(
            f"inputs: got {len(args)} by position and {', '.join(inputs) or 'none'} by name; "
            f"by position they are {', '.join(order)}, all others go by name"
        )
    for name in names:
        value = named.get(name)
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
        components_of(signature.inputs[name]).validate(name, value, signature.group)
    return named


def in_form_of(result: Any, outputs: Mapping[str, Any], signature: Signature) -> Any:
    """Outputs by name in the form in which a network returned others.

    Args:
        result: what the network returned.
        outputs: by name; a single one is "output".
        signature: says whether there is a single one.
    """
    if isinstance(signature.outputs, Representation):
        return outputs["output"]
    return type(result)(**outputs) if isinstance(result, tuple) else outputs
