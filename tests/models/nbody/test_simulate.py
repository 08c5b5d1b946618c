"""The simulator against an independent run of the public generator.

``charged5.json`` holds, for each split, hashes over all drawn systems and the states of sixteen
systems at times 3.1 and 4.1, each with the largest deviation that was seen among four simulators
that differ in rounding only.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from eqlib.models.nbody.data import GENERATED, SEED, observe
from eqlib.models.nbody.simulate import InitialStates, draw_initial_states, simulate

REFERENCE = json.loads(Path(__file__).with_name("charged5.json").read_text())


@pytest.fixture(scope="module")
def drawn() -> dict[str, InitialStates]:
    random = np.random.RandomState(SEED)
    return {split: draw_initial_states(random, count) for split, count in GENERATED.items()}


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_initial_states_equal_the_public_set_bit_for_bit(drawn, split):
    expected, states = REFERENCE[split]["sha256"], drawn[split]
    assert digest(states.charges) == expected["charges"]
    assert digest(np.rint(1e6 * states.positions).astype("<i4")) == expected["points"]
    assert digest(np.rint(1e6 * states.velocities).astype("<i4")) == expected["velocities"]


def test_another_seed_gives_other_charges():
    states = draw_initial_states(np.random.RandomState(SEED + 1), GENERATED["valid"])
    assert digest(states.charges) not in {part["sha256"]["charges"] for part in REFERENCE.values()}


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_observed_states_agree_with_the_reference(drawn, split):
    expected = REFERENCE[split]
    index = expected["index"]
    observed = observe(InitialStates(*(array[index] for array in drawn[split])))
    tolerance = np.maximum(1e-9, 100 * np.array(expected["sensitivity"]))
    assert np.array_equal(observed["charges"], expected["charges"])
    for name in ("points", "velocities", "targets"):
        deviation = np.abs(observed[name] - np.array(expected[name])).max((1, 2))
        assert (deviation <= tolerance).all(), (name, deviation)


def test_two_charges_obey_newtons_third_law_and_repel_or_attract():
    positions = np.array([[[1.0, 0, 0], [-1.0, 0, 0]]] * 2)
    states = InitialStates(np.array([[1, 1], [1, -1]], np.int8), positions, np.zeros((2, 2, 3)))
    moved = simulate(states, (200,))
    assert np.allclose(moved.velocities[0].sum(1), 0, atol=1e-15)
    # acceleration 1/4 in each direction over 0.2 time units, to first order in time
    assert np.allclose(moved.velocities[0, :, 0, 0], [0.05, -0.05], rtol=2e-2)


def test_coincident_particles_stay_finite():
    states = InitialStates(
        np.ones((1, 3), np.int8), np.zeros((1, 3, 3)), np.ones((1, 3, 3)) * [[[1], [1], [-1]]]
    )
    moved = simulate(states, (10, 20))
    assert np.isfinite(moved.positions).all()


@pytest.mark.parametrize("steps", [(0,), (5, 5), (7, 3)], ids=str)
def test_steps_must_increase(steps):
    states = draw_initial_states(np.random.RandomState(0), 1)
    with pytest.raises(ValueError, match="increase"):
        simulate(states, steps)
