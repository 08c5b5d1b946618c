"""The forms for the CPU hold nothing of the size of the operands but the results."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from eqlib.gaunt.tables import plan
from eqlib.kernels.gaunt_product import _weight_gradients, blocked
from eqlib.kernels.gaunt_product.implementations import load
from tests.kernels.gaunt_product.test_implementations import factors, features, needs

LMAX = 3


class Memory(TorchDispatchMode):
    """Collects the storage of every tensor that an operation returns."""

    def __init__(self):
        super().__init__()
        self.storages = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.storages[storage.data_ptr()] = storage.nbytes()
        return result


def passes(name, odd, rng):
    """Operands, and what to do with them: forward, backward, backward with weights."""
    x, y, gz = (features(LMAX, rng, batch=(3000,), channels=8) for _ in range(3))
    weights = tuple(factors((LMAX,) * 3, rng, channels=8))
    tables = plan(name, x.device, x.dtype, (LMAX,) * 3, odd)[1]
    how = load(name)
    return (gz, x, y), {
        "forward": lambda: [how.product(x, y, weights, tables, LMAX, odd)],
        "backward": lambda: how.gradients(gz, x, y, weights, tables, odd),
        "weights": lambda: _weight_gradients.all_gradients(how, (gz, x, y), weights, tables, odd),
    }


@pytest.mark.parametrize("odd", [False, True], ids=["gaunt", "poisson"])
@pytest.mark.parametrize("name", ["blocked", "compiled", "separable", "naive"])
@pytest.mark.parametrize("kind", ["forward", "backward", "weights"])
def test_memory_beside_operands_and_results(kind, name, odd, rng, monkeypatch):
    needs(name, odd=odd)
    budget = 2**18
    monkeypatch.setattr(blocked, "_CACHE", budget // torch.get_num_threads())
    monkeypatch.setattr(_weight_gradients, "_BLOCK", budget // 8 // torch.get_num_threads())
    operands, run = passes(name, odd, rng)
    with Memory() as memory:
        results = run[kind]()
    large = [t for t in (*operands, *tree_leaves(results)) if t.numel() == operands[0].numel()]
    known = {t.untyped_storage().data_ptr() for t in large}
    extra = max(size for pointer, size in memory.storages.items() if pointer not in known)
    operand = operands[0].nbytes
    if name == "naive" and kind != "weights":  # control: what holds all rows at once is seen
        assert extra > operand
    else:
        assert extra < 0.25 * operand
