"""The `eqlib` command: exit codes, messages and what each command leaves or prints."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

import eqlib.cli
from eqlib.cli import COMMANDS, main
from eqlib.models import TASKS
from tests.models.training.vectors import Vectors

ROOT = Path(__file__).parents[1]
TASK = "tests.models.training.vectors:Vectors"


def eqlib_command(*words: str, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "eqlib", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, **{**pipes, **options})


def exit_code(*words: str) -> int:
    """Run a command in this process, also where it ends with its help."""
    try:
        return main(words)
    except SystemExit as stopped:
        return stopped.code


@pytest.fixture(autouse=True)
def vectors(monkeypatch):
    """Make the task known under its short name."""
    monkeypatch.setitem(TASKS, "vectors", TASK)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return a folder with finished runs: two seeds of one model, one of another."""
    folder = tmp_path_factory.mktemp("runs")
    for model, seed in (("radial", "0"), ("radial", "1"), ("dense", "0")):
        out = str(folder / f"{model}-{seed}")
        assert main(["train", TASK, "--model", model, "--seed", seed, "--out", out]) == 0
    return folder


def test_help_comes_without_heavy_imports():
    code = """if True:
        import sys
        from eqlib.cli import COMMANDS, main
        main(["--help"])
        for command in COMMANDS:
            if command != "bench":
                try:
                    main([command, "--help"])
                except SystemExit as stopped:
                    assert stopped.code == 0
        heavy = {"torch", "e3nn", "triton", "matplotlib", "numpy"} & sys.modules.keys()
        assert not heavy, heavy
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "exit codes: 0 done; 1 a check or a run failed; 2 wrong usage" in done.stdout
    assert all(f"\n  {command} " in done.stdout for command in COMMANDS)


def test_command_runs_as_a_module_and_its_exit_code_reaches_the_shell():
    typo = eqlib_command("trian")
    output, message = typo.communicate()
    assert typo.returncode == 2
    assert output == ""
    assert message.startswith("eqlib: unknown command 'trian'; did you mean 'train'?")
    assert message.count("\n") == 1


def test_no_command_shows_the_help(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out == eqlib.cli.HELP


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"eqlib {eqlib.__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("trian nbody", "did you mean 'train'"),
        ("train nbdy", "unknown task 'nbdy'; did you mean 'nbody'"),
        ("data nbdy", "unknown task 'nbdy'; did you mean 'nbody'"),
        ("train nbody --model egn", "unknown model of nbody 'egn'; did you mean 'egnn'"),
        ("train nbody --preset quik", "unknown preset of nbody 'quik'; did you mean 'quick'"),
        ("train nbody --model egnn --netwrok.width 3", "did you mean '--network.width'"),
        ("train nbody --trainin.epochs 3", "did you mean '--training.epochs'"),
        ("train --model egnn nbody", "name the task first: eqlib train TASK [options]"),
        ("train vectors --training.epochs 0", "training.epochs: expected a positive number, got 0"),
        ("data vectors --data.trian 3", "did you mean '--data.train'"),
        ("data vectors --data.train x", "data.train: expected an integer, got 'x'"),
        ("data vectors --data.train 101", "train: expected at most 100, got 101"),
        ("evaluate", "the following arguments are required"),
        ("evaluate runs --lats", "did you mean '--last'"),
        ("evaluate nowhere", "nowhere holds no run: there is no config.yaml in it"),
        ("check nowhere", "nowhere holds no run: there is no config.yaml in it"),
        ("report", "the following arguments are required"),
        ("report nowhere", "nowhere: no such file or folder"),
        ("report runs --jsn", "did you mean '--json'"),
        ("sweep nowhere.yaml", "cannot read nowhere.yaml: No such file or directory"),
        ("sweep nowhere.yaml --jobs 0", "jobs: expected a positive number, got 0"),
        ("sweep nowhere.yaml --jobs two", "jobs: expected an integer, got 'two'"),
        ("doctor --quikc", "did you mean '--quick'"),
    ],
)
def test_wrong_usage_is_explained_in_a_line(words, message, capsys):
    assert exit_code(*words.split()) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("eqlib: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize("command", ["train", "data"], ids="eqlib {}".format)
def test_task_must_be_named(command, capsys):
    assert exit_code(command) == 2
    assert "tasks: graphs, nbody, normals" in capsys.readouterr().out
    assert exit_code(command, "--help") == 0


def test_traceback_is_shown_on_demand(capsys):
    assert main(["evaluate", "nowhere", "--traceback"]) == 2
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_training_leaves_a_report_without_paths_of_the_machine(runs):
    folder = runs / "radial-1"
    text = (folder / "report.json").read_text() + (folder / "report.md").read_text()
    assert str(runs) not in text
    assert str(ROOT) not in text
    assert str(Path.home()) not in text
    report = json.loads((folder / "report.json").read_text())
    expected = f"eqlib train {TASK} --model radial --preset quick --seed 1"
    assert report["command"] == expected
    assert report["config"]["network"]["width"] == 3


def test_folder_with_a_run_is_left_alone(runs, capsys):
    words = ["train", TASK, "--seed", "0", "--out", str(runs / "radial-0")]
    before = (runs / "radial-0/report.json").stat().st_mtime_ns
    assert main(words) == 2
    assert "continue it with --resume or choose another --out" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
    assert "nothing is left to do" in capsys.readouterr().err
    assert (runs / "radial-0/report.json").stat().st_mtime_ns == before


def test_run_without_out_goes_to_a_folder_named_after_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "vectors", "--model", "dense", "--seed", "3"]) == 0
    assert "report: runs/vectors/dense-quick-seed3/report.md" in capsys.readouterr().out
    assert (tmp_path / "runs/vectors/dense-quick-seed3/report.json").exists()


def test_folder_that_cannot_be_made_fails_the_run(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["train", TASK, "--out", str(tmp_path / "file/run")]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"eqlib: cannot write the run's folder {tmp_path / 'file/run'}")
    assert "choose another --out" in message
    assert "Traceback" not in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder_fails_the_run(tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert main(["train", TASK, "--out", str(tmp_path / "run")]) == 1
    assert "cannot write the run's folder" in capsys.readouterr().err


def test_training_that_diverges_fails(tmp_path, capsys):
    words = ["--data.scale", "1e30", "--out", str(tmp_path / "run")]
    assert main(["train", TASK, *words]) == 1
    assert "is not finite" in capsys.readouterr().err


def test_interrupted_training_says_so(tmp_path):
    words = ["--training.epochs", "1000000", "--training.evaluate_every", "1000000"]
    # tests that run in the background of a shell ignore interrupts, and so would the command
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    words += ["--out", str(tmp_path / "run")]
    training = eqlib_command("train", TASK, *words, preexec_fn=heed)
    while not (tmp_path / "run/config.yaml").exists():
        assert training.poll() is None
        time.sleep(0.05)
    training.send_signal(signal.SIGINT)
    _, message = training.communicate(timeout=60)
    assert training.returncode == 130
    assert message.endswith("eqlib: interrupted\n")
    assert "Traceback" not in message


def test_reader_that_goes_away_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    command = eqlib_command("--help", stdout=writer)
    os.close(writer)
    assert command.communicate()[1] == ""
    assert command.returncode == 1


def test_a_run_of_other_settings_or_data_is_wrong_usage(runs, tmp_path, capsys, monkeypatch):
    run = shutil.copytree(runs / "radial-0", tmp_path / "run")
    words = ["train", TASK, "--model", "radial", "--out", str(run), "--resume"]
    assert main([*words, "--seed", "1"]) == 2
    assert "holds a run with other settings: seed (0 -> 1)" in capsys.readouterr().err
    (run / "report.json").unlink()
    (run / "data.sha256").write_text("other\n")
    assert main(words) == 2
    assert "began with other data" in capsys.readouterr().err


@pytest.mark.parametrize("dataset", ["exp_classify", "mutag", "brec"])
def test_missing_and_damaged_data_are_wrong_usage(dataset, tmp_path, capsys):
    words = ["--dataset", dataset, "--model", "gin", "--out", str(tmp_path / "run")]
    words += ["--data-dir", str(tmp_path / "data")]
    assert main(["train", "graphs", *words]) == 2
    assert "--data-dir" in capsys.readouterr().err
    for name in ("exp/exp.npz", "tu/MUTAG/MUTAG.txt", "brec/brec_v3.npy"):
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        (tmp_path / "data" / name).write_bytes(b"\x93\xff")
    assert main(["train", "graphs", *words]) == 2
    assert "is damaged or of another format" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_figures_that_only_select_are_recorded_and_not_printed(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Vectors, "unprinted", ("mse",))
    out = tmp_path / "run"
    assert main(["train", TASK, "--out", str(out)]) == 0
    assert main(["evaluate", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "test mse_median" in printed
    assert "test mse " not in printed
    assert main(["evaluate", str(out), "--json"]) == 0
    report = json.loads((out / "report.json").read_text())
    assert json.loads(capsys.readouterr().out) == report["test"]
    assert set(report["test"]) == {"mse", "mse_median"}


def test_evaluate_prints_the_figures_of_the_report(runs, capsys):
    report = json.loads((runs / "radial-0/report.json").read_text())
    assert main(["evaluate", str(runs / "radial-0"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == pytest.approx(report["test"])
    assert main(["evaluate", str(runs / "radial-0"), "--last"]) == 0
    assert capsys.readouterr().out.startswith("test mse ")


def test_check_passes_a_model_with_the_symmetry_and_fails_one_without(runs, capsys):
    assert main(["check", str(runs / "radial-0")]) == 0
    assert capsys.readouterr().out.count("  equivariant\n") == 2
    assert main(["check", str(runs / "dense-0")]) == 1
    assert capsys.readouterr().out.count("  NOT EQUIVARIANT\n") == 2
    assert main(["check", str(runs / "dense-0"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] == {"float32": False, "float64": False}
    assert found["errors"]["float64"] > 1e-2


def test_report_tabulates_seeds(runs, capsys):
    assert main(["report", str(runs)]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 4
    assert "±" in rows[3]
    assert "±" not in rows[2]
    assert main(["report", str(runs), "--json"]) == 0
    summaries = json.loads(capsys.readouterr().out)
    assert [summary["seeds"] for summary in summaries] == [[0], [0, 1]]


def test_data_prints_checksums_that_depend_on_the_options(tmp_path, capsys):
    printed = []
    for words in ([], ["--out", str(tmp_path)], ["--data.train", "5"]):
        assert main(["data", "vectors", *words]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert [line.split()[:2] for line in printed[2].splitlines()] == [
        ["train", "5"],
        ["valid", "10"],
        ["test", "10"],
    ]
    assert printed[0].splitlines()[0] != printed[2].splitlines()[0]


def test_damaged_configuration_is_explained(runs, tmp_path, capsys):
    run = shutil.copytree(runs / "dense-0", tmp_path / "run")
    (run / "config.yaml").write_text("task: [")
    assert main(["evaluate", str(run)]) == 2
    assert "config.yaml is damaged or not YAML" in capsys.readouterr().err


def test_damaged_checkpoint_is_a_file_to_mend(runs, tmp_path, capsys):
    run = shutil.copytree(runs / "dense-0", tmp_path / "run")
    for weights in run.rglob("best.safetensors"):
        weights.write_bytes(weights.read_bytes()[:-4])
    assert main(["check", str(run)]) == 2
    assert "best.safetensors" in capsys.readouterr().err


def test_sweep_reports_what_it_made_and_what_failed(runs, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(ROOT)
    entries = [{"task": TASK, "model": "dense", "out": str(runs / "dense-0")}]
    (tmp_path / "file").touch()
    entries.append({"task": TASK, "out": str(tmp_path / "file/run")})
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(json.dumps(entries))
    assert main(["sweep", str(sweep)]) == 1
    output = capfd.readouterr().out
    assert "| vectors | dense | quick" in output
    assert output.endswith(f"failed: {tmp_path / 'file/run'}\n")
    sweep.write_text(json.dumps(entries[:1]))
    assert main(["sweep", str(sweep)]) == 0
    sweep.write_text(json.dumps([{"task": "graphs", "dataset": "mutag"}]))
    capfd.readouterr()
    assert main(["sweep", str(sweep), "--data-dir", str(tmp_path / "nowhere")]) == 2
    assert f"there is no folder {tmp_path / 'nowhere'}" in capfd.readouterr().err


def test_bench_needs_a_checkout(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(eqlib.cli, "__file__", str(tmp_path / "eqlib/cli.py"))
    assert main(["bench"]) == 2
    assert "benchmarks are part of a checkout" in capfd.readouterr().err
    (tmp_path / "benchmarks").mkdir()
    script = "import sys; print(sys.argv[1:]); sys.exit(3)"
    (tmp_path / "benchmarks/run.py").write_text(script)
    assert main(["bench", "segment_sum", "--quick"]) == 3
    assert "['segment_sum', '--quick']" in capfd.readouterr().out


def test_bench_passes_on_its_exit_code_and_help(capfd):
    assert main(["bench", "no_such_operation"]) == 2
    assert "unknown benchmark 'no_such_operation'" in capfd.readouterr().err
    assert main(["bench", "--help"]) == 0
    printed = capfd.readouterr().out
    assert printed.startswith("usage: eqlib bench")
    assert all(word in printed for word in ("--problems", "--device", "--resume", "--out"))
