"""The C form: tiles and blocks that are not full, threads, vectors of any width."""

import pytest
import torch

from eqlib.kernels import native
from eqlib.kernels.pair_linear import Pairs, compiled, naive
from eqlib.kernels.pair_linear.arguments import Linear, Reduction, WeightGradient
from eqlib.kernels.pair_linear.implementations import pick, whynot

TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6}
ROWS = {
    "no pair at all": [],
    "one pair": [1],
    "loops alone": [1] * 130,
    "no loop but two": [2],
    "empty subgraphs": [0, 3, 0, 0, 2, 0],
    "sizes of molecules": [3, 4, 4, 2, 5, 1, 3, 4],
    "a tile and a row": [14, 1],
    "several blocks": [24, 1, 33],
}
CHANNELS = {
    "1 to 1": (1, 1),
    "5 to 3": (5, 3),
    "8 to 16": (8, 16),
    "17 to 64": (17, 64),
    "70 to 33": (70, 33),
    "16 to 150": (16, 150),
}
rows = pytest.mark.parametrize("sizes", ROWS.values(), ids=ROWS.keys())
widths = pytest.mark.parametrize("channels", CHANNELS.values(), ids=CHANNELS.keys())
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
shared = pytest.mark.parametrize("nodes", [None, 40], ids=["own rows", "shared rows"])
rooted = pytest.mark.parametrize("root", [False, True], ids=["", "rooted"])


@pytest.fixture(autouse=True)
def _needs_a_compiler():
    if reason := compiled.whynot(torch.float64):
        pytest.skip(reason)


def make_pairs(sizes, nodes, root, rng):
    """Subgraphs of some sizes, with rows of their own or with those of so many nodes."""
    size = torch.tensor(sizes, dtype=torch.int64)
    starts, pair_starts = (
        torch.cat([size.new_zeros(1), counts.cumsum(0)]) for counts in (size, size * size)
    )
    subgraph = torch.arange(len(sizes)).repeat_interleave(size)
    of_pair = torch.arange(len(sizes)).repeat_interleave(size * size)
    place = torch.arange(len(of_pair)) - pair_starts[of_pair]
    i, j = place // size[of_pair], place % size[of_pair]
    row, column = starts[of_pair] + i, starts[of_pair] + j
    roots = None
    if root:
        roots = starts[:-1] + (torch.rand(len(sizes), generator=rng) * size).long()
        roots = roots.clamp(max=max(len(subgraph) - 1, 0))
    known = starts, pair_starts, subgraph, row, column, roots
    if nodes is None:
        transpose = pair_starts[of_pair] + j * size[of_pair] + i
        return Pairs(transpose, *known, None, None, None)
    chosen = [torch.randperm(nodes, generator=rng)[:m].sort().values for m in sizes]
    node = torch.cat([torch.zeros(0, dtype=torch.int64), *chosen])
    key = torch.cat([node[row] * nodes + node[column], torch.tensor([nodes * nodes - 1])])
    stored, slot = key.unique(return_inverse=True)  # the last may have no pair
    slot = slot[:-1]
    transpose = torch.searchsorted(stored, stored % nodes * nodes + stored // nodes)
    slot_starts = torch.searchsorted(slot.sort().values, torch.arange(len(stored) + 1))
    return Pairs(transpose, *known, slot, slot.argsort(stable=True), slot_starts)


def questions(sizes, channels, nodes, root, rng, dtype=torch.float64):
    """The arguments of all functions by name."""
    pairs = make_pairs(sizes, nodes, root, rng)
    (inputs, outputs), count = channels, len(pairs.transpose)

    def normal(*shape):
        return torch.randn(shape, dtype=torch.float64, generator=rng).to(dtype)

    x, weight, grad = normal(count, inputs), normal(2, inputs, outputs), normal(count, outputs)
    spread, scale = normal(len(pairs.subgraph), pairs.parts * outputs), normal(count)
    none = Pairs.without_members(pairs.transpose)
    found = {}
    if count:
        found["products"] = Linear(x, weight, None, None, none)
        found["weights"] = WeightGradient(x, grad, pairs.transpose)
    if len(pairs.subgraph):
        found["sums"] = Reduction(x, None, pairs)
        found["scaled sums"] = Reduction(x, scale, pairs)
        found["all"] = Linear(x, weight, spread, scale, pairs)
        found["without scale"] = Linear(x, weight, spread, None, pairs)
        found["spread alone"] = Linear(x[:, :0], weight[:, :0].clone(), spread, scale, pairs)
    return found


def answer(module, question):
    names = {Reduction: "reduce", Linear: "linear", WeightGradient: "weight_gradient"}
    return getattr(module, names[type(question)])(question)


def exact(question):
    """The definition in float64."""
    values = (
        value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for value in question
    )
    return answer(naive, type(question)(*values))


def wrong(found, dtype):
    """Names of the answers that are not those of the definition."""
    names = []
    for name, question in found.items():
        expected, result = exact(question), answer(compiled, question)
        scale = max(float(expected.abs().max()), 1.0)
        fits = result.shape == expected.shape and result.dtype == dtype and result.is_contiguous()
        if not (fits and float((result - expected).abs().max()) <= TOLERANCE[dtype] * scale):
            names.append(name)
    return names


@dtypes
@shared
@rooted
@rows
def test_matches_the_definition(sizes, root, nodes, dtype, rng):
    if root and 0 in sizes:
        sizes = [size for size in sizes if size]  # nobody can be its root
    found = questions(sizes, (17, 20), nodes, root, rng, dtype)
    assert len(found) in (0, 2, 7)
    assert wrong(found, dtype) == []


@dtypes
@shared
@widths
def test_any_number_of_channels(channels, nodes, dtype, rng):
    found = questions(ROWS["sizes of molecules"], channels, nodes, True, rng, dtype)
    assert wrong(found, dtype) == []


@pytest.mark.parametrize("exchange", ["transpose", "row", "column", "root"])
def test_another_structure_has_another_answer(exchange, rng):
    question = questions(ROWS["sizes of molecules"], (5, 3), None, True, rng)["all"]
    pairs = question.pairs
    same = torch.arange(len(pairs.row))
    other = {
        "transpose": same,
        "row": pairs.column,
        "column": pairs.row,
        "root": pairs.starts[:-1] + pairs.starts[1:] - 1 - pairs.root,
    }
    moved = question._replace(pairs=pairs._replace(**{exchange: other[exchange]}))
    assert (answer(compiled, moved) - exact(question)).abs().max() > 1e-2


@pytest.mark.parametrize("threads", [2, 3, 16], ids=lambda count: f"{count} threads")
@dtypes
@shared
def test_threads_change_nothing(threads, nodes, dtype, rng, monkeypatch):
    found = questions(ROWS["several blocks"], (9, 20), nodes, True, rng, dtype)
    expected = {name: answer(compiled, question) for name, question in found.items()}
    monkeypatch.setattr(native, "count_threads", lambda work: threads)
    for name, question in found.items():
        assert torch.equal(answer(compiled, question), expected[name]), name


@dtypes
def test_slices_of_the_gradient_by_weights(dtype, rng, monkeypatch):
    question = questions(ROWS["several blocks"], (9, 20), None, False, rng, dtype)["weights"]
    one = answer(compiled, question)
    monkeypatch.setattr(compiled, "_ROWS_OF_SLICE", 300)
    several = answer(compiled, question)
    monkeypatch.setattr(native, "count_threads", lambda work: 16)
    assert torch.equal(answer(compiled, question), several)
    assert not torch.equal(several, one)  # otherwise nothing was cut
    assert wrong({"weights": question}, dtype) == []


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
    for channels in ((5, 3), (17, 64), (70, 33)):
        found = questions(ROWS["sizes of molecules"], channels, 40, True, rng, dtype)
        assert wrong(found, dtype) == []


@dtypes
def test_values_that_are_not_finite_stay_where_they_belong(dtype, rng):
    question = questions(ROWS["sizes of molecules"], (5, 3), None, False, rng, dtype)["all"]
    x = question.x.clone()
    x[7, 2] = torch.nan
    found = answer(compiled, question._replace(x=x)).isnan().any(1)
    expected = torch.zeros_like(found)
    expected[[7, int(question.pairs.transpose[7])]] = True
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_left_to_torch(dtype):
    assert "it is for float32 and float64" in whynot("compiled", torch.device("cpu"), dtype)
    assert pick(torch.device("cpu"), dtype)[0] == "blocked"
    assert pick(torch.device("cpu"), torch.float32)[0] == "compiled"


def test_it_runs_on_the_cpu():
    reason = whynot("compiled", torch.device("meta"), torch.float32)
    assert reason == "it runs on the CPU, not on meta"


@pytest.mark.parametrize("root", [0, 1, 2])
def test_the_root_of_a_subgraph_without_members_is_nobody(root, rng):
    pairs = make_pairs([0, 3], None, True, rng)._replace(root=torch.tensor([root, 2]))
    x, weight = torch.ones(9, 2).double(), torch.zeros(2, 2, 1).double()
    spread = torch.randn(3, 5, dtype=torch.float64, generator=rng)
    question = Linear(x, weight, spread, None, pairs)
    assert wrong({"all": question}, torch.float64) == []
