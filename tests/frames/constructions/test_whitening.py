"""White coordinates: an isotropic cloud, precise for elongated ones too, compiled or not."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eqlib.frames import affine_frames, lorentz_frames
from eqlib.frames.constructions.whitening import whiten
from eqlib.symmetry import as_group
from tests.frames.clouds import separated
from tests.frames.constructions.test_pca import distance

COMPILED = """
import torch
from torch.autograd import grad
from eqlib.frames import affine_frames, lorentz_frames

def lorentz(points, mask):
    found = lorentz_frames(points, mask=mask, orthochronous=True)
    return found.frames, found.inverse, found.gap

class Affine(torch.nn.Module):
    def forward(self, points, mask):
        found = affine_frames(points, "Affine(4)", mask)
        return found.frames, found.inverse, found.gap

def clouds(size):
    points = torch.randn(size, 9, 4, dtype=torch.float64, generator=generator)
    return points.requires_grad_(), torch.rand(size, 9, generator=generator) < 0.9

generator = torch.Generator().manual_seed(0)
compiled = torch.compile(lorentz, fullgraph=True, backend="aot_eager")
for size in (3, 5):
    inputs = clouds(size)
    for part in inputs:
        torch._dynamo.mark_dynamic(part, 0)
    expected, found = lorentz(*inputs), compiled(*inputs)
    torch.testing.assert_close(found, expected)
    gradients = [grad(sum(part.sum() for part in parts), inputs[0]) for parts in (expected, found)]
    torch.testing.assert_close(*gradients)

# What raises an error when it is not compiled:
points, mask = clouds(3)
flat = points * torch.tensor([1, 0, 1]).reshape(3, 1, 1)
assert compiled(flat, mask)[0].isnan().flatten(1).all(-1).tolist() == [False, True, False]

affine = Affine()
axes = dict.fromkeys(("points", "mask"), {0: torch.export.Dim("batch")})
exported = torch.export.export(affine, clouds(3), dynamic_shapes=axes).module()
inputs = clouds(6)
torch.testing.assert_close(exported(*inputs), affine(*inputs))
"""


def test_frames_compile_and_export_for_any_batch():
    # In a process of its own: the checks of annotations in the tests do not compile.
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", COMPILED], check=True, cwd=root)


def isotropy_error(coordinates):
    covariance = coordinates.mT @ coordinates / coordinates.shape[-2]
    return float((covariance - torch.eye(coordinates.shape[-1])).abs().max())


@pytest.mark.parametrize("condition", [1.0, 1e2, 1e4], ids="condition {:g}".format)
@pytest.mark.parametrize("group", ["GL(2)", "GL(3)", "Affine(3)", "Affine(5)"])
def test_white_coordinates_are_isotropic(group, condition, rng):
    dimension = as_group(group).dimension
    points = torch.randn(12, dimension, dtype=torch.float64, generator=rng)
    turns = [as_group(f"SO({dimension})").sample(rng)[0].matrix for _ in range(2)]
    widths = torch.logspace(0, 1, dimension, base=condition, dtype=torch.float64)
    points = points @ turns[0] * widths @ turns[1]
    white = whiten(points, as_group(group))
    coordinates = (points - white.centroid) @ white.inverse.mT
    assert isotropy_error(coordinates) < 1e-14 * condition
    product = white.root @ white.inverse
    assert (product - torch.eye(dimension)).abs().max() < 1e-14 * condition
    fourth = (coordinates.square().sum(-1, keepdim=True) * coordinates).mT @ coordinates / 12
    torch.testing.assert_close(white.fourth, fourth, atol=1e-12 * condition, rtol=1e-12)
    centroid = points.mean(0) if as_group(group).translations else 0 * points[0]
    torch.testing.assert_close(white.centroid, centroid)
    # control: the root of the covariance itself loses twice as many digits
    values, vectors = torch.linalg.eigh((points - centroid).mT @ (points - centroid) / 12)
    direct = (points - centroid) @ (vectors * values.rsqrt())
    if condition > 1e3:
        assert isotropy_error(direct) > 1e2 * isotropy_error(coordinates)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6], ids="offset {:g}".format)
def test_distance_from_the_origin_does_not_make_a_flat_cloud(offset, rng):
    for _ in range(20):
        points = separated(rng, 9) + offset
        white = whiten(points, as_group("Affine(3)"))
        coordinates = (points - white.centroid) @ white.inverse.mT
        assert isotropy_error(coordinates) < 1e-15 * (100 + offset)
        if offset < 1e6:  # where float32 has lost the cloud
            whiten(points.float(), as_group("Affine(3)"))
        flat = points.clone()
        flat[:, 2] = points[:, 0] + points[:, 1] - offset
        for dtype in (torch.float32, torch.float64):
            with pytest.raises(ValueError, match=r"rank 2, .* such as E\(3\), which has frames"):
                whiten(flat.to(dtype), as_group("Affine(3)"))


@pytest.mark.gpu
def test_frames_on_a_gpu_are_those_of_the_cpu(rng):
    points = separated(rng, 4, 9)
    batch = torch.arange(4).repeat_interleave(9)
    for make in (lorentz_frames, affine_frames):
        for layout in ({}, {"batch": batch, "num_graphs": 4}):
            cloud = points.flatten(0, 1) if layout else points
            expected = make(cloud, **layout)
            if layout:
                layout = {"batch": batch.cuda(), "num_graphs": 4}
            found = make(cloud.cuda(), **layout)
            assert found.frames.is_cuda
            assert distance(found.frames.cpu(), expected.frames) < 1e-10
            flat = cloud.cuda() * torch.tensor([1.0, 1.0, 0.0], device="cuda")
            with pytest.raises(ValueError, match="cloud 0 has rank 2"):
                make(flat, **layout)
