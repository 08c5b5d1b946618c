"""The task of normals: losses, measures under both rotations, the check, picture and training."""

import json
import math

import pytest
import torch
from torch import nn

from eqlib.models.normals import DataOptions, FAPointNet, Normals, Plane, PointNet, data
from eqlib.models.normals.shapes import draw_clouds
from eqlib.models.normals.task import turned
from eqlib.models.training import InMemory, evaluate, train
from eqlib.models.training.configuration import make_config, override, read_preset
from tests.tolerances import EQUIVARIANCE


class Fixed(nn.Module):
    """Returns one direction, or the outward radius, for every point."""

    def __init__(self, direction: torch.Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.direction = direction

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        found = points if self.direction is None else self.direction.to(points).expand_as(points)
        return found / found.norm(dim=-1, keepdim=True) + 0 * self.weight


@pytest.fixture
def split() -> InMemory:
    clouds = draw_clouds(24, 48, torch.Generator().manual_seed(1))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        turns = {f"turn_{kind}": data.random_rotations(24, kind) for kind in ("z", "so3")}
    return InMemory(**clouds._asdict(), **turns)


@pytest.fixture
def sphere(rng) -> dict[str, torch.Tensor]:
    """Points of spheres, whose normals are their directions."""
    points = torch.randn(4, 30, 3, generator=rng, dtype=torch.float64)
    points = points / points.norm(dim=-1, keepdim=True)
    turns = torch.linalg.qr(torch.randn(4, 3, 3, generator=rng, dtype=torch.float64)).Q
    return {"points": points, "normals": points, "turn_z": turns, "turn_so3": turns}


def everything(split: InMemory):
    return split[torch.arange(len(split))]


def test_losses_are_one_minus_the_cosine_to_outward_normals(sphere):
    task = Normals()
    assert task.losses(Fixed(), sphere).abs().max() < 1e-12
    inwards = {**sphere, "normals": -sphere["normals"]}
    assert torch.allclose(task.losses(Fixed(), inwards), torch.full((4,), 2.0).double())


def test_error_and_angle_do_not_see_signs_and_flipped_does(sphere):
    inwards = {**sphere, "normals": -sphere["normals"]}
    for batch, flipped in ((sphere, 0.0), (inwards, 1.0)):
        found = Normals().measures(Fixed(), batch)
        for regime in ("z", "so3"):
            assert found[f"error_{regime}"].abs().max() < 1e-12
            assert found[f"angle_{regime}"].abs().max() < 1e-5
            assert (found[f"flipped_{regime}"] == flipped).all()


def test_error_and_angle_of_a_known_estimate():
    normals = torch.tensor([[[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]], dtype=torch.float64)
    eye = torch.eye(3, dtype=torch.float64)[None]
    batch = {"points": normals, "normals": normals, "turn_z": eye, "turn_so3": eye}
    tilted = Fixed(torch.tensor([math.sin(0.3), 0.0, -math.cos(0.3)]))
    found = Normals().measures(tilted, batch)
    sines = (math.sin(0.3) ** 2 + math.cos(0.3) ** 2) / 2
    assert found["error_z"].item() == pytest.approx(sines, rel=1e-6)
    degrees = (math.degrees(0.3) + 90 - math.degrees(0.3)) / 2
    assert found["angle_z"].item() == pytest.approx(degrees, rel=1e-6)
    assert found["flipped_z"].item() == 0.5


def test_figures_are_means_and_the_error_of_the_training_rotations():
    measures = {"error_z": torch.tensor([0.1, 0.3]), "error_so3": torch.tensor([0.5, 0.9])}
    measures = {name: value.double() for name, value in measures.items()}
    expected = pytest.approx({"error": 0.2, "error_z": 0.2, "error_so3": 0.7})
    assert Normals().summarise(measures) == expected
    task = Normals(DataOptions(train_rotations="so3"))
    assert task.summarise(measures)["error"] == pytest.approx(0.7)


@pytest.mark.parametrize("kind", ["z", "so3"])
def test_training_shapes_are_turned_anew_in_their_way(kind, split):
    seen = []

    class Spy(Fixed):
        def forward(self, points):
            seen.append(points)
            return super().forward(points)

    task, batch = Normals(DataOptions(train_rotations=kind)), everything(split)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(2):
            task.losses(Spy(), batch)
    assert not torch.allclose(seen[0], seen[1], atol=1e-3)
    heights_stay = torch.allclose(seen[0][..., 2], batch["points"][..., 2], atol=1e-12)
    assert heights_stay == (kind == "z")
    gram, before = (points @ points.mT for points in (seen[0], batch["points"]))
    assert torch.allclose(gram, before, atol=1e-12)


def test_points_and_normals_are_turned_together(split):
    batch = everything(split)
    points, normals = turned(batch, batch["turn_so3"])
    products, before = (points * normals).sum(-1), (batch["points"] * batch["normals"]).sum(-1)
    assert torch.allclose(products, before, atol=1e-12)
    expected = torch.einsum("sij,spj->spi", batch["turn_so3"], batch["points"])
    assert torch.allclose(points, expected, atol=1e-12)


def test_frames_make_both_rotations_equal_and_without_them_they_differ(split):
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        batch = everything(split)
        for network, equal in ((FAPointNet(16), True), (PointNet(16), False)):
            found = Normals().measures(network.double().eval(), batch)
            difference = (found["error_z"] - found["error_so3"]).abs().max()
            assert (difference < 1e-9) == equal


def test_equivariance_passes_frames_and_rejects_the_plain_network(split):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network, plain = FAPointNet(16).eval(), PointNet(16).eval()
    errors = Normals().equivariance(network, split)
    assert errors["float32"] < EQUIVARIANCE[torch.float32]
    assert errors["float64"] < EQUIVARIANCE[torch.float64]
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert Normals().equivariance(plain, split)["float64"] > 1e-2


def test_example_is_a_batch_of_at_most_100_clouds(split):
    example = Normals().example(split)
    assert set(example) == {"points"}
    assert Plane().double()(**example).shape == (24, 48, 3)


def test_picture_is_a_png(split, tmp_path):
    pytest.importorskip("matplotlib", reason="the picture needs the extra eqlib[plot]")
    path = tmp_path / "predictions.png"
    Normals().picture(Plane().eval(), split, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert 10_000 < path.stat().st_size < 500_000


@pytest.mark.parametrize("preset", ["quick", "cpu", "gpu", "paper"], ids="{}.yaml".format)
def test_presets_fit_every_network(preset):
    assert read_preset(Normals, preset).about
    for model in Normals.models:
        assert make_config("normals", model, preset).model == model


def test_training_learns_and_reports_both_rotations(tmp_path, monkeypatch):
    config = override(
        make_config("normals", "fa_pointnet", "quick"),
        {
            "network": {"width": 16},
            "training": {"epochs": 12, "batch_size": 16, "evaluate_every": 1, "warmup_epochs": 0},
        },
    )
    make_splits = data.make_splits

    def few_shapes():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(data, "SHAPES", {"train": 64, "valid": 8, "test": 24})
            patch.setattr(data, "POINTS", 48)
            return make_splits()

    monkeypatch.setattr(data, "make_splits", few_shapes)
    report = train(config, tmp_path / "run", data_dir=tmp_path)
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(row)["train_loss"] for row in rows]
    assert losses[-1] < 0.7 * losses[0]
    assert report["test"]["error_so3"] == pytest.approx(report["test"]["error_z"], rel=1e-4)
    assert report["test"]["error"] < 0.55  # two thirds is chance
    assert evaluate(tmp_path / "run", data_dir=tmp_path) == pytest.approx(report["test"], rel=1e-6)
