"""The runs of a cross-validation, one after the other in one process."""

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, NamedTuple

from eqlib.models.training.configuration import RunConfig
from eqlib.models.training.folds.figures import Finished, gather
from eqlib.models.training.folds.page import folds_page
from eqlib.models.training.folds.picture import draw_folds
from eqlib.models.training.loop import saved_bytes
from eqlib.models.training.procedure import Figures, Job, build_model, carry_out
from eqlib.models.training.progress import say
from eqlib.models.training.reports import read_reports, read_rows
from eqlib.models.training.single import train_and_test
from eqlib.models.training.storage import check_folder, explain_failure, is_finished
from eqlib.usage import UsageError

PICTURE = "folds.png"


class Part(NamedTuple):
    """One run of a cross-validation."""

    fold: int
    protocol: str
    job: Job


def cross_validate(job: Job) -> Figures:
    """Train on each fold by each rule, and put the figures together.

    Every part is a run of its own in a folder ``fold-K-RULE``: finished ones are left as they are,
    an interrupted one continues from its last checkpoint.

    Raises:
        UsageError: the folder's folds are of other data, or a finished one has lost its figures.
    """
    build_model(job.task, job.config)  # a wrong option fails before anything is written
    job.start()
    with job.processes.main_first():
        loaded = job.task.load()
    job.check_data(loaded)
    parts = list(_parts(job))
    for number, part in enumerate(parts, start=1):
        if is_finished(part.job.out):
            continue
        place = f"{number}/{len(parts)}"
        say(f"fold {part.fold} of {job.task.settings.folds}, {part.protocol} [{place}]")
        check_folder(part.job.asked, part.job.out, resume=True)
        carry_out(part.job, _train_first if number == 1 else _train_further)
        job.processes.barrier()
    if not job.processes.is_main:
        return {}
    found = [_finished(part) for part in parts]
    figures = gather(found, job.task.score)
    with explain_failure(f"the picture in {job.out}", "make room, then resume"):
        if find_spec("matplotlib"):
            title = f"{job.task.data_name}: {job.config.model}, preset {job.config.preset}"
            draw_folds(found, figures, title, job.out / PICTURE)
        else:
            say("no picture is drawn: matplotlib is missing; `pip install eqlib[plot]` adds it")
    drawn = PICTURE if (job.out / PICTURE).exists() else None
    return figures | {"page": folds_page(job, figures, drawn)}


def _parts(job: Job) -> Iterator[Part]:
    settings = job.task.settings
    for fold in range(1, settings.folds + 1):
        for protocol in settings.protocols:
            data = {"fold": fold, "folds": None, "protocol": protocol}

            def of_fold(config: RunConfig, data: dict[str, Any] = data) -> RunConfig:
                return replace(config, data=config.data | data)

            task = type(job.task)(replace(settings, **data), job.task.data_dir, job.task.seed)
            out = job.out / f"fold-{fold}-{protocol}"
            run = Job(of_fold(job.config), of_fold(job.asked), out, task, job.processes)
            yield Part(fold, protocol, run)


def _train_first(job: Job) -> Figures:
    """Train, and measure what does not depend on the fold: symmetry and memory."""
    trainer, figures = train_and_test(job)
    if not job.processes.is_main:
        return figures
    model, splits = trainer.optimizer.evaluated, trainer.splits
    return figures | {
        "equivariance": job.task.equivariance(model, splits.test),
        "activation_bytes": saved_bytes(trainer),
        "data": job.task.facts(splits),
        "sizes": _sizes(splits),
    }


def _train_further(job: Job) -> Figures:
    trainer, figures = train_and_test(job)
    return figures | {"equivariance": {}, "sizes": _sizes(trainer.splits)}


def _sizes(splits: Any) -> dict[str, int]:
    return {name: len(split) for name, split in splits._asdict().items()}


def _finished(part: Part) -> Finished:
    out = part.job.out
    report, rows = read_reports([out / "report.json"])[0], read_rows(out)
    if not rows:
        raise UsageError(
            f"{out / 'metrics.jsonl'} is missing or empty, but the fold is finished: restore it, "
            f"or remove {out} and resume, which trains the fold again"
        )
    return Finished(part.fold, part.protocol, report, rows)
