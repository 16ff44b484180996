"""Forces, virials and Born charges from dE/dA: a constant linear map, with its transpose as the backward pass.

On the CPU the compiled kernel of the core does the work, elsewhere (CUDA) plain tensor operations on the same tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from qnep import _core
from qnep.train.batch import Batch

PAIRS_PER_CHUNK = 1 << 20  # limits the memory of the plain tensor operations


class CompiledPairs:
    """The compiled kernel on the tables of one batch; the tensors must be on the CPU."""

    def __init__(self, batch: Batch) -> None:
        parts = (batch.radial, batch.angular)
        is_double = batch.radial.slopes.dtype == torch.float64
        tables = _core.PairTablesDouble if is_double else _core.PairTablesFloat
        self._tables = tables(
            blocks=batch.blocks,
            rows=[part.rows for part in parts],
            neighbors=[part.second for part in parts],
            types=[part.types for part in parts],
            vectors=[part.vectors for part in parts],
            directions=[part.directions for part in parts],
            slopes=[part.slopes for part in parts],
            values=batch.angular.values,
            harmonics=batch.angular.harmonics,
            gradients=batch.angular.gradients,
            n_threads=torch.get_num_threads(),
        )

    def sum(
        self, radial: Sequence[torch.Tensor], angular: Sequence[torch.Tensor], sums: Sequence[Any]
    ) -> None:
        """Add to forces [n_atoms, 3], virials [n_frames, 9], Born charges [n_atoms, 9] (None: not wanted)."""
        self._tables.sum(list(radial), list(angular), *sums)

    def spread(
        self,
        gradients: Sequence[Any],
        radial: Sequence[torch.Tensor],
        angular: Sequence[torch.Tensor],
    ) -> None:
        """Add the transpose to the tensors of dE/dA."""
        self._tables.spread(*gradients, list(radial), list(angular))


class TensorPairs:
    """The same by tensor operations, for any device."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def sum(
        self, radial: Sequence[torch.Tensor], angular: Sequence[torch.Tensor], sums: Sequence[Any]
    ) -> None:
        """See `CompiledPairs.sum`."""
        batch = self.batch
        weights = torch.cat(list(radial)).view(batch.n_atoms, -1, batch.radial.slopes.shape[1])
        for rows in _chunks(len(batch.radial.first)):
            part = _PairRows(batch, batch.radial, rows)
            magnitude = (weights[part.first, part.types] * batch.radial.slopes[rows]).sum(dim=1)
            part.add(magnitude[:, None] * part.directions, sums)
        table = self._by_slot(angular)
        for rows in _chunks(len(batch.angular.first)):
            part = _PairRows(batch, batch.angular, rows)
            row = table[part.types, part.first]  # [n_pairs, n_basis, n_harmonics]
            along = torch.einsum("pk,pkm->pm", batch.angular.slopes[rows], row)
            across = torch.einsum("pk,pkm->pm", batch.angular.values[rows], row)
            magnitude = (along * batch.angular.harmonics[rows]).sum(dim=1)
            tangential = torch.einsum("pm,pcm->pc", across, batch.angular.gradients[rows])
            part.add(magnitude[:, None] * part.directions + tangential, sums)

    def spread(
        self,
        gradients: Sequence[Any],
        radial: Sequence[torch.Tensor],
        angular: Sequence[torch.Tensor],
    ) -> None:
        """See `CompiledPairs.spread`."""
        batch = self.batch
        weights = torch.cat(list(radial)).view(batch.n_atoms, -1, batch.radial.slopes.shape[1])
        n_types = weights.shape[1]
        flat = weights.view(-1, weights.shape[2])
        for rows in _chunks(len(batch.radial.first)):
            part = _PairRows(batch, batch.radial, rows)
            magnitude = (part.gradient(gradients) * part.directions).sum(dim=1, keepdim=True)
            flat.index_add_(
                0, part.first * n_types + part.types, magnitude * batch.radial.slopes[rows]
            )
        table = self._by_slot(angular).clone()
        flat_table = table.view(n_types * batch.n_atoms, *table.shape[2:])
        for rows in _chunks(len(batch.angular.first)):
            part = _PairRows(batch, batch.angular, rows)
            g = part.gradient(gradients)
            magnitude = (g * part.directions).sum(dim=1, keepdim=True)
            along = magnitude * batch.angular.harmonics[rows]
            across = torch.einsum("pc,pcm->pm", g, batch.angular.gradients[rows])
            row = torch.einsum("pk,pm->pkm", batch.angular.slopes[rows], along)
            row += torch.einsum("pk,pm->pkm", batch.angular.values[rows], across)
            flat_table.index_add_(0, part.types * batch.n_atoms + part.first, row)
        for (start, stop), target_r, target_a in zip(
            batch.type_ranges, radial, angular, strict=True
        ):
            target_r.copy_(weights[start:stop].reshape(target_r.shape))
            target_a.copy_(table[:, start:stop].permute(0, 2, 1, 3).reshape(target_a.shape))

    def _by_slot(self, angular: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return dE/dA as [n_types, n_atoms, n_basis, n_harmonics]."""
        table = torch.cat(list(angular), dim=1)
        n_basis = self.batch.angular.slopes.shape[1]
        return table.view(-1, n_basis, *table.shape[1:]).permute(0, 2, 1, 3).contiguous()


class _PairRows:
    """Some of the pairs of a batch, with the sums over them."""

    def __init__(self, batch: Batch, pairs: Any, rows: slice) -> None:
        self.first = pairs.first[rows]
        self.second = pairs.second[rows].long()
        self.types = pairs.types[rows].long()
        self.directions = pairs.directions[rows]
        self.vectors = pairs.vectors[rows]
        self.frames = batch.frame_of_atom[self.first]

    def add(self, g: torch.Tensor, sums: Sequence[Any]) -> None:
        forces, virials, born_charges = sums
        if forces is not None:
            forces.index_add_(0, self.first, g).index_add_(0, self.second, -g)
        moments = (self.vectors[:, :, None] * g[:, None, :]).reshape(-1, 9)
        if virials is not None:
            virials.index_add_(0, self.frames, -moments)
        if born_charges is not None:
            born_charges.index_add_(0, self.first, 0.5 * moments).index_add_(
                0, self.second, -0.5 * moments
            )

    def gradient(self, gradients: Sequence[Any]) -> torch.Tensor:
        forces, virials, born_charges = gradients
        g = torch.zeros_like(self.directions)
        if forces is not None:
            g += forces[self.first] - forces[self.second]
        if virials is not None:
            g -= torch.einsum("pa,pab->pb", self.vectors, virials.view(-1, 3, 3)[self.frames])
        if born_charges is not None:
            difference = (born_charges[self.first] - born_charges[self.second]).view(-1, 3, 3)
            g += 0.5 * torch.einsum("pa,pab->pb", self.vectors, difference)
        return g


def _chunks(n_pairs: int) -> list[slice]:
    return [slice(start, start + PAIRS_PER_CHUNK) for start in range(0, n_pairs, PAIRS_PER_CHUNK)]


class _PairSums(torch.autograd.Function):
    """The linear map for autograd; its inputs are the radial tensors of all types, then the angular ones."""

    @staticmethod
    def forward(
        ctx: Any, pairs: Any, shapes: tuple[Any, Any, Any], *derivatives: torch.Tensor
    ) -> Any:
        n_types = len(derivatives) // 2
        tensors = [tensor.detach().contiguous() for tensor in derivatives]
        ctx.pairs = pairs
        ctx.shapes = [tensor.shape for tensor in tensors]
        sums = [None if shape is None else tensors[0].new_zeros(shape) for shape in shapes]
        pairs.sum(tensors[:n_types], tensors[n_types:], sums)
        return tuple(sums)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> Any:
        given = [None if gradient is None else gradient.contiguous() for gradient in gradients]
        reference = next(gradient for gradient in given if gradient is not None)
        results = [reference.new_zeros(shape) for shape in ctx.shapes]
        n_types = len(results) // 2
        ctx.pairs.spread(given, results[:n_types], results[n_types:])
        return (None, None, *results)


def make_pairs(batch: Batch) -> CompiledPairs | TensorPairs:
    """Return the implementation for the device on which the batch is."""
    return CompiledPairs(batch) if batch.radial.slopes.device.type == "cpu" else TensorPairs(batch)


def forces_and_virials(
    pairs: CompiledPairs | TensorPairs,
    batch: Batch,
    radial: Sequence[torch.Tensor],
    angular: Sequence[torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return forces [n_atoms, 3] and virials [n_frames, 9] of the derivatives dE/dA of all types."""
    shapes = ((batch.n_atoms, 3), (batch.n_frames, 9), None)
    forces, virials, _ = _PairSums.apply(pairs, shapes, *radial, *angular)
    return forces, virials


def born_charges(
    pairs: CompiledPairs | TensorPairs,
    batch: Batch,
    radial: Sequence[torch.Tensor],
    angular: Sequence[torch.Tensor],
) -> torch.Tensor:
    """Return sum of (r_ij (x) H_ij) / 2 on i minus the same on j, [n_atoms, 9], of the derivatives dq/dA."""
    return _PairSums.apply(pairs, (None, None, (batch.n_atoms, 9)), *radial, *angular)[2]
