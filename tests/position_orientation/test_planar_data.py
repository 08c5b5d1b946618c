"""The plane: networks on SE(2) learn which way to turn, from made crowds and from real ones."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from eqlib.position_orientation import EdgeOptions, KernelOptions, PositionOrientationNet
from eqlib.symmetry import equivariance_error
from tests.tolerances import EQUIVARIANCE

PAST = (1, 2, 4, 7)  # steps of 0.4 s over which the displacements go in
FUTURE = 12  # steps to the displacement that comes out
LEFT = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])  # acts on rows


def network(group: str, vectors_in: int = 1, space="R2xS1", length=1.0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PositionOrientationNet(
            0,
            vectors_in,
            0,
            1,
            space,
            8,
            channels=16,
            layers=2,
            group=group,
            kernel=KernelOptions(hidden=16, basis=16),
            edges=EdgeOptions(length=length, reach=4.0),
            **options,
        )


def crowd(rng: torch.Generator, clouds: int, size: int = 6) -> dict[str, Tensor]:
    """Return walkers who pass each other on the same side: all veer left of those who are near."""
    points = torch.randn(clouds, size, 2, generator=rng) * torch.tensor([2.0, 1.0])
    velocities = torch.randn(clouds, size, 2, generator=rng)
    offsets = points[:, None] - points[:, :, None]
    pull = offsets * torch.exp(-offsets.square().sum(-1, keepdim=True))
    turned = velocities + 2 * pull.sum(2) @ LEFT
    return {
        "points": points.flatten(0, 1),
        "vectors": velocities.flatten(0, 1)[:, None],
        "batch": torch.arange(clouds).repeat_interleave(size),
        "num_graphs": clouds,
        "target": turned.flatten(0, 1),
    }


def error(net, data: dict[str, Tensor]) -> Tensor:
    """Return the mean square error of a network's vectors."""
    inputs = {name: data[name] for name in data if name != "target"}
    return (net(**inputs).vectors[:, 0] - data["target"]).square().mean()


def fit(net, data: dict[str, Tensor], steps: int, rate: float = 1e-2) -> None:
    optimiser = torch.optim.AdamW(net.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        error(net, data).backward()
        optimiser.step()
        schedule.step()


@pytest.mark.unchecked
def test_only_networks_without_reflections_learn_to_turn_left(rng):
    train, test = crowd(rng, 48), crowd(rng, 48)
    plain = (test["vectors"][:, 0] - test["target"]).square().mean()
    errors = {}
    for group in ("SE(2)", "E(2)"):
        net = network(group)
        fit(net, train, 60)
        with torch.no_grad():
            errors[group] = error(net.eval(), test) / plain
        if group == "SE(2)":
            mirrored = {name: train[name] for name in ("batch", "num_graphs")}
            mirror = torch.tensor([1.0, -1.0])
            mirrored |= {name: test[name] * mirror for name in ("points", "vectors", "target")}
            with torch.no_grad():
                errors["the mirror image"] = error(net, mirrored) / plain
    assert errors["SE(2)"] < 0.3, errors
    # left and right are one to a network with reflections, so that none is its best answer
    assert errors["E(2)"] > 0.8, errors
    # and what one side taught is wrong on the other
    assert errors["the mirror image"] > 2, errors


@pytest.fixture(scope="module")
def pedestrians(request) -> dict[str, Tensor]:
    """Return moments in a street with at least four walkers, in metres."""
    path = request.config.getoption("--data") / "trajectories/eth_ucy/all_data/crowds_zara01.txt"
    frames, walkers, x, y = np.loadtxt(path).T
    times = np.unique(frames)
    tracks = np.full((len(np.unique(walkers)), len(times), 2), np.nan)
    rows = np.searchsorted(np.unique(walkers), walkers)
    tracks[rows, np.searchsorted(times, frames)] = np.stack([x, y], 1)
    places = torch.from_numpy(tracks)
    points, vectors, targets, sizes = [], [], [], []
    for time in range(max(PAST), len(times) - FUTURE):
        now = places[:, time]
        past = torch.stack([(now - places[:, time - step]) / step for step in PAST], 1)
        ahead = (places[:, time + FUTURE] - now) / FUTURE
        there = ~(past.isnan().any((1, 2)) | ahead.isnan().any(1))
        if there.sum() >= 4:
            points.append(now[there])
            vectors.append(past[there])
            targets.append(ahead[there])
            sizes.append(int(there.sum()))
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    joined = [torch.cat(parts) for parts in (points, vectors, targets)]
    names = ("points", "vectors", "target", "batch")
    return dict(zip(names, [*joined, batch], strict=True)) | {"num_graphs": len(sizes)}


def moments(data: dict[str, Tensor], first: int, last: int, dtype=torch.float32):
    """Return some of the moments as a batch of their own."""
    kept = (data["batch"] >= first) & (data["batch"] < last)
    part = {name: data[name][kept].to(dtype) for name in ("points", "vectors", "target")}
    return part | {"batch": data["batch"][kept] - first, "num_graphs": last - first}


@pytest.mark.data
@pytest.mark.parametrize(
    ("space", "group"), [("R2xS1", "SE(2)"), ("SE2", "SE(2)"), ("R2xS1", "E(2)")]
)
def test_real_crowds_move_with_the_street(space, group, pedestrians, rng):
    data = moments(pedestrians, 0, 60, torch.float64)
    inputs = {name: data[name] for name in data if name != "target"}
    net = network(group, len(PAST), space).double()
    assert net(**inputs).gap.min() > 1e-3
    assert equivariance_error(net, inputs, generator=rng).max < EQUIVARIANCE[torch.float64]
    # control: the grid that stays where it is
    plain = network(group, len(PAST), space, exact=False).double()
    assert equivariance_error(plain, inputs, generator=rng).max > 1e-3


@pytest.mark.data
@pytest.mark.unchecked
def test_it_foretells_real_paths_better_than_straight_lines(pedestrians):
    half = pedestrians["num_graphs"] // 2
    train = moments(pedestrians, 0, half)
    test = moments(pedestrians, half + FUTURE + max(PAST), pedestrians["num_graphs"])
    net = network("SE(2)", len(PAST), length=2.0)
    fit(net, train, 60)
    found = error(net.eval(), test)
    straight = min((test["vectors"][:, k] - test["target"]).square().mean() for k in range(4))
    assert found < straight
    cosine, sine = math.cos(2.0), math.sin(2.0)
    turn = torch.tensor([[cosine, sine], [-sine, cosine]])
    turned = {name: test[name] @ turn for name in ("points", "vectors", "target")}
    assert abs(error(net, test | turned) / found - 1) < 1e-3
