"""Frame averaging: any backbone made equivariant."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from eqlib.frames.chunks import parts
from eqlib.frames.dispatch import FrameFunction, frame_function, options_of, parameters_of
from eqlib.frames.folding.fold import LEVELS, Fold, Folding, Layout
from eqlib.frames.folding.graphs import attributes_of, batch_of
from eqlib.frames.folding.ragged import RaggedFold
from eqlib.frames.permutations.average import permutation_fold, product_fold
from eqlib.frames.sampling import Draws, number_of
from eqlib.frames.signatures import in_form_of, signature_of
from eqlib.frames.types import Frames, RaggedFrames
from eqlib.geometry._pyg import is_graph
from eqlib.symmetry import (
    BatchIndex,
    EdgeIndex,
    Point,
    Representation,
    Scalar,
    Signature,
    Vector,
)
from eqlib.symmetry.arguments import results_by_name
from eqlib.symmetry.group import Group

# Graph structure and masks are understood under these names, in the signature or not.
_STRUCTURE: Mapping[str, Representation] = {
    "mask": Scalar(),
    "batch": BatchIndex(),
    "edge_index": EdgeIndex(),
}


class FrameAverage(nn.Module):
    r"""Average of a backbone over the frames of its input, which makes it equivariant.

    .. math::
        \langle \Phi \rangle(x) = \sum_{g \in F(x)} w_g\,
        \rho_{out}(g)\, \Phi\bigl(\rho_{in}(g)^{-1} x\bigr)

    The backbone runs on a batch in which each cloud stands once per frame. The mode says which
    frames these are:

    * "full": all principal frames, 2^d under O and E and 2^(d-1) under SO and SE, with equal
      weights (:func:`pca_frames`; other groups have functions of their own).
    * "stochastic": ``samples`` of these, drawn for each cloud at each call. Unbiased: equivariant
      in the mean over draws only.
    * "minimal": the few whose signs follow the skewness of the cloud (:func:`minimal_frames`).
    * "weighted": those of a weighted frame that has no jumps (:func:`weighted_frames`).

    * Dense batches, points (*batch, nodes, d): the backbone gets (frames * batch, nodes, d).
      A ``mask`` (*batch, nodes) is copied along; what it excludes is zero in all frames, and the
      backbone has to heed it.
    * Ragged batches, points (nodes, d) with ``batch`` and, best, ``num_graphs``: the backbone gets
      (frames * nodes, d), with ``batch`` and ``edge_index`` numbered on from copy to copy, and
      ``frames * num_graphs``. A single graph with an ``edge_index`` needs no ``batch``.
    * A ``Data`` or a ``Batch`` of torch_geometric as the only argument: the signature names its
      attributes, and the backbone gets a ``Batch`` with their copies, and no other attributes.

    Args:
        backbone: module or function that takes the inputs by name (a sole input of the signature
            by position), and returns a tensor, or a dict or a NamedTuple of tensors.
        group: such as ``"SE(3)"``; by default that of ``signature``, else SE(3).
        mode: of training: one of the above, or a function that makes frames as they do.
        eval_mode: of evaluation, after ``.eval()``; by default ``mode``, but "full" for
            "stochastic", as evaluation should be exact and the same at every call.
        signature: representation of every tensor that the backbone takes and returns; by default
            one input ``points`` and one output, both points.
        cloud: name of the input whose frames are taken; by default the first that is a
            :class:`~eqlib.symmetry.Point`, else a :class:`~eqlib.symmetry.Vector`.
        levels: "node", "edge" or "graph" for inputs and outputs of ragged batches, by name (a
            single output is "output"): what their rows are. By default edges for names that begin
            with ``edge_``, else nodes; scalars need none while their number of rows tells.
        chunk: number of frames per call of the backbone, which bounds its memory; in the modes
            "minimal" and "weighted" it counts the frames of all clouds. By default all, but on a
            CPU no more than make 2^14 points, which is faster.
        detach: treat frames as constants in the backward pass. Parameters get the right gradient,
            but gradients with respect to the inputs, such as forces, are then **wrong**.
        samples: number of frames drawn for each cloud in the mode "stochastic".
        generator: source of these draws; by default that of the device, as for dropout.
        frame_options: further arguments of the functions that make the frames, such as
            ``{"threshold": 0.1}``.
        orders: average over the orders of the points as well, for backbones that depend on them;
            the group then contains permutations. Under ``Permutations()`` alone, the average is
            always over the orders of the nodes (:func:`permutation_frames`).

    Raises:
        ValueError: the arguments contradict each other, or name what does not exist.

    Note:
        Exact where the gap of the frames is not zero; see :func:`pca_frames`. A backbone that mixes
        the clouds of a batch mixes frames as well; give it all in one call, as the modules of torch
        for batch normalisation get them in training.

    Source:
        Puny et al., Frame Averaging for Invariant and Equivariant Network Design, ICLR 2022.
    """

    def __init__(
        self,
        backbone: Callable[..., Any],
        group: str | Group | None = None,
        mode: str | FrameFunction = "full",
        eval_mode: str | FrameFunction | None = None,
        signature: Signature | None = None,
        cloud: str | None = None,
        levels: Mapping[str, str] | None = None,
        chunk: int | None = None,
        detach: bool = False,
        samples: int = 1,
        generator: torch.Generator | None = None,
        frame_options: Mapping[str, Any] | None = None,
        orders: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.signature = signature_of(group, signature, Point())
        self.mode, self.samples = mode, samples
        self.eval_mode = (
            ("full" if mode == "stochastic" else mode) if eval_mode is None else eval_mode
        )
        self.cloud = _cloud(self.signature) if cloud is None else cloud
        self.orders = orders
        self.levels = dict(levels or {})
        self.chunk = chunk
        self.detach = detach
        self.generator = generator
        self.frame_options = dict(frame_options or {})
        draws = self.frame_options.get("samples") or self.frame_options.get("large") == "sample"
        if self.eval_mode == "stochastic" or draws:
            self.signature = replace(self.signature, exact=False)
        self._kinds = {**_STRUCTURE, **self.signature.inputs}
        self._batch = self._name_of(BatchIndex, "batch")
        self._edge_index = self._name_of(EdgeIndex, "edge_index")
        self._check_options()
        self._make_functions()

    def frames(
        self,
        points: Float[Tensor, "*clouds d"],
        mask: Bool[Tensor, "*clouds"] | None = None,
        batch: Int[Tensor, "nodes"] | None = None,
        num_graphs: int | None = None,
    ) -> Frames | RaggedFrames:
        """The frames that are averaged over, with their gap.

        Args:
            points: as in :func:`pca_frames`.
            mask: as in :func:`pca_frames`.
            batch: as in :func:`pca_frames`.
            num_graphs: as in :func:`pca_frames`.

        Returns:
            Those of training or of evaluation, whichever the module is in. Of the mode
            "stochastic" they are drawn anew at every call.

        Raises:
            ValueError: the shapes do not fit, or the group only permutes.
        """
        if self.cloud is None:
            raise ValueError(
                f"points: {self.signature.group!r} does not move them; permutation_frames returns "
                "the orders of the nodes"
            )
        function = self._train_frames if self.training else self._eval_frames
        return function(points, mask=mask, batch=batch, num_graphs=num_graphs)

    def forward(self, *args: Any, **inputs: Any) -> Any:
        """The average of the backbone over the frames of its input.

        Args:
            args: inputs in the order of the signature, or one graph of torch_geometric.
            inputs: inputs by name: those of the signature, the structure of the batch
                (``mask``, ``batch``, ``num_graphs``, ``edge_index``), and whatever is no tensor.

        Returns:
            What the backbone returns, averaged: a tensor, or a dict or a NamedTuple of tensors.

        Raises:
            ValueError: a tensor is unknown to the signature, or a shape does not fit.
            TypeError: an argument is missing or has the wrong type.
        """
        graph = len(args) == 1 and is_graph(args[0])
        if graph:
            inputs = {**attributes_of(args[0], self._kinds), **inputs}
        named = self._named(() if graph else args, inputs)
        fold = self.fold(named)
        totals: dict[str, Tensor] = {}
        points = None if self.cloud is None else named[self.cloud]
        for part in parts(fold, self.chunk, points, self.backbone):
            result = self._call(self._copies(named, fold, part), graph)
            for name, values in self._outputs(result).items():
                kind = self.signature.named_outputs[name]
                total = fold.collect(name, values, kind, self._level(name), part)
                totals[name] = totals[name] + total if name in totals else total
        return self._average(totals, fold, named, result)

    def fold(self, named: dict[str, Any]) -> Folding:
        """How the inputs are copied, one copy per frame, and the outputs averaged.

        Args:
            named: the inputs by name.
        """
        drawn = (self.mode if self.training else self.eval_mode) == "stochastic"
        mode, generator = "stochastic" if drawn else "full", self.generator
        if self.cloud is None:
            return permutation_fold(
                named, self.signature, mode, self.samples, generator, **self.frame_options
            )
        points = named[self.cloud]
        batch, edge_index = named.get(self._batch), named.get(self._edge_index)
        mask = named.get("mask")
        frames = self.frames(points, mask, batch, named.get("num_graphs"))
        one_graph = edge_index is not None and points.ndim == 2
        nodes = len(points) if batch is not None or one_graph else None
        layout = Layout(frames.gap.shape, nodes, batch, edge_index, mask)
        fold: Folding = (
            Fold(frames, layout) if isinstance(frames, Frames) else RaggedFold(frames, layout)
        )
        if not self.orders:
            return fold
        takes = parameters_of(product_fold)
        options = {name: value for name, value in self.frame_options.items() if name in takes}
        return product_fold(
            fold, self.cloud, named, self.signature, self.levels, mode, generator, **options
        )

    def extra_repr(self) -> str:
        """Group and options."""
        names = [getattr(mode, "__name__", mode) for mode in (self.mode, self.eval_mode)]
        return (
            f"group={self.signature.group!r}, mode={names[0]!r}, eval_mode={names[1]!r}, "
            f"chunk={self.chunk}, detach={self.detach}"
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy, which draws from a generator of its own."""
        super().__setstate__(state)
        self._make_functions()

    def _name_of(self, kind: type[Representation], default: str) -> str:
        """The input of a kind, under the name that the signature gives it."""
        named = (name for name, given in self.signature.inputs.items() if isinstance(given, kind))
        return next(named, default)

    def _level(self, name: str) -> str | None:
        return self.levels.get(name, "edge" if name.startswith("edge_") else None)

    def _make_functions(self) -> None:
        """The functions that make the frames of training and of evaluation."""
        if self.cloud is None:
            return
        draws = Draws(self.samples, number_of(self.generator))
        self._train_frames, self._eval_frames = (
            frame_function(self.signature.group, mode, self.detach, self.frame_options, draws)
            for mode in (self.mode, self.eval_mode)
        )

    def _named(self, args: tuple[Any, ...], inputs: dict[str, Any]) -> dict[str, Any]:
        """All inputs by name, checked."""
        names = list(self.signature.inputs)
        if len(args) > len(names) or any(name in inputs for name in names[: len(args)]):
            raise TypeError(
                f"inputs: got {len(args)} by position and {', '.join(inputs) or 'none'} by name; "
                f"by position they are {', '.join(names)}, all others go by name"
            )
        named = {**dict(zip(names, args, strict=False)), **inputs}
        if self.cloud is not None and not isinstance(named.get(self.cloud), Tensor):
            raise TypeError(
                f"{self.cloud}: expected the tensor whose frames are taken, "
                f"got {type(named.get(self.cloud)).__name__}"
            )
        for name, value in named.items():
            if not isinstance(value, Tensor):
                continue
            if name not in self._kinds:
                raise ValueError(
                    f"{name}: the signature does not say how this tensor transforms; add it to the "
                    f"inputs, such as {{{name!r}: Scalar()}}"
                )
            if not isinstance(self._kinds[name], BatchIndex):  # whose check reads the entries
                self._kinds[name].validate(name, value, self.signature.group)
        return named

    def _copies(self, named: dict[str, Any], fold: Folding, part: slice) -> dict[str, Any]:
        """The inputs of one call of the backbone."""
        copies: dict[str, Any] = {
            name: fold.express(name, value, self._kinds[name], self._level(name), part)
            for name, value in named.items()
            if isinstance(value, Tensor)
        }
        if named.get("num_graphs") is not None:
            copies["num_graphs"] = fold.clouds(part)
        return {**named, **copies}

    def _call(self, named: dict[str, Any], graph: bool) -> Any:
        if graph:
            names = {*self._kinds, "num_graphs"}
            others = {name: value for name, value in named.items() if name not in names}
            return self.backbone(
                batch_of({name: named[name] for name in named if name in names}), **others
            )
        if len(self.signature.inputs) > 1:
            return self.backbone(**named)
        (first,) = self.signature.inputs
        others = {name: value for name, value in named.items() if name != first}
        return self.backbone(named[first], **others)

    def _outputs(self, result: Any) -> dict[str, Tensor]:
        """What one call of the backbone returned, by name."""
        named = results_by_name(result, self.signature)
        kinds = self.signature.named_outputs
        if set(named) != set(kinds):
            raise ValueError(
                f"outputs: the backbone returned {', '.join(named) or 'nothing'}, "
                f"but the signature has {', '.join(kinds)}"
            )
        found = {}
        for name in kinds:
            value = named[name]
            if not isinstance(value, Tensor):
                kind = type(value).__name__
                raise TypeError(f"{name}: expected a tensor from the backbone, got {kind}")
            found[name] = value
        return found

    def _average(
        self, totals: dict[str, Tensor], fold: Folding, named: dict[str, Any], result: Any
    ) -> Any:
        """The averages, in the form in which the backbone returned its last result."""
        averages = {}
        values = self._outputs(result)
        for name, kind in self.signature.named_outputs.items():
            average = fold.finish(name, totals[name], kind, self._level(name))
            given = values[name] if self.cloud is None else named[self.cloud]
            averages[name] = average.to(torch.promote_types(values[name].dtype, given.dtype))
        return in_form_of(result, averages, self.signature)

    def _check_options(self) -> None:
        inputs, outputs = self.signature.inputs, self.signature.named_outputs
        if self.cloud is not None and self.cloud not in inputs:
            raise ValueError(f"cloud: {self.cloud!r} is none of the inputs {', '.join(inputs)}")
        for name, level in self.levels.items():
            if name not in (*inputs, *outputs) or level not in LEVELS:
                raise ValueError(
                    f"levels: expected {', '.join(LEVELS)} for some of "
                    f"{', '.join((*inputs, *outputs))}, got {name!r}: {level!r}"
                )
        if self.chunk is not None and self.chunk < 1:
            raise ValueError(f"chunk: expected at least one frame per call, got {self.chunk}")
        if self.samples < 1:
            raise ValueError(f"samples: expected at least one frame per cloud, got {self.samples}")
        known = {*(parameters_of(product_fold) if self.orders else ())}
        for mode in (self.mode, self.eval_mode):
            known |= options_of(self.signature.group, mode)
        for name in self.frame_options:
            if name not in known:
                raise ValueError(f"frame_options: no function that makes the frames takes {name!r}")
        if self.orders and not (self.cloud and self.signature.group.permutations):
            raise ValueError(
                f"orders: expected a group with permutations, such as 'SE(3) * Permutations()', "
                f"got {self.signature.group!r}"
            )


def _cloud(signature: Signature) -> str | None:
    """The input whose frames are taken; None if the group only permutes."""
    if signature.group.dimension is None:
        return None
    for kind in (Point, Vector):
        for name, representation in signature.inputs.items():
            if representation.contains(kind):
                return name
    raise ValueError("signature: frames need an input that is a Point or a Vector; there is none")
