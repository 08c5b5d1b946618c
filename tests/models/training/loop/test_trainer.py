"""Steps, evaluations and selection."""

import pytest
import torch
from torch.testing import assert_close

from eqlib.models.training.loop import Processes, Trainer, evaluate_split
from eqlib.models.training.reports import read_rows
from eqlib.models.training.task import Splits
from tests.models.training.toy import Network, Options, Toy, toy_config

ALONE = Processes(0, 1, torch.device("cpu"))


@pytest.fixture
def make_trainer(tmp_path):
    """Return a function that makes a trainer of the toy task."""

    def make(data=None, dropout=0.0, **training):
        torch.manual_seed(0)
        run = toy_config(**training)
        task = Toy(Options(**(data or {})))
        dtype = torch.float64 if run.training.precision == "float64" else torch.float32
        splits = Splits(*(split.to(ALONE.device, dtype) for split in task.load()))
        model = Network(dropout=dropout).to(dtype)
        return Trainer(task, model, splits, run, ALONE, tmp_path, {})

    return make


def test_training_learns(make_trainer, tmp_path):
    make_trainer(epochs=30, learning_rate=2e-2, checkpoint_every=0).fit()
    errors = [row["valid_mse"] for row in read_rows(tmp_path)]
    assert errors[-1] < 0.1 * errors[0]


def test_every_epoch_visits_every_item_once_and_in_another_order(make_trainer):
    trainer = make_trainer(epochs=3)
    visited = []
    for indices, batch in trainer._batches():
        assert_close(batch["norms"], trainer.splits.train[indices]["norms"])
        visited.append(indices)
        trainer.at.step += 1
    assert [len(indices) for indices in visited] == 3 * [8, 8, 8, 8, 8, 8, 2]
    epochs = [torch.cat(visited[start : start + 7]).tolist() for start in (0, 7, 14)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_batches_continue_in_the_middle_of_an_epoch(make_trainer):
    trainer = make_trainer(epochs=2)
    whole = []
    for indices, _ in trainer._batches():
        whole.append(indices.tolist())
        trainer.at.step += 1
    trainer.at.step = 9
    first, _ = next(trainer._batches())
    assert first.tolist() == whole[9]


def test_gradient_is_that_of_the_mean_loss_over_the_batch(make_trainer):
    trainer = make_trainer(precision="float64")
    indices = torch.tensor([3, 1, 4])
    batch = trainer.splits.train[indices]
    trainer.task.losses(trainer.model, batch).mean().backward()
    weight = trainer.model.layers[0].weight
    expected = weight.grad.clone()
    trainer._train_step(indices, batch)
    assert_close(weight.grad, expected)


def test_rows_are_written_at_evaluations(make_trainer, tmp_path):
    make_trainer(epochs=5, evaluate_every=2).fit()
    rows = read_rows(tmp_path)
    assert [row["step"] for row in rows] == [14, 28, 35]
    assert [row["epoch"] for row in rows] == [2, 4, 5]
    assert list(rows[0]) == [
        *("step", "epoch", "train_loss", "valid_mse", "valid_mse_median"),
        *("learning_rate", "gradient_norm", "seconds", "items_per_second"),
    ]


def test_train_loss_is_the_mean_over_the_items_of_the_epoch(make_trainer, tmp_path):
    trainer = make_trainer(epochs=1, learning_rate=1e-12)
    every = trainer.splits.train[torch.arange(50)]
    expected = trainer.task.losses(trainer.model, every).mean().item()
    trainer.fit()
    assert read_rows(tmp_path)[0]["train_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("ema_decay", [None, 0.9], ids=["weights", "average"])
def test_best_weights_are_those_of_the_best_evaluation(ema_decay, make_trainer, tmp_path):
    trainer = make_trainer(
        epochs=12, learning_rate=0.3, schedule="constant", ema_decay=ema_decay, dropout=0.5
    )
    trainer.fit()
    best = min(read_rows(tmp_path), key=lambda row: row["valid_mse"])
    assert (trainer.at.best, trainer.at.best_step) == (best["valid_mse"], best["step"])
    assert best["step"] < trainer.total_steps
    network = Network()
    network.load_state_dict(trainer.best)
    figures = evaluate_split(trainer.task, network, trainer.splits.valid, trainer.config, ALONE)
    assert figures["mse"] == best["valid_mse"]


def test_evaluation_is_exact_over_items_in_data_order(make_trainer):
    trainer = make_trainer(dropout=0.5, precision="float64")
    figures = evaluate_split(
        trainer.task, trainer.model, trainer.splits.valid, trainer.config, ALONE
    )
    whole = trainer.splits.valid[torch.arange(23)]
    errors = trainer.task.measures(trainer.model.eval(), whole)["mse"]
    assert figures["mse"] == pytest.approx(errors.mean().item(), rel=1e-12)
    assert figures["mse_median"] == pytest.approx(errors.median().item(), rel=1e-12)


@pytest.mark.parametrize(("patience", "evaluate_every"), [(3, 1), (2, 2)], ids=str)
def test_training_stops_after_evaluations_without_progress(
    patience, evaluate_every, make_trainer, tmp_path
):
    trainer = make_trainer(
        epochs=50,
        learning_rate=1.0,
        schedule="constant",
        patience=patience,
        evaluate_every=evaluate_every,
    )
    trainer.fit()
    assert trainer.at.step - trainer.at.best_step == patience * evaluate_every * 7
    assert trainer.at.step < trainer.total_steps
    assert read_rows(tmp_path)[-1]["step"] == trainer.at.step


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ("loss", r"the loss of training items \[7\] is not finite in step \d+ \(epoch 1, batch"),
        ("gradient", r"the gradient is not finite in step \d+ \(epoch 1, batch"),
        ("validation", r"the validation mse is inf after step 7"),
    ],
    ids=str,
)
def test_figures_that_are_not_finite_stop_the_run(flaw, message, make_trainer, tmp_path):
    trainer = make_trainer(data={"flaw": flaw})
    with pytest.raises(FloatingPointError, match=message):
        trainer.fit()
    assert all(weight.isfinite().all() for weight in trainer.model.state_dict().values())
    assert not (tmp_path / "checkpoints").exists()


def test_losses_of_another_shape_are_refused(make_trainer):
    with pytest.raises(ValueError, match=r"Toy.losses must return .* shape \(8,\).* returned \(\)"):
        make_trainer(data={"flaw": "shape"}).fit()


@pytest.mark.parametrize(
    ("precision", "weights", "computed"),
    [
        ("float32", torch.float32, torch.float32),
        ("float64", torch.float64, torch.float64),
        ("bfloat16", torch.float32, torch.bfloat16),
        ("float16", torch.float32, torch.float16),
    ],
    ids=str,
)
def test_precision_is_that_of_the_computation(precision, weights, computed, make_trainer):
    trainer = make_trainer(epochs=1, precision=precision)
    seen = {True: set(), False: set()}
    trainer.model.layers[0].register_forward_hook(
        lambda layer, inputs, output: seen[layer.training].add(output.dtype)
    )
    trainer.fit()
    assert trainer.model.layers[0].weight.dtype == weights
    assert seen == {True: {computed}, False: {weights}}


def test_checkpoints_come_at_evaluations_and_in_between(make_trainer, monkeypatch):
    trainer = make_trainer(epochs=2, checkpoint_every=5)
    steps = []
    monkeypatch.setattr(Trainer, "save", lambda self: steps.append(self.at.step))
    trainer.fit()
    assert steps == [5, 7, 10, 14]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # inductor's own import
def test_compiled_model_trains_like_the_plain_one(make_trainer):
    plain = make_trainer(epochs=2)
    plain.fit()
    compiled = make_trainer(epochs=2, compile="default", ema_decay=0.5)
    compiled.fit()
    assert_close(compiled.model.state_dict(), plain.model.state_dict(), rtol=1e-4, atol=1e-5)
