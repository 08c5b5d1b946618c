import csv
from functools import partial

import pytest
import torch
from torch import nn

import eqlib.cli
from benchmarks.measure import DisagreementError, compare
from benchmarks.registry import Benchmark, OnlyFor, if_installed, load_benchmarks
from benchmarks.run import COLUMNS, ROOT, find_fault, main

CPU = torch.device("cpu")
PASSES = ("forward", "forward+backward", "double backward")


def problem(size, generator):
    return {"x": torch.randn(size, generator=generator), "power": 3}


def cube(x, power):
    return x**power


def product(x, power):
    return x * x * x


def other(x, power):
    return torch.pow(x, power)


def wrong_value(x, power):
    return x**power + 1e-3


def wrong_gradient(x, power):
    return x**power + 0.1 * (x - x.detach())


def wrong_second_gradient(x, power):
    return x**power + 0.1 * (x - x.detach()) ** 2


def nan(x, power):
    return x**power * torch.nan


def wrong_shape(x, power):
    return (x**power)[:1]


def failing(x, power):
    raise RuntimeError("out of order\nin many words")


def declining(x, power):
    raise NotImplementedError("small problems only")


def toy(tests="tests/green.py", **changes):
    settings = {
        "name": "toy_cube",
        "tests": str(tests),
        "problems": {"small": partial(problem, 5), "empty": partial(problem, 0)},
        "implementations": {"cube": cube, "product": product},
        "peers": {"other": other, "absent": "not installed"},
        "passes": PASSES,
        "differentiate": ("x",),
    }
    return Benchmark(**{**settings, **changes})


@pytest.fixture
def green(tmp_path):
    path = tmp_path / "test_green.py"
    path.write_text("def test_green():\n    assert True\n")
    return path


@pytest.fixture
def red(tmp_path):
    path = tmp_path / "test_red.py"
    path.write_text("def test_red():\n    assert False\n")
    return path


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def rows_of(benchmark):
    rows = compare(benchmark, "small", CPU, repeats=2)
    return {(row.stage, row.name): row for row in rows}


def test_every_contender_has_a_row_in_every_pass():
    rows = rows_of(toy())
    names = ("cube", "product", "other", "absent")
    assert list(rows) == [(stage, name) for stage in PASSES for name in names]
    assert rows["forward", "absent"].note == "not installed"
    assert rows["forward", "cube"].kind == "eqlib"
    assert rows["forward", "other"].kind == "peer"
    timed = [row for row in rows.values() if row.name != "absent"]
    assert all(0 < row.p20_ms <= row.p50_ms <= row.p80_ms for row in timed)
    assert all(row.ratio == 1 for row in timed if row.name == "cube")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (wrong_value, "output of bad, forward "),
        (nan, "output of bad, forward "),
        (wrong_shape, "output of bad, forward "),
        (wrong_gradient, r"gradient 1 of bad, forward\+backward "),
        (wrong_second_gradient, "gradient 2 of bad, double backward "),
    ],
    ids=["value", "nan", "shape", "gradient", "second gradient"],
)
@pytest.mark.parametrize("role", ["implementations", "peers"])
def test_disagreement_is_detected(role, wrong, message):
    ours = {"cube": cube}
    changes = {"peers": {}, "implementations": ours}
    changes[role] = {**changes[role], "bad": wrong}
    with pytest.raises(DisagreementError, match=message):
        compare(toy(**changes), "small", CPU, repeats=1)


def test_integer_outputs_are_compared_exactly_in_canonical_order():
    def sort(x, power):
        return x.argsort()

    def reverse(x, power):
        return x.argsort(descending=True)

    changes = {"implementations": {"sort": sort}, "peers": {"reverse": reverse}}
    changes |= {"passes": ("forward",), "differentiate": ()}
    with pytest.raises(DisagreementError, match="output of reverse"):
        rows_of(toy(**changes))
    rows = rows_of(toy(**changes, canonical=lambda order: order.sort().values))
    assert rows["forward", "reverse"].note == ""


def test_networks_need_not_agree_and_are_built_without_touching_the_seed():
    def systems(generator):
        return {"input": torch.randn(4, 3, generator=generator)}

    class Narrow(nn.Linear):
        def __init__(self):
            super().__init__(3, 1)

    class Wide(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 1))

    changes = {"problems": {"small": systems}, "differentiate": (), "passes": PASSES[:2]}
    networks = toy(**changes, implementations={"narrow": Narrow, "wide": Wide}, peers={})
    with pytest.raises(DisagreementError):
        rows_of(networks)
    before = torch.random.get_rng_state()
    changes |= {"implementations": {"narrow": Narrow, "wide": Wide}, "peers": {}, "agree": False}
    assert all(row.note == "" for row in rows_of(toy(**changes)).values())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_peers_that_fail_are_noted():
    peers = {"failing": failing, "elsewhere": OnlyFor(frozenset({"empty"}), product)}
    rows = rows_of(toy(peers=peers))
    assert rows["forward", "failing"].note == "forward: out of order"
    assert rows["forward", "elsewhere"].note == "does not apply to this problem"


def test_implementations_may_decline_but_not_fail():
    rows = rows_of(toy(implementations={"cube": cube, "second": declining}))
    assert rows["forward", "second"].note == "forward: small problems only"
    with pytest.raises(RuntimeError, match="out of order"):
        rows_of(toy(implementations={"cube": cube, "second": failing}))
    with pytest.raises(NotImplementedError, match="small problems"):
        rows_of(toy(implementations={"cube": declining}))


def test_missing_packages_are_named():
    assert if_installed("torch", cube) is cube
    assert if_installed("no_such_package", cube) == "no_such_package is not installed"


def test_results_have_a_row_for_each_figure_and_say_where_they_come_from(green, tmp_path, capsys):
    words = ["toy_cube", "--repeats", "2", "--device", "cpu"]
    assert main(words, {"toy_cube": toy(green)}, tmp_path) == 0
    rows = read(tmp_path / "toy_cube.csv")
    assert len(rows) == 2 * 3 * 4
    assert tuple(rows[0]) == COLUMNS
    assert {row["note"] for row in rows} == {"", "not installed"}
    assert rows[0]["device"] == "cpu"
    assert f"torch {torch.__version__}" in rows[0]["versions"]
    where = ("machine", "threads", "versions", "commit", "date")
    assert all(row[column] for row in rows for column in where)
    printed = capsys.readouterr().out
    assert "toy_cube: small (cpu)" in printed
    assert "absent: not installed" in printed


def test_results_of_another_device_are_kept(green, tmp_path):
    path = tmp_path / "toy_cube.csv"
    words = ["--repeats", "1", "--device", "cpu"]
    assert main(words, {"toy_cube": toy(green)}, tmp_path) == 0
    path.write_text(path.read_text().replace(",cpu,", ",cuda,"))
    for _ in range(2):
        assert main(words, {"toy_cube": toy(green)}, tmp_path) == 0
    devices = [row["device"] for row in read(path)]
    assert devices == ["cpu"] * 24 + ["cuda"] * 24


def test_nothing_is_timed_while_tests_are_red(red, green, tmp_path, capsys):
    def untouched(x, power):
        raise AssertionError("timed although the tests are red")

    known = {
        "broken": toy(red, name="broken", implementations={"untouched": untouched}),
        "toy_cube": toy(green),
    }
    assert main(["--repeats", "1", "--device", "cpu"], known, tmp_path) == 1
    assert "broken: not timed" in capsys.readouterr().err
    assert not (tmp_path / "broken.csv").exists()
    assert (tmp_path / "toy_cube.csv").exists()  # the others are timed


def test_missing_or_empty_tests_count_as_red(tmp_path):
    empty = tmp_path / "test_nothing.py"
    empty.write_text("")
    assert "no tests ran" in find_fault(str(empty))
    assert "red" in find_fault("tests/no_such_test.py")


def test_disagreement_fails_the_run(green, tmp_path, capsys):
    known = {"toy_cube": toy(green, implementations={"cube": cube, "bad": wrong_value})}
    assert main(["--repeats", "1", "--device", "cpu"], known, tmp_path) == 1
    assert "toy_cube: output of bad, forward" in capsys.readouterr().err
    assert not (tmp_path / "toy_cube.csv").exists()


def test_unknown_names_suggest_the_nearest(capsys):
    assert main(["toy_cub"], {"toy_cube": toy()}) == 2
    assert "unknown benchmark 'toy_cub'; did you mean 'toy_cube'?" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--repeats", "0"], ["--device", "tpu"], ["--no-tests"]])
def test_wrong_usage_exits_with_2(words, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(words, {"toy_cube": toy()})
    assert exit_.value.code == 2
    assert words[0] in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_named(capsys):
    assert main(["--device", "cuda"], {"toy_cube": toy()}) == 2
    assert "--device cpu" in capsys.readouterr().err


def test_the_list_shows_what_is_missing(capsys):
    assert main(["--list"], {"toy_cube": toy()}) == 0
    assert "other, absent (missing: not installed)" in capsys.readouterr().out


def test_the_command_runs_from_any_folder(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert eqlib.cli.main(["bench", "--list"]) == 0
    assert "segment_sum" in capfd.readouterr().out


def test_registered_benchmarks_name_themselves_and_their_tests():
    known = load_benchmarks()
    assert {"segment_sum", "radius_graph", "nbody_forward"} <= set(known)
    assert all(name == benchmark.name for name, benchmark in known.items())
    missing = [entry.tests for entry in known.values() if not (ROOT / entry.tests).exists()]
    assert missing == []


def test_problems_are_the_same_in_every_run():
    for benchmark in load_benchmarks().values():
        name, make = next(iter(benchmark.problems.items()))
        first, second = (make(torch.Generator().manual_seed(0)) for _ in range(2))
        tensors = [key for key, value in first.items() if isinstance(value, torch.Tensor)]
        assert tensors, name
        assert all(torch.equal(first[key], second[key]) for key in tensors), name
