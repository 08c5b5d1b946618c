"""The `eqlib` command: what users type. How it is done lies in `eqlib.models.training`."""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eqlib.options import add_options, make_parser, parse_arguments, values_by_group
from eqlib.usage import UsageError, exit_code, unknown
from eqlib.version import __version__

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

HELP = """\
usage: eqlib COMMAND ...

Equivariant layers, kernels and reference models whose symmetry is checked.

commands:
  train TASK      train a reference model and report what it achieves
  evaluate RUN    measure a trained model on the test data
  check RUN       check the symmetry of a trained model; fails where it has none
  data TASK       make or download the data of a task and print its checksums
  report RUN...   tabulate runs: mean and spread over their seeds
  sweep FILE      train many models from one file, and go on from where it was stopped
  bench [NAME...] time operations against their alternatives; needs a checkout
  doctor          show versions, devices and what works here

  eqlib COMMAND --help    the arguments of a command, with examples
  eqlib --version         the version
  --traceback             with any command: show where an error comes from

exit codes: 0 done; 1 a check or a run failed; 2 wrong usage or files; 130 interrupted
"""

SWEEP_HELP = """\
Train many models, each in a process of its own. FILE is a YAML list:

  - task: nbody
    model: egnn
    preset: cpu
    seeds: [0, 1, 2]
  - task: nbody
    model: egnn
    out: runs/wide-seed{seed}
    seeds: [0, 1, 2]
    network: {width: 128}
    training: {epochs: 100}

The keys are those of `eqlib train`, such as `data_dir`, and `seeds` stands for one run each.
Finished runs are skipped, interrupted ones go on from their last checkpoint, and one that fails
stops no other."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: the words after ``eqlib``; None takes those of this process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    with_traceback = "--traceback" in words
    words = [word for word in words if word != "--traceback"]
    try:
        try:
            return _run(words)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        # Where `exec` was interrupted, as in the import of a dataclass, Python remembers that and
        # would end by the signal, not with our exit code; the next `exec` makes it forget.
        exec("")
        print("eqlib: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        if with_traceback:
            traceback.print_exc()
        else:
            print(f"eqlib: {_message(error)}", file=sys.stderr)
        return exit_code(error)


def _message(error: Exception) -> str:
    """Return what an error says; one of our own on the file system without its number."""
    if isinstance(error, OSError) and error.strerror and error.filename is None:
        return str(error.strerror)
    return str(error)


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if words[0] == "--version":
        print(f"eqlib {__version__}")
        return 0
    if words[0] not in COMMANDS:
        raise unknown("command", words[0], COMMANDS)
    return COMMANDS[words[0]](words[1:])


def _train(words: list[str]) -> int:
    task, options = _split_task("train", "the options of its models", words)
    from eqlib.models import get_task
    from eqlib.models.training import train
    from eqlib.models.training.configuration import parse_train

    command = parse_train(task, options)
    report = train(command.config, command.out, command.resume, command.data_dir)
    if os.environ.get("RANK", "0") == "0":  # set by torchrun: one process speaks for all
        _print_figures(report["test"], hidden=get_task(task).unprinted)
        print(f"report: {command.out / 'report.md'}")
    return 0


def _evaluate(words: list[str]) -> int:
    parser = _model_parser(
        "evaluate", "Measure a trained model, finished or not, on the test data."
    )
    given = parse_arguments(parser, words)
    from eqlib.models import get_task
    from eqlib.models.training import evaluate
    from eqlib.models.training.configuration import load_config

    figures = evaluate(given.run, "last" if given.last else "best", given.data_dir)
    task = get_task(load_config(Path(given.run) / "config.yaml").task)
    _print_figures(figures, given.json, task.unprinted)
    return 0


def _check(words: list[str]) -> int:
    parser = _model_parser("check", "Check the symmetry of a trained model on the test data.")
    given = parse_arguments(parser, words)
    import torch

    from eqlib.models.training import load_model
    from eqlib.symmetry import TOLERANCE

    run = load_model(given.run, "last" if given.last else "best", given.data_dir)
    errors = run.task.equivariance(run.model, run.task.load().test)
    allowed = {dtype: TOLERANCE[getattr(torch, dtype)] for dtype in errors}
    passed = {dtype: error <= allowed[dtype] for dtype, error in errors.items()}
    if given.json:
        print(json.dumps({"errors": errors, "tolerances": allowed, "passed": passed}))
    else:
        for dtype, error in errors.items():
            verdict = "equivariant" if passed[dtype] else "NOT EQUIVARIANT"
            print(f"{dtype}  error {error:.1e}  tolerance {allowed[dtype]:.0e}  {verdict}")
    return 0 if all(passed.values()) else 1


def _data(words: list[str]) -> int:
    name, options = _split_task("data", "the options of its data", words)
    from eqlib.models import get_task
    from eqlib.models.training.configuration import add_short_options, make_options, short_values
    from eqlib.models.training.reports import dataset_checksum

    task = get_task(name)
    schema = {"data": task.options}
    about = f"Make or download the data of {name} ({task.dataset}) and print its checksums."
    parser = make_parser(f"eqlib data {name}", "[--out DIR] [options]", about)
    folder = "folder of the data; train with --data-dir DIR (default: the user's cache folder)"
    parser.add_argument("--out", "--data-dir", metavar="DIR", help=folder)
    add_options(parser, schema, {"data": f"data: {task.dataset}"})
    add_short_options(parser, task)
    given = parse_arguments(parser, options, schema)
    values = values_by_group(schema, given)["data"] | short_values(given, task)
    settings = make_options(task, values)
    splits = task(settings, None if given.out is None else Path(given.out)).load()
    for split, dataset in splits._asdict().items():
        print(f"{split:5}  {len(dataset):7} items  sha256 {dataset_checksum(dataset)}")
    return 0


def _report(words: list[str]) -> int:
    about = "Tabulate finished runs: mean and sample standard deviation over their seeds."
    parser = make_parser("eqlib report", "RUN... [--json]", about)
    runs = "run folders, folders of such folders, or report files"
    parser.add_argument("runs", nargs="+", metavar="RUN", help=runs)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parse_arguments(parser, words)
    from eqlib.models.training.reports import read_reports, summarise, summary_table

    summaries = summarise(read_reports([Path(run) for run in given.runs]))
    if given.json:
        print(json.dumps([summary.to_dict() for summary in summaries], indent=2))
    else:
        print(summary_table(summaries))
    return 0


def _sweep(words: list[str]) -> int:
    parser = make_parser("eqlib sweep", "FILE [--jobs N] [--data-dir DIR]", SWEEP_HELP)
    parser.add_argument("file", metavar="FILE", help="YAML list of runs")
    parser.add_argument(
        "--jobs", type=int, default=1, help="runs at a time; with several each has one thread"
    )
    parser.add_argument(
        "--data-dir", metavar="DIR", help="folder of the data of those runs that name none"
    )
    given = parse_arguments(parser, words)
    if given.jobs < 1:
        raise UsageError(f"jobs: expected a positive number, got {given.jobs}")
    from eqlib.models.training.reports import read_reports, summarise, summary_table
    from eqlib.models.training.sweep import read_sweep, run_sweep

    runs = read_sweep(Path(given.file), 1 if given.jobs > 1 else None, given.data_dir)
    failed = run_sweep(runs, given.jobs)
    folders = [run.command.out for run in runs if run not in failed]
    if folders:
        print(summary_table(summarise(read_reports(folders))))
    for run in failed:
        print(f"failed: {run.command.out}")
    return 1 if failed else 0


def _bench(words: list[str]) -> int:
    script = Path(__file__).resolve().parents[1] / "benchmarks" / "run.py"
    if not script.exists():
        raise UsageError(
            "benchmarks are part of a checkout, which this installation is not: clone the "
            "repository, run `pip install -e .` in it, then `eqlib bench` again"
        )
    return subprocess.call([sys.executable, str(script), *words])


def _doctor(words: list[str]) -> int:
    about = "Show versions, devices, storage and what works; the last line says what to mend."
    parser = make_parser("eqlib doctor", "[--quick]", about)
    parser.add_argument("--quick", action="store_true", help="do not try torch.compile")
    given = parse_arguments(parser, words)
    from eqlib.doctor import examine, page

    mends = []
    for title, findings in examine(compilation=not given.quick):
        print(page(title, findings), flush=True)
        mends += [f"{finding.name}: {finding.mend}" for finding in findings if finding.mend]
    print(f"to mend: {'; '.join(mends)}" if mends else "all well")
    return 1 if mends else 0


def _split_task(command: str, more: str, words: list[str]) -> tuple[str, list[str]]:
    """Return the task's name and the words after it, having checked that there is such a task."""
    from eqlib.models import TASKS, get_task

    if not words or words[0] in ("-h", "--help"):
        print(f"usage: eqlib {command} TASK [options]\n\ntasks: {', '.join(TASKS)}\n")
        print(f"eqlib {command} TASK --help shows {more}")
        sys.exit(0 if words else 2)
    if words[0].startswith("-"):
        raise UsageError(f"name the task first: eqlib {command} TASK [options]")
    get_task(words[0])
    return words[0], words[1:]


def _model_parser(command: str, about: str) -> "ArgumentParser":
    """Return the parser of a command that works on the model of a run."""
    parser = make_parser(f"eqlib {command}", "RUN [--last] [--data-dir DIR] [--json]", about)
    parser.add_argument("run", metavar="RUN", help="folder of the run")
    parser.add_argument(
        "--last", action="store_true", help="take the newest weights, not the selected ones"
    )
    parser.add_argument(
        "--data-dir", metavar="DIR", help="folder of the data (default: the user's cache folder)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _print_figures(
    figures: Mapping[str, float], as_json: bool = False, hidden: Sequence[str] = ()
) -> None:
    if as_json:
        print(json.dumps(figures))
        return
    shown = {name: value for name, value in figures.items() if name not in hidden}
    width = max(map(len, shown))
    for name, value in shown.items():
        print(f"test {name.ljust(width)}  {value:.6g}")


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "evaluate": _evaluate,
    "check": _check,
    "data": _data,
    "report": _report,
    "sweep": _sweep,
    "bench": _bench,
    "doctor": _doctor,
}
