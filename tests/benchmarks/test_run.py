import csv
from dataclasses import replace
from functools import partial

import pytest
import torch

import eqlib.cli
from benchmarks.registry import PASSES, Problem, load_benchmarks
from benchmarks.results import COLUMNS, ROOT
from benchmarks.run import find_fault, main
from tests.benchmarks.toys import cube, problem, toy, wrong_value


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


@pytest.fixture
def ungated(monkeypatch):
    monkeypatch.setattr("benchmarks.run.find_fault", lambda tests: "")


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_results_have_a_row_for_each_figure_and_say_where_they_come_from(ungated, tmp_path, capsys):
    words = ["toy_cube", "--repeats", "2", "--device", "cpu"]
    assert main(words, {"toy_cube": toy()}, tmp_path) == 0
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


def test_results_say_where_freed_memory_stays_with_the_process(ungated, tmp_path):
    words = ["toy_cube", "--repeats", "1", "--device", "cpu"]
    assert main(words, {"toy_cube": toy()}, tmp_path, keeps_memory=True) == 0
    machines = {row["machine"] for row in read(tmp_path / "toy_cube.csv")}
    assert all(machine.endswith(", freed memory kept") for machine in machines)


def test_results_of_another_device_are_kept(ungated, tmp_path):
    path = tmp_path / "toy_cube.csv"
    words = ["--repeats", "1", "--device", "cpu"]
    assert main(words, {"toy_cube": toy()}, tmp_path) == 0
    path.write_text(path.read_text().replace(",cpu,", ",cuda,"))
    for _ in range(2):
        assert main(words, {"toy_cube": toy()}, tmp_path) == 0
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


def test_disagreement_fails_the_run(ungated, tmp_path, capsys):
    known = {"toy_cube": toy(implementations={"cube": cube, "bad": wrong_value})}
    assert main(["--repeats", "1", "--device", "cpu"], known, tmp_path) == 1
    assert "toy_cube: output of bad, forward" in capsys.readouterr().err
    assert not (tmp_path / "toy_cube.csv").exists()


def test_unknown_names_suggest_the_nearest(capsys):
    assert main(["toy_cub"], {"toy_cube": toy()}) == 2
    assert "unknown benchmark 'toy_cub'; did you mean 'toy_cube'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--repeats", "0"], ["--device", "tpu"], ["--seconds", "-1"], ["--no-tests"]]
)
def test_wrong_usage_exits_with_2(words, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(words, {"toy_cube": toy()})
    assert exit_.value.code == 2
    assert words[0] in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_named(capsys):
    assert main(["--device", "cuda"], {"toy_cube": toy()}) == 2
    assert "--device cpu" in capsys.readouterr().err


@pytest.mark.parametrize("threads", [1, 2])
def test_the_time_of_the_processor_wants_one_thread(
    threads, ungated, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    words = ["toy_cube", "--repeats", "1", "--device", "cpu", "--clock", "cpu"]
    assert main(words, {"toy_cube": toy()}, tmp_path) == (0 if threads == 1 else 2)
    if threads == 1:
        rows = read(tmp_path / "toy_cube.csv")
        assert all(row["machine"].endswith(", time of the processor") for row in rows)
    else:
        assert "OMP_NUM_THREADS=1" in capsys.readouterr().err


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
    missing = [
        entry.tests
        for entry in known.values()
        if not all((ROOT / path).exists() for path in entry.tests.split())
    ]
    assert missing == []


def test_problems_are_the_same_in_every_run():
    for benchmark in load_benchmarks().values():
        name = next(iter(benchmark.problems))
        make = benchmark.problem(name).make
        first, second = (make(torch.Generator().manual_seed(0)) for _ in range(2))
        tensors = [key for key, value in first.items() if isinstance(value, torch.Tensor)]
        assert tensors, name
        assert all(torch.equal(first[key], second[key]) for key in tensors), name


def sized(device="cpu"):
    """A benchmark with a place for each problem, and so with a plot."""
    problems = {
        f"{size} numbers": Problem(
            partial(problem, size), devices=(device,), place={"degree": 1, "rows": size}
        )
        for size in (10, 100, 2000)
    }
    return {"toy_cube": toy(problems=problems)}


def test_some_problems_leave_the_results_of_the_others(ungated, tmp_path, capsys):
    words = ["--repeats", "1", "--device", "cpu"]
    assert main(words, sized(), tmp_path) == 0
    path = tmp_path / "toy_cube.csv"
    path.write_text(path.read_text().replace(",other,peer,", ",old,peer,"))
    assert main([*words, "--problems", "100"], sized(), tmp_path) == 0
    found = {(row["problem"], row["name"]) for row in read(path) if row["kind"] == "peer"}
    assert found == {
        ("10 numbers", "old"),
        ("10 numbers", "absent"),
        ("100 numbers", "other"),
        ("100 numbers", "absent"),
        ("2000 numbers", "old"),
        ("2000 numbers", "absent"),
    }
    assert main(words, sized(), tmp_path) == 0  # all problems: nothing old stays
    assert "old" not in path.read_text()


def test_problems_that_match_nothing_are_named(capsys):
    assert main(["--device", "cpu", "--problems", "1000"], sized()) == 2
    said = capsys.readouterr().err
    assert "no name contains '1000' on cpu; there are: 10 numbers; 100 numbers;" in said


def test_problems_of_another_device_are_left_out(ungated, tmp_path, capsys):
    known = {**sized("cuda"), "second": replace(toy(), name="second")}
    assert main(["--repeats", "1", "--device", "cpu"], known, tmp_path) == 0
    assert not (tmp_path / "toy_cube.csv").exists()
    assert (tmp_path / "second.csv").exists()
    assert main(["toy_cube", "--device", "cpu"], known, tmp_path) == 2


def test_a_plot_is_saved_beside_the_results(ungated, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    words = ["--repeats", "1", "--device", "cpu", "--out", str(tmp_path / "there")]
    assert main(words, sized()) == 0
    image = tmp_path / "there/toy_cube-cpu.png"
    assert image.read_bytes()[:4] == b"\x89PNG"
    assert str(image) in capsys.readouterr().out
    assert main(words, {"toy_cube": toy()}) == 0  # no place, no plot
    assert str(image) not in capsys.readouterr().out


def test_missing_matplotlib_is_told_and_fails_nothing(ungated, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.run.find_spec", lambda name: None)
    assert main(["--repeats", "1", "--device", "cpu"], sized(), tmp_path) == 0
    assert "pip install eqlib[plot]" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["toy_cube.csv"]


def test_ceilings_stand_in_the_results_where_work_is_known(ungated, tmp_path, monkeypatch):
    from benchmarks.registry import Work
    from benchmarks.roofline import Ceilings

    monkeypatch.setattr("benchmarks.run.measure_ceilings", lambda device: Ceilings(2e9, 3e9))
    known = {"toy_cube": toy(work=lambda inputs, stage, name: Work(8e6, 1e6))}
    assert main(["--repeats", "1", "--device", "cpu"], known, tmp_path) == 0
    rows = read(tmp_path / "toy_cube.csv")
    assert {row["ceilings"] for row in rows} == {"copy 2 GB/s, matmul 3 GF/s"}
    assert all(float(row["gb_s"]) > 0 for row in rows if not row["note"])


def test_several_test_files_are_run_together(green, red):
    assert "1 failed, 1 passed" in find_fault(f"{green} {red}")


def test_problems_of_every_benchmark_have_known_passes():
    for benchmark in load_benchmarks().values():
        for name in benchmark.problems:
            assert set(benchmark.problem(name).passes) <= set(PASSES), name


def test_resumed_runs_time_only_what_is_missing(ungated, tmp_path, capsys):
    words = ["--repeats", "1", "--device", "cpu", "--resume", "--commit", "abc"]
    assert main([*words, "--problems", "100"], sized(), tmp_path) == 0
    path = tmp_path / "toy_cube.csv"
    before = read(path)
    assert {(row["problem"], row["commit"]) for row in before} == {("100 numbers", "abc")}
    capsys.readouterr()
    assert main(words, sized(), tmp_path) == 0
    printed = capsys.readouterr().out
    assert "toy_cube: 10 numbers" in printed
    assert "toy_cube: 100 numbers" not in printed
    assert [row for row in read(path) if row["problem"] == "100 numbers"] == before
    assert main([*words[:-1], "other"], sized(), tmp_path) == 0
    assert "toy_cube: 100 numbers" in capsys.readouterr().out  # of another commit


def test_a_resumed_run_keeps_what_it_timed_before_it_failed(ungated, tmp_path, capsys):
    def sometimes_wrong(x, power):
        return cube(x, power) if len(x) == 10 else wrong_value(x, power)

    known = {"toy_cube": replace(sized()["toy_cube"], peers={"bad": sometimes_wrong})}
    words = ["--repeats", "1", "--device", "cpu"]
    assert main(words, known, tmp_path) == 1
    assert list(tmp_path.iterdir()) == []
    assert main([*words, "--resume"], known, tmp_path) == 1
    assert {row["problem"] for row in read(tmp_path / "toy_cube.csv")} == {"10 numbers"}


def test_names_are_those_with_problems_for_the_device(capsys):
    known = {**sized("cuda"), "second": replace(toy(), name="second")}
    assert main(["--names", "--device", "cpu"], known) == 0
    assert capsys.readouterr().out == "second\n"
