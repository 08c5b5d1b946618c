"""Measuring how far a map is from equivariant."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import chain, cycle, islice
from math import inf

import torch

from eqlib.symmetry.arguments import check_inputs, represented_inputs, structured_inputs
from eqlib.symmetry.elements import Element
from eqlib.symmetry.group import Group
from eqlib.symmetry.probe import Probe
from eqlib.symmetry.report import TOLERANCE, EquivarianceReport
from eqlib.symmetry.signature import Signature

NEAR_RADII = 10.0
NEAR_RADII_HALF = 1.0  # ten radii would round half-precision points by more than the tolerance
FAR_RADII = (1e3, 1e6)


def equivariance_error(
    fn: Callable[..., object],
    inputs: Mapping[str, object],
    signature: Signature | None = None,
    samples: int = 8,
    generator: torch.Generator | None = None,
) -> EquivarianceReport:
    r"""Measure the relative equivariance error of a map under elements of its group.

    .. math:: \max |f(\rho_{in}(g) x) - \rho_{out}(g) f(x)| \,/\, \max |f(x)|

    The elements are the identity, pure rotations, reflections, translations and permutations, as
    far as the group has them, and their combinations; likewise scalings by 1/2 to 2, stretches of
    condition number up to 10 and boosts of rapidity up to 1. Translations are up to 10 radii of the
    cloud long (up to 1 radius in half precision). Those of 1e3 and 1e6 radii are reported apart,
    against the rounding error that they make unavoidable; there a map may refuse, by a ValueError,
    points that rounding has moved into a plane or into one place.

    Args:
        fn: any callable that takes the inputs by name and returns a tensor, or a NamedTuple or a
            dict of tensors; a module runs in the mode it is in.
        inputs: tensors by name, and structures such as plans of subgraphs. What the signature does
            not name is passed on unchanged.
        signature: group and representations; by default ``fn.signature``.
        samples: number of elements, at least the number of ``signature.group.kinds``.
        generator: source of the elements; by default a new one with a fixed seed.

    Returns:
        The errors per output and kind of element.

    Raises:
        ValueError: an argument does not fit the signature, or ``fn`` is not deterministic.
        TypeError: an argument has the wrong type, or there is no signature.

    Note:
        The scale :math:`\max |f(x)|` is that of the whole output: give parts of different size
        names of their own. Under groups that change lengths it is that of
        :math:`\rho_{out}(g) f(x)`. Point outputs are taken relative to the centroid of their cloud,
        and their scale is at least the radius of the input cloud. An output that is zero is
        compared absolutely, but one that is zero only up to rounding is reported as wrong. NaN or
        infinity is an infinite error; an empty output has no error.

        The map is called as it is: in its mode, with running statistics updated in training mode,
        and with gradients recorded, since some maps differentiate inside (``torch.no_grad()`` saves
        that memory). The random state of torch is restored.
    """
    signature = _signature_of(fn, signature)
    check_inputs(fn, inputs, signature)
    bound = signature.bind(inputs)
    structures = structured_inputs(inputs, bound)
    tensors = represented_inputs(inputs, structures, bound)
    kinds = _kinds(signature.group, samples)
    generator = generator or torch.Generator().manual_seed(0)
    devices = {tensor.get_device() for tensor, _ in tensors.values() if tensor.is_cuda}
    with torch.random.fork_rng(devices=sorted(devices)):
        probe = Probe(fn, inputs, tensors, structures, bound)
        return replace(_measure(probe, kinds, generator), signature=signature)


def assert_equivariant(
    fn: Callable[..., object],
    inputs: Mapping[str, object],
    signature: Signature | None = None,
    tolerance: float | None = None,
    samples: int = 8,
    generator: torch.Generator | None = None,
) -> None:
    """Raise unless a map is equivariant; the arguments are those of ``equivariance_error``.

    Args:
        fn: any callable that takes the inputs by name.
        inputs: tensors by name.
        signature: group and representations; by default ``fn.signature``.
        tolerance: largest relative error; by default that of the dtype in ``TOLERANCE``.
        samples: number of group elements.
        generator: source of the elements; by default a new one with a fixed seed.

    Raises:
        AssertionError: the largest error exceeds the tolerance; the message is the report.
        ValueError: an argument does not fit the signature, ``fn`` is not deterministic, or the
            signature is approximate and there is no tolerance.
        TypeError: an argument has the wrong type, or there is no signature.
    """
    signature = _signature_of(fn, signature)
    if tolerance is None and not signature.exact:
        raise ValueError("tolerance: the signature is approximate, so state the largest error")
    report = equivariance_error(fn, inputs, signature, samples, generator)
    if tolerance is not None:
        report = replace(report, tolerance=tolerance)
    if not report.passed:
        raise AssertionError(str(report))


def _signature_of(fn: Callable[..., object], signature: Signature | None) -> Signature:
    signature = getattr(fn, "signature", None) if signature is None else signature
    if not isinstance(signature, Signature):
        raise TypeError(
            f"signature: expected a Signature, got {signature!r}; "
            "pass one, or give the map an attribute of this name"
        )
    return signature


def _kinds(group: Group, samples: int) -> list[str]:
    """The kinds of the elements to draw: each kind once, then the fullest ones again."""
    if samples < len(group.kinds):
        raise ValueError(
            f"samples: {group!r} has {len(group.kinds)} kinds of elements "
            f"({', '.join(group.kinds)}), so at least as many samples are needed, got {samples}"
        )
    return list(islice(chain(group.kinds, cycle(group.full_kinds)), samples))


def _measure(probe: Probe, kinds: list[str], generator: torch.Generator) -> EquivarianceReport:
    if probe.dtype not in TOLERANCE:
        raise TypeError(f"inputs: there is no tolerance for {probe.dtype}")
    radii = NEAR_RADII if torch.finfo(probe.dtype).eps < 1e-4 else NEAR_RADII_HALF
    reach = radii * (probe.radius or 1.0)
    group = probe.signature.group
    elements = group.sample(generator, len(kinds), kinds=kinds, reach=reach, batch=probe.batch)
    errors: dict[str, dict[str, list[float]]] = {name: {} for name in probe.expected}
    for index, kind in enumerate(elements.kinds):
        for name, error in probe.errors(elements[index]).items():
            errors[name].setdefault(kind, []).append(error)
            if index == 0 and TOLERANCE[probe.dtype] < error < inf:
                raise ValueError(
                    f"fn: the map is not deterministic: output {name!r} differs by {error:.1e} "
                    "between two calls with the same inputs; call .eval() on a module with dropout"
                )
    return EquivarianceReport(
        signature=probe.signature,
        dtype=probe.dtype,
        tolerance=TOLERANCE[probe.dtype],
        errors=errors,
        far=_far_translations(probe, generator),
        unchecked=probe.unchecked,
    )


def _far_translations(probe: Probe, generator: torch.Generator) -> dict[str, dict[float, float]]:
    """Errors under far translations, in units of the rounding that these make unavoidable."""
    found: dict[str, dict[float, float]] = {name: {} for name in probe.expected}
    limits = torch.finfo(probe.dtype)
    translation = probe.signature.group.sample(generator, batch=probe.batch)[0].translation
    if translation is None:
        return found
    direction = torch.nn.functional.normalize(translation, dim=-1)
    for radii in FAR_RADII:
        length = radii * probe.radius
        if 0 < length < limits.max / 10:
            try:
                errors = probe.errors(Element(translation=length * direction))
            except ValueError:  # the map refuses what rounding has left of the cloud
                errors = dict.fromkeys(found, inf)
            for name, error in errors.items():
                found[name][radii] = error / (limits.eps * radii)
    return found
