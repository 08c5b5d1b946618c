"""Groups: their names, their laws and how they are sampled."""

import pickle

import pytest
import torch

from eqlib.symmetry import (
    GL,
    SE,
    SO,
    Affine,
    E,
    Element,
    GroupProduct,
    Lorentz,
    O,
    Permutations,
    Scaling,
    Similarity,
    as_group,
)

EUCLIDEAN = [SO(2), O(2), SE(2), E(2), SO(3), O(3), SE(3), E(3), E(4)]
STRETCHING = [
    Scaling(3),
    Similarity(2),
    Similarity(3),
    GL(2),
    GL(4),
    Affine(3),
    Lorentz(2),
    Lorentz(4),
    Lorentz(2, orthochronous=True),
    Lorentz(4, orthochronous=True),
]
PRODUCTS = [E(3) * Permutations(), Permutations() * SO(2), Affine(3) * Permutations()]
GROUPS = [*EUCLIDEAN, *STRETCHING, Permutations(), *PRODUCTS]
BATCH = torch.tensor([0, 0, 0, 1, 3, 3])


def distance(first: Element, second: Element) -> float:
    pairs = [
        (first.matrix, second.matrix),
        (first.translation, second.translation),
        (first.permutation, second.permutation),
    ]
    assert all((a is None) == (b is None) for a, b in pairs)
    return max(float((a - b).abs().max()) for a, b in pairs if a is not None and b is not None)


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_elements_obey_the_laws_of_a_group(group, rng):
    a, b, c = (group.sample(rng, 5, reach=3.0, batch=BATCH) for _ in range(3))
    identity = group.identity(nodes=6)
    left = group.compose(group.compose(a, b), c)
    right = group.compose(a, group.compose(b, c))
    assert distance(left, right) < 1e-13
    assert distance(group.compose(a, group.inverse(a))[0], identity) < 1e-13
    assert distance(group.compose(identity, a[0]), a[0]) == 0
    # control: the two orders of a product differ, save for the groups in which they do not
    if group not in (SO(2), Scaling(3)):
        assert distance(group.compose(a, b), group.compose(b, a)) > 1e-3


@pytest.mark.parametrize("group", EUCLIDEAN, ids=str)
def test_matrices_are_orthogonal_with_the_determinant_of_the_group(group, rng):
    element = group.sample(rng, 64)
    identity = torch.eye(group.dimension, dtype=torch.float64).expand(64, -1, -1)
    torch.testing.assert_close(element.matrix @ element.matrix.mT, identity)
    mirrored = {-1.0, 1.0} if group.reflections else {1.0}
    assert set(element.determinant.tolist()) == mirrored
    assert (element.translation is not None) == group.translations


@pytest.mark.parametrize(
    ("group", "moment"), [(SO(2), 2), (SO(3), 1), (O(2), 1), (O(3), 1), (SO(4), 1)], ids=str
)
def test_rotations_are_haar_uniform(group, moment, rng):
    # The mean of tr(R)^2 counts the irreducible parts of the vector representation.
    traces = group.sample(rng, 20_000).matrix.diagonal(dim1=-2, dim2=-1).sum(-1)
    assert abs(traces.square().mean() - moment) < 0.05
    # control: Q of a Gaussian matrix without the choice of signs is not uniform
    Q, _ = torch.linalg.qr(torch.randn(20_000, 3, 3, dtype=torch.float64, generator=rng))
    assert abs(Q.diagonal(dim1=-2, dim2=-1).sum(-1).square().mean() - 1) > 0.2


def test_translations_are_uniform_in_a_ball(rng):
    lengths = SE(3).sample(rng, 20_000, reach=5.0).translation.norm(dim=-1)
    assert lengths.max() <= 5
    assert abs((lengths / 5).pow(3).mean() - 0.5) < 0.01


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_samples_have_the_kinds_asked_for(group, rng):
    kinds = group.kinds
    assert group.sample(rng, 2 * len(kinds), kinds=kinds, batch=BATCH).kinds == kinds * 2


def test_kinds_of_a_product_are_pure_and_combined():
    assert (E(3) * Permutations()).kinds == (
        "identity",
        "rotation",
        "reflection",
        "translation",
        "permutation",
        "rotation + translation + permutation",
        "reflection + translation + permutation",
    )
    assert SO(3).kinds == ("identity", "rotation")


def test_kinds_are_read_from_the_element():
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    assert Element(turn).kinds == ("rotation",)
    assert Element(turn.flip(0)).kinds == ("reflection",)
    assert Element(torch.eye(2), torch.ones(2)).kinds == ("translation",)
    assert Element().kinds == ("identity",)


def test_unknown_kind_is_refused(rng):
    with pytest.raises(ValueError, match=r"kinds: SO\(3\) has no 'reflection'; it has identity"):
        SO(3).sample(rng, kinds=["rotation", "reflection"])


def test_permutations_keep_nodes_in_their_graph(rng):
    element = Permutations().sample(rng, 200, batch=BATCH)
    assert torch.equal(BATCH[element.permutation], BATCH.expand(200, -1))
    assert torch.equal(element.permutation.sort().values, torch.arange(6).expand(200, -1))
    assert element.permutation.unique(dim=0).shape[0] == 6 * 2 - 1
    # control: a permutation of all nodes does not
    mixed = Permutations().sample(rng, 200, batch=torch.zeros_like(BATCH))
    assert not torch.equal(BATCH[mixed.permutation], BATCH.expand(200, -1))


@pytest.mark.parametrize("nodes", [0, 1, 2], ids=str)
def test_few_nodes_are_permuted_if_possible(nodes, rng):
    element = Permutations().sample(rng, 50, batch=torch.zeros(nodes, dtype=torch.int64))
    assert element.permutation.shape == (50, nodes)
    assert set(element.kinds) == {"permutation" if nodes == 2 else "identity"}


def test_permutations_need_the_graphs(rng):
    with pytest.raises(ValueError, match=r"batch: .* torch\.zeros"):
        Permutations().sample(rng)


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_groups_compare_pickle_and_read_their_names(group):
    assert as_group(str(group)) == group == pickle.loads(pickle.dumps(group))
    assert as_group(group) is group
    assert hash(as_group(str(group))) == hash(group)


@pytest.mark.parametrize("name", ["O(1, 3)", "O(1,3)", " O( 1 , 3 ) "], ids=str)
def test_lorentz_group_has_two_names(name):
    assert as_group(name) == Lorentz(4) != as_group("Lorentz(4, orthochronous=True)")
    assert as_group("O(3)") == O(3)


def test_groups_of_different_name_or_dimension_differ():
    assert len({SO(2), SO(3), O(3), SE(3), E(3), Permutations()}) == 6


def test_products_collect_what_their_factors_have():
    product = E(3) * Permutations()
    assert isinstance(product, GroupProduct)
    assert (product.dimension, product.permutations) == (3, True)
    assert (product.reflections, product.translations) == (True, True)
    assert (Permutations().dimension, SO(2).permutations, SO(2).reflections) == (None, False, False)
    assert (product.preserves, (Permutations() * GL(3)).preserves) == ("lengths", "lines")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("SE3", r"no 'SE3'; did you mean 'SE\(3\)'\?"),
        ("se(3)", r"did you mean 'SE\(3\)'"),
        ("Permutation()", r"did you mean 'Permutations\(\)'"),
        ("SU(2)", r"The groups are SO\(n\), O\(n\), .* Lorentz\(n\), .*Permutations\(\)"),
        ("lorentz(4)", r"did you mean 'Lorentz\(4\)'"),
        ("Affine3", r"did you mean 'Affine\(3\)'"),
        ("similarity(2)", r"did you mean 'Similarity\(2\)'"),
        ("Lorentz(1)", r"dimension: expected an integer of at least 2, got 1"),
        ("", r"there is no ''"),
        ("E(3) * S", r"there is no 'S'"),
        ("SO(1)", r"dimension: expected an integer of at least 2, got 1"),
        ("SO(3) * SE(3)", r"two factors contain every rotation"),
        ("SO(3) * Scaling(3)", r"both SO\(3\) and Scaling\(3\) move space; .* Similarity\(3\)"),
    ],
    ids=str,
)
def test_names_of_no_group_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        as_group(name)


@pytest.mark.unchecked
def test_what_is_no_group_is_refused():
    with pytest.raises(TypeError, match="group: expected a name such as"):
        as_group(3)
    with pytest.raises(TypeError, match="factors: expected groups"):
        SO(3) * "Permutations()"


def test_elements_of_another_group_are_refused(rng):
    turn = SO(3).sample(rng)
    with pytest.raises(ValueError, match=r"no translation, so it is not one of SE\(3\)"):
        SE(3).inverse(turn)
    with pytest.raises(ValueError, match="no permutation"):
        Permutations().inverse(turn)


@pytest.mark.unchecked
def test_parts_of_different_batches_are_refused():
    with pytest.raises(ValueError, match=r"one batch shape, but have \(2,\), \(\)"):
        Element(torch.eye(3).expand(2, 3, 3), torch.zeros(3))
