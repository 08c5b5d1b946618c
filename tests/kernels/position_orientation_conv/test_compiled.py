"""The C form: tiles, threads, vectors of any width, and edges whose rows are one."""

from dataclasses import replace
from math import inf, nan

import pytest
import torch

from eqlib.kernels import native
from eqlib.kernels.position_orientation_conv import Arguments, compiled, implementations, naive
from tests.kernels.position_orientation_conv.cases import (
    CASES,
    NAMES,
    TOLERANCE,
    Case,
    close,
)
from tests.kernels.position_orientation_conv.cases import make as make_strided

TILE = 96  # as in the C source
SIZES = {
    "no tile is full": Case(edges=5, orientations=2),
    "one full tile": Case(edges=TILE // 4, radius=inf),
    "a row more": Case(edges=TILE + 1, orientations=1, radius=inf),
    "a tile ends within an edge": Case(edges=50, orientations=7, radius=inf),
    "several panels": Case(edges=9, channels=70, hidden=81, basis=150, orientations=12, pairs=True),
    "one node": Case(edges=3, sources=1, targets=1, pairs=True),
    "no columns": Case("axes", m=0, scalars=0, orientations=2),
    "no scalars": Case(scalars=0, orientations=6, pairs=True),
    "one axis": Case("axes", m=1, degree=5, pairs=True),
    "four dimensions": Case("axes", n=4, m=4, degree=2),
}
EVERY = CASES | SIZES
cases = pytest.mark.parametrize("case", EVERY.values(), ids=EVERY.keys())
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
WANTS = {
    "all": [True] * 9,
    "no geometry": [True, False, False, False, *[True] * 5],
    "features": [True, *[False] * 8],
    "offsets": [False, True, *[False] * 7],
    "axes and scalars": [False, False, True, True, *[False] * 5],
    "last layer": [*[False] * 8, True],
    "second layer": [*[False] * 6, True, True, False],
    "none": [False] * 9,
}


@pytest.fixture(autouse=True)
def _needs_a_compiler(rng):
    if reason := compiled.whynot(make(Case(), rng)):
        pytest.skip(reason)


def make(case, rng, dtype=torch.float64):
    """The arguments as the operation hands them on."""
    arguments = make_strided(case, rng, dtype)
    return Arguments(*(p.contiguous() if isinstance(p, torch.Tensor) else p for p in arguments))


def exact(arguments):
    """The arguments in float64."""
    return Arguments(*(t.double() for t in arguments[: len(NAMES)]), *arguments[len(NAMES) :])


def worst(arguments, rng):
    """Names of the results that are not those of the definition in float64."""
    reference = exact(arguments)
    y = naive.convolve(reference)
    grad_y = torch.randn(y.shape, dtype=y.dtype, generator=rng).to(arguments.x.dtype)
    expected = naive.differentiate(grad_y.double(), reference, [True] * len(NAMES))
    tolerance = TOLERANCE[arguments.x.dtype]
    found = compiled.convolve(arguments)
    wrong = [] if close(found, y, tolerance) else ["y"]
    for label, wants in WANTS.items():
        found = compiled.differentiate(grad_y, arguments, wants)
        for name, wanted, a, b in zip(NAMES, wants, found, expected, strict=True):
            if not (close(a, b, tolerance) if wanted else a.numel() == 0):
                wrong.append(f"{name} of {label}")
    return wrong


@dtypes
@cases
def test_matches_the_definition(case, dtype, rng):
    assert worst(make(case, rng, dtype), rng) == []


@pytest.mark.parametrize("threads", [2, 3, 16], ids=lambda count: f"{count} threads")
@pytest.mark.parametrize(
    "name", ["R3xS2", "R3xS2 pairs turned", "R3", "odd sizes", "several panels"]
)
def test_threads_agree_and_repeat_themselves(name, threads, rng, monkeypatch):
    arguments = make(EVERY[name], rng)
    monkeypatch.setattr(compiled, "_threads", lambda arguments: threads)
    assert worst(arguments, rng) == []
    first, again = (
        (compiled.convolve(arguments), *compiled.differentiate(y, arguments, [True] * len(NAMES)))
        for y in [naive.convolve(arguments)] * 2
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Have the source built with other flags."""
    caches = (native.load_library, native.whynot, compiled._library)

    def clear():
        for cached in caches:
            cached.cache_clear()

    def build(*flags):
        monkeypatch.setattr(native, "_TUNING", (flags,))
        monkeypatch.setattr(native.platformdirs, "user_cache_path", lambda name: tmp_path / name)
        clear()

    yield build
    clear()


@pytest.mark.parametrize("flags", [(), ("-mavx2", "-mfma")], ids=["plain", "AVX2"])
@dtypes
def test_vectors_of_any_width(flags, dtype, rng, build):
    if flags and b"avx2" not in native._processor():
        pytest.skip("this processor has no AVX2")
    build(*flags)
    for name in ("R3xS2 pairs", "SE3 turned", "several panels"):
        assert worst(make(EVERY[name], rng, dtype), rng) == []


@dtypes
def test_edges_of_length_zero_have_one_row(dtype, rng):
    arguments = make(Case(edges=60, pairs=True, orientations=6), rng, dtype)
    zero = arguments.source % 2 == arguments.target % 2  # loops, and points that coincide
    assert zero.sum() > 10
    arguments.offsets[zero] = 0
    assert worst(arguments, rng) == []


@dtypes
@pytest.mark.parametrize("name", ["R3xS2 pairs", "R2xS1", "SE3", "R3"])
def test_far_points(name, dtype, rng):
    case = replace(CASES[name], radius=inf)
    arguments = make(case, rng, dtype)
    arguments = arguments._replace(offsets=arguments.offsets * 1e6)
    assert worst(arguments, rng) == []
    far = arguments._replace(radius=2.5)  # nothing is heard but the loop
    assert worst(far, rng) == []


@dtypes
def test_the_window_ends_smoothly(dtype, rng):
    arguments = make(Case(edges=40, radius=1.0), rng, dtype)
    length = torch.linspace(0.9, 1.1, 40, dtype=dtype)[:, None]
    length[20:24] = torch.tensor([[1.0], [1 - 1e-7], [1 + 1e-7], [1.0]])
    directions = torch.nn.functional.normalize(torch.randn(40, 3, dtype=dtype, generator=rng))
    assert worst(arguments._replace(offsets=directions * length), rng) == []


@dtypes
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3, 1e12], ids=str)
def test_activations_of_any_size(scale, dtype, rng):
    arguments = make(Case(), rng, dtype)
    scaled = arguments._replace(b1=arguments.b1 * scale, b2=arguments.b2 * scale)
    assert worst(scaled, rng) == []


@pytest.mark.parametrize("entry", [inf, nan], ids=str)
def test_what_is_not_finite_stays_where_it_is(entry, rng):
    arguments = make(CASES["odd sizes"], rng)
    arguments.x[2, 1, 3] = entry
    y, expected = compiled.convolve(arguments), naive.convolve(arguments)
    assert torch.equal(y.isfinite(), expected.isfinite())
    arguments.w2[3, 2] = entry
    assert not compiled.convolve(arguments)[arguments.target].isfinite().any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_features_are_computed_in_full(dtype, rng):
    arguments = make(CASES["R3xS2 pairs"], rng, torch.float32)
    half = arguments._replace(x=arguments.x.to(dtype))
    full = arguments._replace(x=half.x.float())
    y = compiled.convolve(half)
    assert torch.equal(y, compiled.convolve(full).to(dtype))
    found, expected = (
        compiled.differentiate(y.to(a.x.dtype), a, WANTS["all"]) for a in (half, full)
    )
    assert found[0].dtype == dtype
    assert torch.equal(found[0], expected[0].to(dtype))
    assert all(torch.equal(a, b) for a, b in zip(found[1:], expected[1:], strict=True))


@pytest.mark.unchecked
def test_another_device_is_refused(rng):
    arguments = make(Case(), rng)
    elsewhere = arguments._replace(x=arguments.x.to("meta"))
    with pytest.raises(ValueError, match="it runs on the CPU, not on meta"):
        implementations.load("compiled", elsewhere)
    assert implementations.choose(arguments)[0] == "compiled"
