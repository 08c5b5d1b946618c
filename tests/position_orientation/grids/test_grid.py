"""Grids as modules: what they hold, how they are saved, cast and moved, and their symmetries."""

import copy

import pytest
import torch
from torch import nn
from torch.export import Dim, export
from torch.testing import assert_close

from eqlib.harmonics import lebedev_grid
from eqlib.position_orientation.grids import OrientationGrid
from eqlib.position_orientation.spaces.space import as_space
from eqlib.symmetry import E

GRIDS = [
    ("R2", 1, "auto"),
    ("R3", 1, "auto"),
    ("R2xS1", 8, "auto"),
    ("R2xS1", 5, "uniform"),
    ("SE2", 6, "auto"),
    ("R3xS2", 4, "platonic"),
    ("R3xS2", 12, "auto"),
    ("R3xS2", 16, "auto"),
    ("R3xS2", 16, "proper_orbit"),
    ("R3xS2", 16, "repulsion"),
    ("R3xS2", 16, "fibonacci"),
    ("SE3", 12, "auto"),
    ("SE3", 16, "auto"),
    ("SE3", 10, "repulsion"),
    ("SE3", 10, "fibonacci"),
]
grids = pytest.mark.parametrize(("space", "size", "kind"), GRIDS)


@grids
def test_what_a_grid_holds(space, size, kind):
    grid = OrientationGrid(space, size, kind)
    assert grid.size == size
    assert grid.orientations.shape == (size, *as_space(space).orientation_shape)
    assert grid.orientations.dtype == grid.weights.dtype == torch.float64
    assert_close(grid.weights.sum(), torch.ones((), dtype=torch.float64))
    assert list(grid.state_dict()) == ["orientations", "weights"]
    assert repr(grid) == f"OrientationGrid({space}, size={size}, kind={kind!r})"


@grids
def test_opposites(space, size, kind):
    grid = OrientationGrid(space, size, kind)
    if len(grid.opposite):
        assert grid.opposite.dtype == torch.int64
        assert_close(grid.orientations[grid.opposite], -grid.orientations, atol=1e-15, rtol=0)
    even = space not in ("SE3",) and (size, kind) not in [
        (5, "uniform"),
        (4, "platonic"),
        (16, "proper_orbit"),
        (16, "repulsion"),
        (16, "fibonacci"),
    ]
    assert len(grid.opposite) == (size if even else 0)


@grids
def test_sign_symmetry(space, size, kind):
    """A grid times a change of signs has the same orientations, with the same weights."""
    grid = OrientationGrid(space, size, kind)
    n = grid.space.dimension
    if grid.space.kind == "positions":
        assert grid.sign_symmetric()
        assert grid.sign_symmetric(f"E({n})")
        return
    groups = [f"SE({n})", *([] if space == "SE3" else [f"E({n})"])]
    signs = torch.cartesian_prod(*[torch.tensor([1.0, -1.0], dtype=torch.float64)] * n)
    for group in groups:
        allowed = signs if group[0] == "E" else signs[signs.prod(1) > 0]
        same = True
        for diagonal in allowed:
            moved = grid.orientations * (diagonal[:, None] if space == "SE3" else diagonal)
            gaps = (moved[:, None] - grid.orientations).flatten(2).abs().amax(-1)
            same = same and bool((gaps.amin(1) < 1e-12).all())
        assert grid.sign_symmetric(group) == same
    if kind == "auto":
        assert grid.sign_symmetric()
    if kind in ("repulsion", "fibonacci"):  # control
        assert not grid.sign_symmetric()


@pytest.mark.parametrize("size", [4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 32, 40, 64, 80])
def test_auto_is_symmetric_whatever_the_size(size):
    grid = OrientationGrid("R3xS2", size)
    assert grid.size == size
    assert grid.sign_symmetric("SE(3)")
    assert grid.sign_symmetric(E(3)) == (size != 4)
    assert len(grid.opposite) == (0 if size == 4 else size)
    assert grid.strength >= 2  # what vectors need


@pytest.mark.parametrize("size", [2, 4, 6, 10, 16, 36])
def test_even_uniform_grids_are_symmetric(size):
    grid = OrientationGrid("R2xS1", size)
    assert grid.sign_symmetric("SE(2)")
    assert grid.sign_symmetric("E(2)")
    assert grid.strength == size - 1


@pytest.mark.parametrize("size", [4, 8, 12, 16, 24, 48, 60])
def test_grids_of_rotations_are_symmetric(size):
    assert OrientationGrid("SE3", size).sign_symmetric("SE(3)")


def test_weights():
    equal = OrientationGrid("R3xS2", 20, "fibonacci", weights="equal")
    best = OrientationGrid("R3xS2", 20, "fibonacci")
    assert (equal.strength, best.strength) == (0, 3)
    assert (equal.weights == 1 / 20).all()
    assert torch.equal(equal.orientations, best.orientations)


def test_vectors_are_lifted_and_read_again():
    """A grid of strength 2 keeps v through v . o, which makes 3 sum w o (o . v) the identity."""
    for kind in ("platonic", "sign_orbit", "repulsion", "fibonacci"):
        grid = OrientationGrid("R3xS2", 20, kind)
        moment = grid.orientations.mT @ (grid.weights[:, None] * grid.orientations)
        assert (3 * moment - torch.eye(3, dtype=torch.float64)).abs().max() < 1e-14
    plain = OrientationGrid("R3xS2", 20, "fibonacci", weights="equal")  # control
    moment = plain.orientations.mT @ (plain.weights[:, None] * plain.orientations)
    assert (3 * moment - torch.eye(3, dtype=torch.float64)).abs().max() > 1e-3


@grids
@pytest.mark.parametrize(
    "cast",
    [nn.Module.float, nn.Module.half, nn.Module.bfloat16, lambda m: m.to(torch.float16)],
    ids=["float", "half", "bfloat16", "to"],
)
def test_nothing_is_lost_by_casts(space, size, kind, cast):
    grid = OrientationGrid(space, size, kind)
    net = nn.Sequential(nn.Linear(2, 2), copy.deepcopy(grid))
    cast(net)
    assert net[0].weight.dtype in (torch.float32, torch.float16, torch.bfloat16)
    for back in (net, net.double()):
        assert torch.equal(back[1].orientations, grid.orientations)
        assert torch.equal(back[1].weights, grid.weights)
        assert torch.equal(back[1].opposite, grid.opposite)
        assert back[1].orientations.dtype == torch.float64


def test_orientations_are_unit_vectors_to_the_last_digit_after_casts():
    grid = OrientationGrid("R3xS2", 20).float().double()
    assert (grid.orientations.norm(dim=-1) - 1).abs().max() < 1e-15
    rounded = grid.orientations.float().double()  # control
    assert (rounded.norm(dim=-1) - 1).abs().max() > 1e-9


@grids
def test_state_survives_a_round_trip(space, size, kind, tmp_path):
    grid = OrientationGrid(space, size, kind)
    torch.save(grid.state_dict(), tmp_path / "grid.pt")
    other = OrientationGrid(space, size, kind)
    other.orientations.zero_()
    other.load_state_dict(torch.load(tmp_path / "grid.pt"))
    assert torch.equal(other.orientations, grid.orientations)
    assert torch.equal(other.weights, grid.weights)
    assert other.strength == grid.strength


@pytest.mark.parametrize("assign", [False, True], ids=["copy", "assign"])
@pytest.mark.parametrize("half", [False, True], ids=["double", "bfloat16"])
def test_another_grid_is_loaded_with_all_that_follows_from_it(assign, half):
    """A network keeps the grid that it was trained with, whatever grid it is made with later."""
    trained, net = OrientationGrid("R3xS2", 20, "fibonacci"), OrientationGrid("R3xS2", 20)
    if half:
        net.bfloat16()
    assert (len(net.opposite), net.strength, net.sign_symmetric()) == (20, 5, True)
    net.load_state_dict(trained.state_dict(), assign=assign)
    assert torch.equal(net.orientations, trained.orientations)
    assert torch.equal(net.weights, trained.weights)
    assert (len(net.opposite), net.strength, net.sign_symmetric()) == (0, 3, False)
    assert net.kind == "given"
    net.load_state_dict(OrientationGrid("R3xS2", 20).state_dict(), assign=assign)
    assert (len(net.opposite), net.strength, net.sign_symmetric()) == (20, 5, True)


def test_a_saved_grid_in_another_dtype_is_converted():
    state = {
        name: value.float() for name, value in OrientationGrid("R3xS2", 8).state_dict().items()
    }
    grid = OrientationGrid("R3xS2", 8)
    grid.load_state_dict(state, assign=True)
    assert grid.orientations.dtype == grid.weights.dtype == torch.float64


@pytest.mark.unchecked
def test_a_grid_of_another_size_is_refused():
    grid = OrientationGrid("R3xS2", 12)
    with pytest.raises(RuntimeError, match=r"size mismatch for orientations"):
        grid.load_state_dict(OrientationGrid("R3xS2", 20).state_dict())


def test_grids_do_not_share_memory():
    first, second = OrientationGrid("R3xS2", 12), OrientationGrid("R3xS2", 12)
    first.orientations.zero_()
    assert second.orientations.abs().max() > 0.5
    assert OrientationGrid("R3xS2", 12).orientations.abs().max() > 0.5


def test_devices():
    grid = OrientationGrid("R3xS2", 12)
    moved = copy.deepcopy(grid).to("meta")
    assert moved.orientations.is_meta
    assert moved.orientations.dtype == torch.float64
    empty = moved.to_empty(device="cpu")
    empty.load_state_dict(grid.state_dict())
    assert torch.equal(empty.orientations, grid.orientations)
    assert torch.equal(empty.opposite, grid.opposite)
    with torch.device("meta"):  # where layers are made without values, grids are made with them
        made = OrientationGrid("R3xS2", 12)
    assert torch.equal(made.orientations, grid.orientations)


@pytest.mark.gpu
@grids
def test_cuda_keeps_every_digit(space, size, kind):
    grid = OrientationGrid(space, size, kind)
    moved = copy.deepcopy(grid).to("cuda", torch.float32)
    assert moved.orientations.is_cuda
    assert moved.opposite.is_cuda
    assert torch.equal(moved.orientations.cpu(), grid.orientations)
    assert moved.sign_symmetric() == grid.sign_symmetric()
    moved.load_state_dict(grid.state_dict())
    assert moved.opposite.is_cuda


def test_grids_of_ones_own():
    """Lebedev's rule of degree 7, which has the sign symmetry of a cube and three weights."""
    rule = lebedev_grid(7)
    grid = OrientationGrid.given(rule.points.float(), weights=rule.weights)
    assert (grid.size, grid.kind, grid.strength) == (26, "given", 7)
    assert grid.sign_symmetric("E(3)")
    assert len(grid.opposite) == 26
    assert (grid.orientations - rule.points).abs().max() < 1e-7
    assert (grid.orientations.norm(dim=-1) - 1).abs().max() < 1e-15
    # control: equal weights do less, and a net with them is no other grid
    equal = OrientationGrid.given(rule.points, weights="equal")
    assert equal.strength == 3
    other = OrientationGrid("R3xS2", 26)
    other.load_state_dict(grid.state_dict())
    assert torch.equal(other.orientations, grid.orientations)
    assert other.strength == 7


def test_rotations_and_plane_directions_of_ones_own():
    turns = OrientationGrid("SE3", 24).orientations
    grid = OrientationGrid.given(turns.float(), "SE3")
    assert grid.strength == 3
    assert (grid.orientations - turns).abs().max() < 1e-7
    angles = torch.tensor([0.1, 1.2, 3.0], dtype=torch.float64)
    grid = OrientationGrid.given(torch.stack([angles.cos(), angles.sin()], -1), "R2xS1")
    assert not grid.sign_symmetric()
    assert grid.weights.sum() == pytest.approx(1)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.ones(4, 3),), "orientations: R3xS2 expects unit vectors; normalise them first"),
        ((torch.zeros(4, 3),), "orientations: R3xS2 expects unit vectors; normalise them first"),
        ((-torch.eye(3)[None], "SE3"), "orientations: SE3 expects rotation matrices; normalise"),
        (
            (torch.eye(3)[None],),
            r"expected one grid of at least one orientation, got shape \(1, 3,",
        ),
        ((torch.ones(0, 3),), r"expected one grid of at least one orientation, got shape \(0, 3\)"),
        ((torch.eye(2),), r"orientations: R3xS2 expects shape \(..., grid, 3\), unit vectors; got"),
        ((torch.ones(1, 0), "R3"), "space: R3 has no orientations; expected R3xS2 or such"),
        ((torch.eye(3), "R3xS2", torch.ones(2)), r"weights: expected shape \(3,\), got \(2,\)"),
        ((torch.eye(3), "R3xS2", -torch.ones(3)), "weights: expected a positive sum, got -3.0"),
        ((torch.eye(3), "R3xS2", "best"), "weights: expected 'quadrature' or 'equal', got 'best'"),
    ],
    ids=range(10),
)
def test_wrong_orientations_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        OrientationGrid.given(*arguments)


class Moments(nn.Module):
    """Reads all of a grid."""

    def __init__(self, grid):
        super().__init__()
        self.grid = grid

    def forward(self, x):
        values = x @ self.grid.orientations.to(x.dtype).mT
        if self.grid.strength >= 2 and self.grid.sign_symmetric("SE(3)"):
            values = values + values[:, self.grid.opposite]
        return values * self.grid.weights.to(x.dtype)


@pytest.mark.unchecked
def test_grids_are_read_in_compiled_and_exported_code(rng):
    torch._dynamo.reset()
    module = Moments(OrientationGrid("R3xS2", 12))
    x = torch.randn(5, 3, generator=rng)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=True)
    assert_close(compiled(x), module(x))
    program = export(module, (x,), dynamic_shapes=({0: Dim("rows")},))
    assert_close(program.module()(x[:3]), module(x[:3]))


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("R3xS2", 7), ValueError, "size: kind='auto' has 4, 6, 8, 12, 20 and 32 and even sizes"),
        (("R3xS2", 7), ValueError, "got 7; kind='fibonacci' has any size"),
        (("R3xS2", 0, "fibonacci"), ValueError, "size: kind='fibonacci' has any size for R3xS2, "),
        (("R3xS2", 10, "platonic"), ValueError, "kind='platonic' has 4, 6, 8, 12, 20 and 32 for"),
        (("R3xS2", 257, "repulsion"), ValueError, "has any size up to 256 for R3xS2, got 257"),
        (("R3xS2", 20.0), TypeError, "size: expected an integer, got 20.0"),
        (("R3xS2", True), TypeError, "size: expected an integer, got True"),
        (("R3xS2", 20, "random"), ValueError, "kind: R3xS2 has the grids 'auto', 'platonic', 'sig"),
        (("R2xS1", 5), ValueError, "size: kind='auto' has even sizes for R2xS1, got 5; kind='unif"),
        (("SE3", 10), ValueError, "has 12, 24 and 60 and multiples of 4 up to 256 for SE3, got 10"),
        (("R3", 20), ValueError, "size: R3 has no orientations, which counts as one; expected siz"),
        (("R3xS2", 20, "auto", "best"), ValueError, "weights: expected 'quadrature' or 'equal', "),
        (("S2", 20), ValueError, "space: there is no 'S2'"),
    ],
    ids=range(13),
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        OrientationGrid(*arguments)
