"""What the protocol says of networks whose answers are known."""

import math

import pytest
import torch

from eqlib.models.graphs import GIN
from eqlib.models.graphs.brec import Schedule, Statistic, Verdict, answer, judge
from tests.models.graphs.brec.toy import (
    Constant,
    Degrees,
    PlaceInBatch,
    RandomNumbers,
    easy_and_hard,
    maker,
)


def verdict(network, pair, seed=0, **schedule):
    return judge(maker(network)(seed), easy_and_hard().copies(pair, seed), Schedule(**schedule))


def test_a_constant_network_distinguishes_nothing():
    found = verdict(Constant, 0)
    assert found.pair == found.alone == (0, 0, 0)
    assert not answer(found.to_dict()).correct
    assert answer(found.to_dict()).reliable
    assert found.epochs == 20


def test_an_invariant_network_distinguishes_what_it_sees():
    easy, hard = (answer(verdict(Degrees, pair).to_dict()) for pair in (0, 1))
    assert easy.distinguished
    assert (hard.correct, hard.reliable) == (False, True)


def test_training_pushes_outputs_apart_and_stops_early():
    untrained = verdict(Degrees, 0, epochs=0)
    trained = verdict(Degrees, 0, learning_rate=0.05)
    assert (untrained.epochs, math.isnan(untrained.loss)) == (0, True)
    assert 0 < trained.epochs < 20
    assert trained.loss < 0.2


def test_a_network_that_sees_the_place_in_the_batch_is_not_reliable():
    found = answer(verdict(PlaceInBatch, 1).to_dict())
    assert not found.reliable
    assert not found.distinguished


def test_a_network_that_sees_random_numbers_of_the_nodes_distinguishes_next_to_nothing():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        answers = [
            answer(verdict(RandomNumbers, 1, seed, epochs=2).to_dict()) for seed in range(60)
        ]
    # one of twenty by chance
    assert sum(each.distinguished for each in answers) <= 8
    assert any(not each.reliable for each in answers)


def test_message_passing_leaves_pairs_equal_to_colour_refinement():
    def small():
        return GIN(width=8, layers=2, node_types=1, outputs=16).double()

    easy, hard = (verdict(small, pair) for pair in (0, 1))
    assert answer(easy.to_dict()).distinguished
    assert answer(hard.to_dict()) == (False, True)
    assert hard.pair.ridge < 1e-10


@pytest.mark.parametrize(
    ("pair", "alone", "expected"),
    [
        (100.0, 1.0, (True, True)),
        (1.0, 1.0, (False, True)),
        (100.0, 90.0, (True, False)),
        (100.0, 100.0, (False, False)),
        (math.nan, 1.0, (False, True)),
        (100.0, math.nan, (True, False)),
        (math.inf, 0.0, (False, True)),
    ],
    ids=["both", "equal", "unreliable", "the same", "nan", "nan alone", "infinite"],
)
def test_answers(pair, alone, expected):
    row = Verdict(Statistic(pair, 0.0, 0.0), Statistic(alone, 0.0, 0.0), 1, 0.1, 2.0).to_dict()
    assert answer(row) == expected
    assert answer(row).distinguished == all(expected)
    assert answer(row, "pinv") == (False, True)
