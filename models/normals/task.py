"""Normals of point clouds as a task of the training loop."""

import copy
import math
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eqlib.frames import pca_frames
from eqlib.models.normals.data import DataOptions, random_rotations, solids
from eqlib.models.normals.networks import (
    DGCNN,
    FADGCNN,
    FAPointNet,
    LocalFADGCNN,
    LocalFAPointNet,
    Plane,
    PointNet,
)
from eqlib.models.normals.picture import draw_normals
from eqlib.models.training import Batch, Dataset, Splits, Task, to_device
from eqlib.symmetry import (
    SO,
    NodeOrder,
    Permutations,
    Point,
    Signature,
    Vector,
    equivariance_error,
)

REGIMES = ("z", "so3")
ROTATIONS = Signature(
    SO(3) * Permutations(),
    inputs={"points": Point() * NodeOrder(-2)},
    outputs=Vector() * NodeOrder(-2),
)
CHECKED = 20  # clouds whose symmetry is checked
GAP = 0.05  # smallest relative gap of theirs: frames of others lose digits of float32


class Normals(Task):
    """Estimate the normals of solids from points of their surfaces.

    Solids stand upright. They are measured after random turns about the vertical axis (z) and
    after random rotations (so3), the same solids in both, by the same network.
    """

    name: ClassVar[str] = "normals"
    dataset: ClassVar[str] = "solids256"
    models: ClassVar = {
        "plane": Plane,
        "pointnet": PointNet,
        "fa_pointnet": FAPointNet,
        "local_fa_pointnet": LocalFAPointNet,
        "dgcnn": DGCNN,
        "fa_dgcnn": FADGCNN,
        "local_fa_dgcnn": LocalFADGCNN,
    }
    options: ClassVar[type] = DataOptions
    presets: ClassVar[Path] = Path(__file__).parent / "presets"
    selection = "error"

    def load(self) -> Splits:
        """Return the three splits, making them on first use."""
        return solids(self.settings, self.data_dir)

    def losses(self, model: nn.Module, batch: Batch) -> Float[Tensor, "shapes"]:
        """Return the mean of one minus the cosine to the outward normals, shapes turned anew."""
        number, kind = len(batch["points"]), self.settings.train_rotations
        turns = random_rotations(number, kind, batch["points"].device)
        points, normals = turned(batch, turns)
        return 1 - cosines(model(points), normals).mean(1)

    def measures(self, model: nn.Module, batch: Batch) -> dict[str, Float[Tensor, "shapes"]]:
        r"""Return the measures of each shape under both kinds of rotation.

        ``error`` is the mean of :math:`1 - (n \cdot \hat n)^2` over the points and ``angle`` that
        of the angle between the lines of both normals in degrees; neither sees their signs.
        ``flipped`` is the share of points whose estimate points inwards.
        """
        found = {}
        for regime in REGIMES:
            points, normals = turned(batch, batch[f"turn_{regime}"])
            cosine = cosines(model(points), normals).double()
            sine = (1 - cosine.square()).clamp(min=0)
            found[f"error_{regime}"] = sine.mean(1)
            angle = torch.atan2(sine.sqrt(), cosine.abs()) * (180 / math.pi)
            found[f"angle_{regime}"] = angle.mean(1)
            found[f"flipped_{regime}"] = (cosine < 0).double().mean(1)
        return found

    def summarise(self, measures: dict[str, Float[Tensor, "shapes"]]) -> dict[str, float]:
        """Return the mean of each measure, and as ``error`` that under the training rotations.

        Args:
            measures: those of all shapes of a split.
        """
        means = {name: values.mean().item() for name, values in measures.items()}
        return {"error": means[f"error_{self.settings.train_rotations}"], **means}

    def example(self, split: Dataset) -> Batch:
        """Return the first 100 clouds."""
        return {"points": split[torch.arange(min(100, len(split)))]["points"]}

    def equivariance(self, model: nn.Module, split: Dataset) -> dict[str, float]:
        """Return the largest relative error over random rotations and relabellings of some clouds.

        They are the first 20 whose variances along their principal axes are well apart. Clouds
        have their centroid at 0: far from it, coordinates in float32 would be rounded too much
        to tell the network's errors.
        """
        device = next(model.parameters()).device
        points = split[torch.arange(len(split))]["points"]
        checked = points[pca_frames(points, "SE(3)").gap > GAP][:CHECKED]
        errors = {}
        for dtype in (torch.float32, torch.float64):
            network = copy.deepcopy(model).to(dtype)
            inputs = to_device({"points": checked}, device, dtype)
            with torch.no_grad():
                report = equivariance_error(network, inputs, ROTATIONS)
            errors[str(dtype).removeprefix("torch.")] = report.max
        return errors

    def picture(self, model: nn.Module, split: Dataset, path: Path) -> None:
        """Draw shapes from easy to hard, turned in any way, with true and estimated normals."""
        weight = next(model.parameters())
        first = split[torch.arange(min(100, len(split)))]
        batch = to_device(first, weight.device, weight.dtype)
        points, normals = turned(batch, batch["turn_so3"])
        with torch.no_grad():
            found = model(points)
        draw_normals(points.cpu(), normals.cpu(), found.cpu(), path)


def turned(
    batch: Batch, turns: Float[Tensor, "shapes 3 3"]
) -> tuple[Float[Tensor, "shapes points 3"], Float[Tensor, "shapes points 3"]]:
    """Return points and normals after a rotation of each shape."""
    transposed = turns.to(batch["points"].dtype).mT
    return batch["points"] @ transposed, batch["normals"] @ transposed


def cosines(
    found: Float[Tensor, "shapes points 3"], true: Float[Tensor, "shapes points 3"]
) -> Float[Tensor, "shapes points"]:
    """Return the cosine of the angle between unit vectors."""
    return (found * true).sum(-1)
