"""The operations eqlib::symmetric_eigh and its gradient as torch sees them, and their choice."""

import pytest
import torch

from eqlib.geometry import symmetric_eigh
from eqlib.kernels import choice, native
from eqlib.kernels.symmetric_eigh import NAMES, pick, whynot
from eqlib.kernels.symmetric_eigh import symmetric_eigh as operation
from eqlib.kernels.symmetric_eigh import symmetric_eigh_gradient as gradient
from tests.kernels.symmetric_eigh.families import matrices, needs

CPU = torch.device("cpu")
names = pytest.mark.parametrize("name", ["naive", "blocked", "compiled"])


def projected(given, name="auto"):
    values, vectors = symmetric_eigh((given + given.mT) / 2, implementation=name)
    return values, (vectors * values.exp()[..., None, :]) @ vectors.mT


@pytest.mark.unchecked
@names
@pytest.mark.parametrize("batch", [(0,), (2, 3)], ids=str)
def test_opcheck(name, batch, rng):
    needs(name)
    A = matrices("random", 6, 3, rng)[: torch.Size(batch).numel()].view(*batch, 3, 3)
    torch.library.opcheck(operation, (A.clone().requires_grad_(), 1e-6, name))
    seeds = [torch.randn(shape, generator=rng).double() for shape in (A.shape[:-1], A.shape)]
    operands = [part.clone().requires_grad_() for part in (*seeds, *operation(A, 1e-6, name))]
    torch.library.opcheck(gradient, (*operands, 1e-6, name))


@pytest.mark.unchecked
def test_opcheck_of_strided_matrices(rng):
    A = matrices("random", 6, 3, rng)[::2].mT.requires_grad_()
    torch.library.opcheck(operation, (A, 1e-6, "auto"))


@pytest.mark.unchecked
@names
def test_one_graph_for_all_batches(name, rng):
    needs(name)
    A = matrices("random", 8, 3, rng)
    compiled = torch.compile(projected, fullgraph=True, backend="aot_eager", dynamic=True)
    for size in (4, 7, 2):
        part = A[:size].clone().requires_grad_()
        expected, found = projected(part, name), compiled(part, name)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(
            torch.autograd.grad(found[1].tril().square().sum(), part),
            torch.autograd.grad(expected[1].tril().square().sum(), part),
        )


@pytest.mark.unchecked
def test_export(rng):
    class Network(torch.nn.Module):
        def forward(self, given):
            return projected(given)

    A = matrices("random", 6, 3, rng)
    batch = {"given": {0: torch.export.Dim("batch")}}
    program = torch.export.export(Network(), (A[:4],), dynamic_shapes=batch)
    torch.testing.assert_close(program.module()(A), projected(A))


@names
def test_autocast_changes_nothing(name, rng):
    needs(name, torch.float32)
    A = matrices("random", 20, 3, rng).float().requires_grad_()

    def derivatives():
        values, vectors = symmetric_eigh(A, implementation=name)
        (first,) = torch.autograd.grad(
            values.exp().sum() + vectors.pow(4).sum(), A, create_graph=True
        )
        return values, vectors, first, torch.autograd.grad(first.square().sum(), A)[0]

    expected = derivatives()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = derivatives()
    assert all(map(torch.equal, found, expected))


@pytest.mark.unchecked
@names
def test_vmap(name, rng):
    needs(name)
    A = matrices("random", 6, 3, rng)
    expected = operation(A, 1e-6, name)
    many = torch.func.vmap(lambda a: operation(a, 1e-6, name), in_dims=1)
    found = many(A.view(2, 3, 3, 3))
    for whole, part in zip(expected, found, strict=True):
        assert torch.equal(part, whole.view(2, 3, *whole.shape[1:]).transpose(0, 1))
    g, G = torch.ones(3, dtype=torch.float64), torch.ones(6, 3, 3, dtype=torch.float64)
    found = torch.func.vmap(lambda *t: gradient(*t, 1e-6, name), in_dims=(None, 0, 0, 0))(
        g, G, *expected
    )
    assert torch.equal(found, gradient(g.expand(6, 3), G, *expected, 1e-6, name))


def test_large_matrices_go_to_the_definition(rng):
    for dimension in (1, 4, 7):
        A = matrices("random", 5, dimension, rng)
        expected = symmetric_eigh(A, implementation="naive")
        assert all(map(torch.equal, symmetric_eigh(A), expected))
        torch.testing.assert_close(expected[0], torch.linalg.eigvalsh(A))


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("name", "dimension", "message"),
    [
        ("lapack", 3, r"implementation is 'lapack'; expected 'auto' or one of \('naive'"),
        ("blocked", 4, "'blocked' cannot run: it is for matrices of 2 or 3 rows, not 4"),
        ("compiled", 1, "'compiled' cannot run: it is for matrices of 2 or 3 rows, not 1"),
        ("triton", 3, "'triton' cannot run: "),
    ],
    ids=["unknown", "blocked", "compiled", "triton"],
)
def test_what_cannot_run_is_refused(name, dimension, message):
    with pytest.raises(ValueError, match=message):
        symmetric_eigh(torch.eye(dimension)[None], implementation=name)


def test_pick(monkeypatch):
    cuda, meta = torch.device("cuda"), torch.device("meta")
    assert pick(CPU, torch.float32, 4)[0] == "naive"
    assert pick(cuda, torch.float32, 1)[0] == "naive"
    assert pick(meta, torch.float32)[0] == "blocked"
    monkeypatch.setattr(native, "whynot", lambda *_: "")
    assert pick(CPU, torch.float32)[0] == "compiled"
    assert whynot("compiled", cuda, torch.float32) == "it runs on the CPU, not on cuda"
    monkeypatch.setattr(native, "whynot", lambda *_: "no C compiler was found")
    reason = "compiled cannot run: no C compiler was found"
    assert pick(CPU, torch.float32) == ("blocked", reason)
    monkeypatch.setattr(choice, "find_spec", lambda _: None)
    assert pick(cuda, torch.float32) == ("blocked", "triton cannot run: triton is not installed")
    monkeypatch.undo()
    pytest.importorskip("triton", reason="triton is not installed")
    assert pick(cuda, torch.float64, 2)[0] == "triton"
    assert {pick(CPU, torch.float64)[0], "naive", "blocked", "triton"} <= {*NAMES}
