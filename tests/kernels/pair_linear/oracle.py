"""The operations on one dense matrix per subgraph and pair by pair, in float64."""

import torch


def by_dense_sums(problem):
    """The parts of every member, from the matrix of its subgraph."""
    x = problem.x.double()
    if problem.scale is not None:
        x = torch.einsum("gc,g->gc", x, problem.scale.double())
    parts = 3 if problem.pairs.root is None else 5
    found = [torch.zeros(0, parts * x.shape[1], dtype=torch.float64)]
    for slots, root in zip(problem.slots, problem.roots, strict=True):
        A = x[slots]
        sums = [
            torch.einsum("iic->ic", A),
            torch.einsum("ijc->ic", A),
            torch.einsum("ijc->jc", A),
        ]
        if root is not None:
            sums += [A[:, root], A[root]]
        found.append(torch.cat(sums, dim=1))
    return torch.cat(found)


def by_loop(problem):
    """The linear maps slot by slot, and what is spread pair by pair."""
    x, weight, spread = (t.double() for t in problem[:3])
    y = torch.zeros(len(x), weight.shape[2], dtype=torch.float64)
    for g, other in enumerate(problem.pairs.transpose.tolist()):
        y[g] = x[g] @ weight[0] + x[other] @ weight[1]
    scale = torch.ones(len(x)) if problem.scale is None else problem.scale
    begin = 0
    for slots, root in zip(problem.slots, problem.roots, strict=True):
        m = len(slots)
        u = spread[begin : begin + m].view(m, -1, weight.shape[2])
        begin += m
        for i in range(m):
            for j in range(m):
                value = u[i, 1] + u[j, 2]
                if i == j:
                    value = value + u[i, 0]
                if j == root:
                    value = value + u[i, 3]
                if i == root:
                    value = value + u[j, 4]
                y[slots[i, j]] += scale[slots[i, j]].double() * value
    return y


def by_products(x, grad, transpose):
    """The gradient of the weight, slot by slot."""
    found = torch.zeros(2, x.shape[1], grad.shape[1], dtype=torch.float64)
    for g, other in enumerate(transpose.tolist()):
        found[0] += torch.outer(x[g].double(), grad[g].double())
        found[1] += torch.outer(x[other].double(), grad[g].double())
    return found
