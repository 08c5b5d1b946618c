"""The integrator: symplectic, reversible, conserving, and with a force that is learned."""

from itertools import pairwise

import pytest
import torch

from eqlib.geometry import complete_graph
from eqlib.models.nbody import Integrator
from eqlib.models.nbody.networks import integrator as module
from eqlib.models.nbody.networks.base import Particles
from eqlib.symmetry import equivariance_error
from tests.tolerances import EQUIVARIANCE

ROUNDING = 1e-11  # of a flow of some steps in float64
BROKEN = 1e-3  # what a flow without the property misses it by, at least


def build(steps: int = 8, dtype=torch.float64, strength: float = 10.0) -> Integrator:
    """Return a new network, with a force large enough to bend the paths."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Integrator(steps=steps).to(dtype).eval()
    with torch.no_grad():
        network.force.law[-1].weight.mul_(strength)
    return network


def particles(counts, rng, dtype=torch.float64) -> Particles:
    nodes, graphs = sum(counts), len(counts)
    batch = torch.arange(graphs).repeat_interleave(torch.tensor(counts))
    return Particles(
        torch.randn(nodes, 3, generator=rng, dtype=dtype),
        torch.randn(nodes, 3, generator=rng, dtype=dtype),
        torch.randint(2, (nodes,), generator=rng).to(dtype) * 2 - 1,
        *complete_graph(batch, graphs),
        batch,
        graphs,
    )


def euler(network: Integrator, start: Particles) -> module.State:
    """Advance both positions and velocities by what they are at the start of a step."""
    points, velocities, time = start.points, start.velocities, 1 / network.steps
    charges = start.charges[start.target] * start.charges[start.source]
    for _ in range(network.steps):
        force = network.force(points, charges, start)
        points, velocities = points + time * velocities, velocities + time * force
    return module.State(points, velocities)


def jacobian(flow, network: Integrator, start: Particles) -> torch.Tensor:
    """Return the derivative of the end state by the initial one, both flattened."""

    def move(state):
        points, velocities = state.view(2, -1, 3)
        return torch.cat(flow(network, start._replace(points=points, velocities=velocities)))

    state = torch.stack([start.points, start.velocities]).flatten()
    return torch.autograd.functional.jacobian(move, state).flatten(0, 1)


@pytest.mark.parametrize(
    ("flow", "symplectic"), [(Integrator.flow, True), (euler, False)], ids=["ours", "Euler"]
)
def test_the_flow_preserves_areas_and_volume(flow, symplectic, rng):
    start = particles([3, 2], rng)
    derivative = jacobian(flow, build(), start)
    size = len(derivative) // 2
    form = torch.zeros_like(derivative)
    form[:size, size:], form[size:, :size] = torch.eye(size), -torch.eye(size)
    areas = (derivative.T @ form @ derivative - form).abs().max()
    volume = abs(torch.linalg.det(derivative) - 1)
    if symplectic:
        assert areas < ROUNDING
        assert volume < ROUNDING
    else:
        assert areas > BROKEN
        assert volume > BROKEN


@pytest.mark.parametrize(
    ("flow", "reversible"), [(Integrator.flow, True), (euler, False)], ids=["ours", "Euler"]
)
def test_reversed_velocities_lead_back(flow, reversible, rng):
    start, network = particles([5, 4], rng), build()
    end = flow(network, start)
    back = flow(network, start._replace(points=end.points, velocities=-end.velocities))
    error = max(
        (back.points - start.points).abs().max(), (back.velocities + start.velocities).abs().max()
    )
    assert (end.velocities - start.velocities).abs().max() > 0.1, "no force acts"
    assert error < ROUNDING if reversible else error > BROKEN


@pytest.mark.parametrize("edges", ["all", "one direction only"])
def test_momentum_and_angular_momentum_are_conserved(edges, rng):
    start = particles([6], rng)
    if edges == "one direction only":
        kept = start.source < start.target
        start = start._replace(source=start.source[kept], target=start.target[kept])
    end = build().flow(start)
    assert (end.velocities.sum(0) - start.velocities.sum(0)).abs().max() < ROUNDING
    angular = [torch.linalg.cross(x, v).sum(0) for x, v in (start[:2], end)]
    assert (angular[1] - angular[0]).abs().max() < ROUNDING
    # control: single particles do change theirs
    assert (end.velocities - start.velocities).abs().max() > 0.1


def test_forces_are_the_gradient_of_a_potential(rng):
    start, network = particles([4], rng), build()
    charges = start.charges[start.target] * start.charges[start.source]
    derivative = torch.autograd.functional.jacobian(
        lambda points: network.force(points, charges, start), start.points
    ).reshape(12, 12)
    assert (derivative - derivative.T).abs().max() < 1e-13
    assert derivative.abs().max() > 0.1


def test_more_steps_approach_one_flow_with_second_order(rng):
    start = particles([4], rng)
    ends = [build(steps).flow(start).points for steps in (32, 64, 128)]
    changes = [(one - two).abs().max() for one, two in pairwise(ends)]
    assert 3.5 < changes[0] / changes[1] < 4.5


def test_it_knows_no_law_before_training(rng):
    """New networks attract or repel, and more or less so, by their random weights alone."""
    start = particles([2], rng)
    charges = torch.ones(2, dtype=torch.float64)
    near = torch.tensor([[0.0, 0, 0], [0.5, 0, 0]], dtype=torch.float64)
    far = 4 * near
    signs, ratios = set(), []
    for seed in range(8):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            force = module.PairForce(16).double()
        one, two = (force(points, charges, start)[1, 0].item() for points in (near, far))
        signs.add(one > 0)
        ratios.append(abs(one / two))
    assert signs == {True, False}
    # the inverse square would give 16 every time
    assert max(ratios) / min(ratios) > 2
    assert sorted(ratios)[len(ratios) // 2] < 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_it_commutes_with_motions_and_relabellings(dtype, rng):
    start = particles([5, 4, 6], rng, dtype)
    inputs = start._asdict() | {"edge_index": torch.stack([start.source, start.target])}
    inputs = {name: inputs[name] for name in inputs if name not in ("source", "target")}
    network = build(16, dtype, strength=1.0)
    assert equivariance_error(network, inputs, generator=rng).max < EQUIVARIANCE[dtype]


def test_the_check_rejects_a_force_that_knows_directions(rng, monkeypatch):
    start = particles([5, 4], rng)
    inputs = {name: getattr(start, name) for name in ("points", "velocities", "charges", "batch")}
    network = build()
    right = module.PairForce.forward
    stretched = torch.tensor([1.0, 1.5, 1.0], dtype=torch.float64)
    monkeypatch.setattr(module.PairForce, "forward", lambda *args: right(*args) * stretched)
    assert equivariance_error(network, inputs, generator=rng).max > 1e-2


@pytest.mark.parametrize("distance", [0.0, 1e-30, 1e-8, 1e-3, 1.0, 1e6, 1e15])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_forces_and_their_gradients_are_finite_at_every_distance(distance, dtype, rng):
    start = particles([2], rng, dtype)
    points = torch.tensor([[0.0, 0, 0], [distance, 0, 0]], dtype=dtype, requires_grad=True)
    force = build(dtype=dtype).force(points, torch.ones(2, dtype=dtype), start)
    assert force.isfinite().all()
    assert (force.detach()[0] == -force.detach()[1]).all()
    (gradient,) = torch.autograd.grad(force[0, 0], points, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), points, allow_unused=True)
    assert gradient.isfinite().all()
    assert second.isfinite().all()


def test_training_shortens_only_the_gradients_of_outliers(rng):
    state = torch.randn(9, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    weights = torch.ones(9, 3, dtype=torch.float64)
    weights[4] = 1e8
    (module._Limited.apply(state) * weights).sum().backward()
    expected = weights.clone()
    expected[4] = module.OUTLIER
    assert torch.allclose(state.grad, expected)


def test_gradients_in_evaluation_are_those_of_the_function(rng):
    start, network = particles([3], rng), build(2)
    points = start.points.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: network.flow(start._replace(points=x)), (points,))


def test_training_finds_the_force(rng):
    teacher, network = build(8, torch.float32, strength=5.0), build(8, torch.float32)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=rng))
    start = particles([5] * 20, rng, torch.float32)
    target = teacher.flow(start).points.detach()
    optimiser = torch.optim.AdamW(network.train().parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = (network.flow(start).points - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.unchecked
def test_a_wrong_number_of_steps_is_named():
    with pytest.raises(ValueError, match="steps: got 0, expected at least 1"):
        Integrator(steps=0)
