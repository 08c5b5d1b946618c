"""A run that is killed and continued ends where an uninterrupted one does, bit for bit."""

import signal
import time
from concurrent.futures import BrokenExecutor

import pytest

from eqlib.models.training import train
from eqlib.models.training.reports import read_rows
from tests.models.training.processes import (
    children,
    final_hashes,
    in_child,
    train_until_killed_after,
    train_until_killed_in_write,
    train_without_random_state,
)
from tests.models.training.toy import toy_config

CONFIG = toy_config(ema_decay=0.9, clip_norm=1.0, checkpoint_every=3)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    run = tmp_path_factory.mktemp("uninterrupted")
    in_child(train, CONFIG, run)
    return run


def figures(run):
    """Return a run's metrics without those that depend on the clock."""
    return [
        {name: value for name, value in row.items() if name not in ("seconds", "items_per_second")}
        for row in read_rows(run)
    ]


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param([(train_until_killed_after, 11)], id="mid-epoch"),
        pytest.param([(train_until_killed_after, 14)], id="before-an-evaluation"),
        pytest.param([(train_until_killed_in_write, 3)], id="in-the-first-write"),
        pytest.param(
            [
                (train_until_killed_after, 5),
                (train_until_killed_in_write, 7),
                (train_until_killed_after, 26),
            ],
            id="three-times",
        ),
    ],
)
def test_killed_run_ends_like_an_uninterrupted_one(kills, uninterrupted, tmp_path):
    for train_until_killed, when in kills:
        with pytest.raises(BrokenExecutor):
            in_child(train_until_killed, when, CONFIG, tmp_path)
    in_child(train, CONFIG, tmp_path, True)
    for file in ("model.safetensors", "best.safetensors"):
        assert final_hashes(tmp_path, file) == final_hashes(uninterrupted, file)
    assert figures(tmp_path) == figures(uninterrupted)


def test_run_killed_from_outside_ends_like_an_uninterrupted_one(uninterrupted, tmp_path):
    for count in (2, 3, 4):  # kill it as soon as so many checkpoints have been begun
        seen = set()
        child = children().Process(target=train, args=(CONFIG, tmp_path, True))
        child.start()
        while len(seen) < count and child.is_alive():
            seen |= set((tmp_path / "checkpoints").glob("*"))
            time.sleep(1e-4)
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
    in_child(train, CONFIG, tmp_path, True)
    assert final_hashes(tmp_path) == final_hashes(uninterrupted)


def test_without_random_state_the_run_ends_elsewhere(uninterrupted, tmp_path):
    with pytest.raises(BrokenExecutor):
        in_child(train_until_killed_after, 11, CONFIG, tmp_path)
    in_child(train_without_random_state, CONFIG, tmp_path)
    assert final_hashes(tmp_path) != final_hashes(uninterrupted)
