"""One batch of structures as tensors: labels and the constant tables of `geometry`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qnep._optional import require
from qnep.train import ewald_matrices, geometry
from qnep.train.frames import Frame, require_periodic
from qnep.train.harmonics import padded_harmonics
from qnep.train.molecules import whole_molecules

if TYPE_CHECKING:
    import torch

    from qnep.model import Model


@dataclass
class PairTensors:
    """The pairs of one cutoff; shapes as in `geometry.Pairs` and `geometry.RadialTables`."""

    rows: torch.Tensor  # [n_atoms + 1]
    first: torch.Tensor  # [n_pairs]
    second: torch.Tensor  # [n_pairs] int32
    types: torch.Tensor  # [n_pairs] int32
    vectors: torch.Tensor  # [n_pairs, 3]
    directions: torch.Tensor  # [n_pairs, 3]
    slopes: torch.Tensor  # [n_pairs, n_basis]


@dataclass
class AngularTensors(PairTensors):
    """The angular pairs, with f_k, B_abc and dB_abc/dr."""

    values: torch.Tensor  # [n_pairs, n_basis]
    harmonics: torch.Tensor  # [n_pairs, n_harmonics]
    gradients: torch.Tensor  # [n_pairs, 3, n_harmonics]


@dataclass
class CoulombTensors:
    """Constant matrices of the Coulomb energy, padded to the largest structure of the batch.

    slots : [n_atoms], place of each atom in a flat [n_frames * largest] array.
    matrices : [n_frames, (4 or 10) * largest, largest], see `ewald_matrices.reciprocal_matrices`.
    """

    slots: torch.Tensor
    matrices: torch.Tensor


@dataclass
class Labels:
    """References and weights of a batch; missing ones have weight 0.

    atom_weights holds the weight of the structure; the weights of elements belong to the loss.
    """

    energies: torch.Tensor  # [n_frames], eV, in double precision, see `forward`
    energy_weights: torch.Tensor  # [n_frames], of the squared error
    forces: torch.Tensor  # [n_atoms, 3], eV/Å
    force_weights: torch.Tensor  # [n_atoms], of the squared error
    virials: torch.Tensor  # [n_frames, 9], eV
    virial_weights: torch.Tensor  # [n_frames], of the squared error
    charges: torch.Tensor  # [n_frames], total charge, e
    born_charges: torch.Tensor | None  # [n_atoms, 9], e
    born_weights: torch.Tensor  # [n_frames]
    dipoles: torch.Tensor | None  # [n_frames, 3], e Å
    dipole_weights: torch.Tensor  # [n_frames]


@dataclass
class Batch:
    """Structures that are evaluated together. Atoms are sorted by type, then by structure (`geometry.AtomOrder`)."""

    frame_numbers: list[int]
    n_frames: int
    n_atoms: int
    type_ranges: list[tuple[int, int]]  # per type, first and last + 1 atom
    blocks: torch.Tensor  # [n_types, n_frames + 1]
    frame_of_atom: torch.Tensor  # [n_atoms]
    type_of_atom: torch.Tensor  # [n_atoms]
    atoms_per_frame: torch.Tensor  # [n_frames]
    positions: torch.Tensor  # [n_atoms, 3], Å, see `BatchBuilder._positions`
    original: (
        torch.Tensor
    )  # [n_atoms], place of each atom when the frames are concatenated in their own order
    radial: PairTensors
    angular: AngularTensors
    radial_density: list[torch.Tensor]  # per type [n_atoms of the type, n_types * n_basis]
    angular_density: list[
        torch.Tensor
    ]  # per type [n_types * n_basis, n_atoms of the type, n_harmonics]
    coulomb: CoulombTensors | None
    labels: Labels
    pairs: Any = None  # the pair operator of these tables, made when first used

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with all tensors on a device."""
        return map_tensors(self, lambda tensor: tensor.to(device))

    def tensors(self) -> list[torch.Tensor]:
        """Return all tensors, in the order in which `map_tensors` meets them."""
        found: list[torch.Tensor] = []

        def collect(tensor: torch.Tensor) -> torch.Tensor:
            found.append(tensor)
            return tensor

        map_tensors(self, collect)
        return found

    def memory(self) -> int:
        """Return the bytes of all tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())


def map_tensors(node: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Return a copy of a batch, or of a part of it, with a function applied to every tensor."""
    if is_dataclass(node) and not isinstance(node, type):
        names = [item.name for item in fields(node) if item.name != "pairs"]
        return type(node)(**{name: map_tensors(getattr(node, name), function) for name in names})
    if isinstance(node, list):
        return [map_tensors(item, function) for item in node]
    return function(node) if hasattr(node, "element_size") else node


class BatchBuilder:
    """Makes batches for one set of model settings.

    Parameters
    ----------
    model : settings (elements, cutoffs, basis, charge mode); its parameters are not used.
    precision : "single" or "double".
    with_coulomb : make the matrices of the Coulomb energy, if the model has charges.
    """

    def __init__(self, model: Model, precision: str = "single", with_coulomb: bool = True) -> None:
        self.torch = require("torch", extra="train")
        self.model = model
        self.with_coulomb = with_coulomb and model.charge_mode > 0
        self.dtype = self.torch.float64 if precision == "double" else self.torch.float32
        self.radial_cutoffs = np.array(model.radial_cutoffs, dtype=float)
        self.angular_cutoffs = np.array(model.angular_cutoffs, dtype=float)

    def build(self, frames: Sequence[Frame], frame_numbers: Sequence[int]) -> Batch:
        """Return the batch of some frames; `frame_numbers` are kept to tell them apart."""
        order = geometry.order_atoms(frames, self.model.n_types)
        radial_pairs = geometry.find_pairs(
            frames, order, np.maximum(self.radial_cutoffs, self.angular_cutoffs)
        )
        angular_pairs = radial_pairs.within(
            self._pair_cutoffs(order, radial_pairs, self.angular_cutoffs)
        )
        radial_pairs = radial_pairs.within(
            self._pair_cutoffs(order, radial_pairs, self.radial_cutoffs)
        )
        radial, radial_density = self._radial(order, radial_pairs)
        angular, angular_density = self._angular(order, angular_pairs)
        ranges = [(int(block[0]), int(block[-1])) for block in order.blocks]
        return Batch(
            frame_numbers=list(frame_numbers),
            n_frames=order.n_frames,
            n_atoms=order.n_atoms,
            type_ranges=ranges,
            blocks=self._integers(order.blocks),
            frame_of_atom=self._integers(order.frames),
            type_of_atom=self._integers(order.types),
            atoms_per_frame=self._reals([frame.n_atoms for frame in frames]),
            positions=self._reals(_sorted(order, [self._positions(frame) for frame in frames])),
            original=self._integers(np.argsort(np.concatenate(order.position_of))),
            radial=radial,
            angular=angular,
            radial_density=[self._reals(radial_density[start:stop]) for start, stop in ranges],
            angular_density=[self._reals(angular_density[:, start:stop]) for start, stop in ranges],
            coulomb=self._coulomb(frames, order, radial_pairs) if self.with_coulomb else None,
            labels=self._labels(frames, order),
        )

    def _positions(self, frame: Frame) -> np.ndarray:
        """Return positions relative to the first atom, of whole molecules where there is a dipole.

        Relative ones keep the sum of charges times positions precise.
        """
        if frame.dipole is None:
            return frame.positions - frame.positions[0]
        symbols = [self.model.elements[t] for t in frame.types]
        positions = whole_molecules(symbols, frame.positions, frame.cell)
        return positions - positions[0]

    def _pair_cutoffs(
        self, order: geometry.AtomOrder, pairs: geometry.Pairs, cutoffs: np.ndarray
    ) -> np.ndarray:
        return 0.5 * (cutoffs[order.types[pairs.first]] + cutoffs[pairs.types])

    def _reals(self, values: Any) -> torch.Tensor:
        return self.torch.from_numpy(np.array(values, dtype=float, order="C")).to(self.dtype)

    def _integers(self, values: np.ndarray, is_small: bool = False) -> torch.Tensor:
        return self.torch.from_numpy(
            np.array(values, dtype=np.int32 if is_small else np.int64, order="C")
        )

    def _pair_fields(
        self, order: geometry.AtomOrder, pairs: geometry.Pairs
    ) -> dict[str, torch.Tensor]:
        return {
            "rows": self._integers(pairs.rows(order.n_atoms)),
            "first": self._integers(pairs.first),
            "second": self._integers(pairs.second, is_small=True),
            "types": self._integers(pairs.types, is_small=True),
            "vectors": self._reals(pairs.vectors),
            "directions": self._reals(pairs.vectors / pairs.distances[:, None]),
        }

    def _radial(
        self, order: geometry.AtomOrder, pairs: geometry.Pairs
    ) -> tuple[PairTensors, np.ndarray]:
        tables = geometry.radial_tables(pairs, self.model.basis_size_radial + 1)
        density = geometry.radial_density(pairs, tables, order.n_atoms, self.model.n_types)
        return PairTensors(
            **self._pair_fields(order, pairs), slopes=self._reals(tables.slopes)
        ), density

    def _angular(
        self, order: geometry.AtomOrder, pairs: geometry.Pairs
    ) -> tuple[AngularTensors, np.ndarray]:
        tables = geometry.radial_tables(pairs, self.model.basis_size_angular + 1)
        harmonics, gradients = geometry.angular_tables(pairs, self.model.l_max)
        density = geometry.angular_density(
            pairs, tables, harmonics, order.n_atoms, self.model.n_types
        )
        tensors = AngularTensors(
            **self._pair_fields(order, pairs),
            slopes=self._reals(tables.slopes),
            values=self._reals(tables.values),
            harmonics=self._reals(harmonics),
            gradients=self._reals(gradients),
        )
        return tensors, density

    def _coulomb(
        self, frames: Sequence[Frame], order: geometry.AtomOrder, pairs: geometry.Pairs
    ) -> CoulombTensors:
        shape = _coulomb_shape(frames)
        _, n_matrices, largest, _ = shape
        with_virial = n_matrices == ewald_matrices.N_WITH_VIRIAL
        slots = _sorted(
            order, [f * largest + np.arange(frame.n_atoms) for f, frame in enumerate(frames)]
        )
        padded = np.zeros(shape, dtype=np.float64)
        for f, frame in enumerate(frames):
            require_periodic(frame.pbc, frame.label)
            n = frame.n_atoms
            matrices = ewald_matrices.reciprocal_matrices(
                frame.positions, frame.cell, self.model.ewald_alpha, with_virial
            )
            if self.model.charge_mode == 1:
                mine = order.frames[pairs.first] == f
                first, second = (
                    slots[pairs.first[mine]] - f * largest,
                    slots[pairs.second[mine]] - f * largest,
                )
                ewald_matrices.add_real_space(
                    matrices, first, second, pairs.vectors[mine], self.model.ewald_alpha
                )
            padded[f, :, :n, :n] = matrices
        return CoulombTensors(
            self._integers(slots),
            self._reals(padded.reshape(len(frames), n_matrices * largest, largest)),
        )

    def _labels(self, frames: Sequence[Frame], order: geometry.AtomOrder) -> Labels:
        def per_frame(name: str, shape: tuple[int, ...]) -> torch.Tensor:
            values = [getattr(frame, name) for frame in frames]
            return self._reals(
                [np.zeros(shape) if v is None else np.reshape(v, shape) for v in values]
            )

        def per_atom(name: str, width: int) -> torch.Tensor:
            values = [getattr(frame, name) for frame in frames]
            arrays = [
                np.zeros((frame.n_atoms, width))
                if value is None
                else np.reshape(value, (-1, width))
                for frame, value in zip(frames, values, strict=True)
            ]
            return self._reals(_sorted(order, arrays))

        def present(name: str) -> np.ndarray:
            return np.array([float(getattr(frame, name) is not None) for frame in frames])

        squared = np.array([frame.weight**2 for frame in frames])
        energy_weights = np.array([frame.energy_weight for frame in frames])
        has_forces = present("forces") * squared
        return Labels(
            energies=self.torch.tensor(
                [frame.energy or 0.0 for frame in frames], dtype=self.torch.float64
            ),
            energy_weights=self._reals(squared * energy_weights * present("energy")),
            forces=per_atom("forces", 3),
            force_weights=self._reals(has_forces[order.frames]),
            virials=per_frame("virial", (9,)),
            virial_weights=self._reals(squared * present("virial")),
            charges=per_frame("total_charge", ()),
            born_charges=per_atom("born_charges", 9) if present("born_charges").any() else None,
            born_weights=self._reals(present("born_charges")),
            dipoles=per_frame("dipole", (3,)) if present("dipole").any() else None,
            dipole_weights=self._reals(present("dipole")),
        )


def _sorted(order: geometry.AtomOrder, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Return per-atom arrays of the frames in the order of the batch."""
    result = np.empty((order.n_atoms, *arrays[0].shape[1:]), dtype=arrays[0].dtype)
    for target, array in zip(order.position_of, arrays, strict=True):
        result[target] = array
    return result


def estimate_memory(model: Model, groups: Sequence[Sequence[Frame]], precision: str) -> int:
    """Return the bytes that the tables of some batches will need, from the densities of their structures.

    An atom has 4/3 pi R^3 N/V neighbours on average; structures with vacuum have fewer, so this is an upper estimate
    of most data sets. groups : the structures of each batch.
    """
    width = padded_harmonics(model.l_max)
    size = 8 if precision == "double" else 4
    indices = 16  # bytes: first (8), second (4), type (4)
    radial_pair = indices + size * (7 + model.basis_size_radial)
    angular_pair = indices + size * (8 + 2 * model.basis_size_angular + 4 * width)
    n_densities = model.basis_size_radial + 1 + (model.basis_size_angular + 1) * width
    per_atom = size * (20 + model.n_types * n_densities)
    total = 0.0
    for frame in (frame for group in groups for frame in group):
        sphere = 4 / 3 * np.pi * frame.n_atoms / frame.volume
        pairs = sphere * (
            max(model.radial_cutoffs) ** 3 * radial_pair
            + max(model.angular_cutoffs) ** 3 * angular_pair
        )
        total += frame.n_atoms * (pairs + per_atom)
    if model.charge_mode:
        total += size * sum(int(np.prod(_coulomb_shape(group))) for group in groups if group)
    return int(total)


def _coulomb_shape(frames: Sequence[Frame]) -> tuple[int, int, int, int]:
    """Return the shape of the Coulomb matrices of a batch: [n_frames, n_matrices, largest, largest]."""
    largest = max(frame.n_atoms for frame in frames)
    with_virial = any(frame.virial is not None for frame in frames)
    n_matrices = ewald_matrices.N_WITH_VIRIAL if with_virial else ewald_matrices.N_WITHOUT_VIRIAL
    return len(frames), n_matrices, largest, largest
