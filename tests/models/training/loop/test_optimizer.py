"""Learning rates, clipping and averaging."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from eqlib.models.training import TrainingConfig
from eqlib.models.training.loop.optimizer import Optimizer, learning_rate

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("step", "schedule", "expected"),
    [
        (0, "cosine", 0.25),
        (3, "cosine", 1.0),
        (4, "cosine", 1.0),
        (8, "cosine", 0.5),
        (12, "cosine", 0.0),
        (1, "constant", 0.5),
        (4, "constant", 1.0),
        (11, "constant", 1.0),
    ],
    ids=str,
)
def test_learning_rate_warms_up_and_then_follows_its_schedule(step, schedule, expected):
    rate = learning_rate(step, peak=1.0, warmup=4, total=12, schedule=schedule)
    assert rate == pytest.approx(expected, abs=1e-15)


def test_learning_rate_falls_in_steps_counted_from_the_start():
    rates = [learning_rate(step, 1.0, 2, 9, "step", stair=3, factor=0.1) for step in range(9)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01])


def test_learning_rate_falls_every_so_many_epochs():
    config = TrainingConfig(schedule="step", step_epochs=1, learning_rate=1.0)
    optimizer = Optimizer(nn.Linear(3, 2), config, epoch_steps=10, device=CPU)
    assert [optimizer.rate(step) for step in (0, 9, 10, 20)] == [1.0, 1.0, 0.5, 0.25]


def test_learning_rate_is_never_zero_during_training():
    rates = [learning_rate(step, 1.0, 0, 5, "cosine") for step in range(5)]
    assert rates[0] == 1.0
    assert min(rates) > 0
    assert rates == sorted(rates, reverse=True)


def make(rng, **training):
    """Return a linear map with an optimizer of 10 steps."""
    model = nn.Linear(3, 2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng))
    config = TrainingConfig(epochs=10, schedule="constant", learning_rate=0.1, **training)
    return model, Optimizer(model, config, epoch_steps=1, device=CPU)


def step(model, optimizer, rng, number=0):
    """Take a step and return the norm of the gradient."""
    norm = optimizer.backward(model(torch.randn(5, 3, generator=rng)).square().sum())
    optimizer.update(number)
    return norm


def test_steps_are_those_of_adamw(rng):
    model, optimizer = make(rng, weight_decay=0.1)
    copy = nn.Linear(3, 2)
    copy.load_state_dict(model.state_dict())
    reference = torch.optim.AdamW(copy.parameters(), 0.1, weight_decay=0.1)
    for number in range(3):
        x = torch.randn(5, 3, generator=rng)
        optimizer.backward(model(x).square().sum())
        optimizer.update(number)
        reference.zero_grad()
        copy(x).square().sum().backward()
        reference.step()
    assert_close(model.weight, copy.weight)
    assert_close(model.bias, copy.bias)


@pytest.mark.parametrize(("clip_norm", "clipped"), [(1e-3, True), (1e6, False), (None, False)])
def test_gradient_is_clipped_to_its_norm(clip_norm, clipped, rng):
    model, optimizer = make(rng, clip_norm=clip_norm)
    norm = optimizer.backward(model(torch.randn(5, 3, generator=rng)).square().sum())
    after = nn.utils.get_total_norm([p.grad for p in model.parameters()])
    assert norm > 1
    assert_close(after, torch.tensor(clip_norm) if clipped else norm, rtol=1e-3, atol=0)


@pytest.mark.parametrize("ema_decay", [0.3, 0.9], ids=str)
def test_averaged_weights_follow_their_recurrence(ema_decay, rng):
    model, optimizer = make(rng, ema_decay=ema_decay)
    step(model, optimizer, rng)
    expected = model.weight.detach().clone()
    for number in range(1, 4):
        step(model, optimizer, rng, number)
        decay = min(ema_decay, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    assert_close(optimizer.evaluated.weight, expected)
    assert not torch.allclose(optimizer.evaluated.weight, model.weight)


def test_without_averaging_the_model_itself_is_evaluated(rng):
    model, optimizer = make(rng)
    assert optimizer.evaluated is model


@pytest.mark.parametrize("precision", ["float32", "float16"], ids=str)
def test_state_continues_where_it_was_saved(precision, rng):
    model, optimizer = make(rng, ema_decay=0.9, precision=precision)
    step(model, optimizer, rng)
    copy, continued = make(rng, ema_decay=0.9, precision=precision)
    copy.load_state_dict(model.state_dict())
    continued.load_state_dict(deepcopy(optimizer.state_dict()))
    state = rng.get_state()
    step(model, optimizer, rng, 1)
    rng.set_state(state)
    step(copy, continued, rng, 1)
    assert copy.weight.equal(model.weight)
    assert continued.evaluated.weight.equal(optimizer.evaluated.weight)


def test_scaled_float16_loss_that_overflows_leaves_the_weights(rng):
    model, optimizer = make(rng, precision="float16")
    before = model.weight.detach().clone()
    norm = optimizer.backward(model(torch.randn(5, 3, generator=rng)).square().sum() * 1e38)
    optimizer.update(0)
    assert not norm.isfinite()
    assert model.weight.equal(before)
