"""Labelled structures as the trainer needs them: plain arrays, every label checked once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ase import Atoms

from qnep.total_charge import total_charge_in

VIRIAL_TOLERANCE = 1e-3  # eV/atom; virial= and stress= of one frame may differ by this
LARGEST_WEIGHT = 100.0  # of a frame, as in GPUMD


class FrameError(ValueError):
    """A structure cannot be trained on; the text names it and says what to do."""


@dataclass(frozen=True)
class Frame:
    """One labelled structure.

    label : file and number, for messages.
    types : [n_atoms], index into the elements of the model.
    positions : [n_atoms, 3], Å.
    cell : [3, 3], rows, Å; of any length in open directions.
    energy : eV, or None.
    forces : [n_atoms, 3], eV/Å, or None.
    virial : [3, 3], eV, positive trace = compressed, or None.
    total_charge : e.
    born_charges : [n_atoms, 3, 3], e, first index the field, or None.
    dipole : [3], e Å, of a neutral cell with its molecules whole (`molecules.whole_molecules`), or None.
    weight : of energy, forces and virial errors.
    energy_weight : further factor of the squared energy error.
    config_type, group, level : category, trajectory, level of theory; empty if not given.
    pbc : which of the cell vectors are periodic; atoms have no images along the others.
    """

    label: str
    types: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    energy: float | None
    forces: np.ndarray | None
    virial: np.ndarray | None = None
    total_charge: float = 0.0
    born_charges: np.ndarray | None = None
    dipole: np.ndarray | None = None
    weight: float = 1.0
    energy_weight: float = 1.0
    config_type: str = ""
    group: str = ""
    level: str = ""
    pbc: tuple[bool, bool, bool] = (True, True, True)

    @property
    def n_atoms(self) -> int:
        return len(self.types)

    @property
    def volume(self) -> float:
        return float(abs(np.linalg.det(self.cell)))

    @property
    def vacuum(self) -> float:
        """The smallest height between the atoms and where an open direction would repeat them, Å; inf without one."""
        inverse = np.linalg.inv(self.cell)
        extents = np.ptp(self.positions @ inverse, axis=0)
        heights = (1.0 - extents) / np.linalg.norm(inverse, axis=0)
        return float(np.where(self.pbc, np.inf, heights).min())

    def without(self, energy: float, forces: np.ndarray, virial: np.ndarray) -> Frame:
        """Return the frame with the contribution of a fixed energy model taken off its labels."""
        return replace(
            self,
            energy=None if self.energy is None else self.energy - energy,
            forces=None if self.forces is None else self.forces - forces,
            virial=None if self.virial is None else self.virial - virial,
        )


@dataclass
class FrameReader:
    """Turns ASE structures into frames; labels may be in the calculator, in `info` or in `arrays`, in any case.

    elements : of the model, in its order.
    with_charges : whether the model has charges, whose Ewald sum knows no open directions.
    """

    elements: Sequence[str]
    with_charges: bool = False
    _types: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self._types = {symbol: index for index, symbol in enumerate(self.elements)}

    def read(self, atoms: Atoms, label: str, group: str = "") -> Frame:
        """Return the frame; raises FrameError for what could not be trained on."""
        info = {str(key).lower(): value for key, value in atoms.info.items()}
        arrays = {str(key).lower(): value for key, value in atoms.arrays.items()}
        results = atoms.calc.results if atoms.calc is not None else {}
        n_atoms = len(atoms)
        if n_atoms == 0:
            raise FrameError(f"{label}: no atoms; leave the frame out")
        cell = np.array(atoms.cell[:], dtype=float)
        positions = np.array(atoms.positions, dtype=float)
        _require_finite(cell, label, "cell")
        _require_finite(positions, label, "positions")
        if abs(np.linalg.det(cell)) < 1e-6:
            raise FrameError(f'{label}: no cell; add Lattice="..." (with vacuum around a molecule)')
        pbc = _directions(atoms)
        if self.with_charges:
            require_periodic(pbc, label)
        energy = _number(_first(results, info, "energy", "free_energy"), label, "energy")
        forces = _array(_first(results, arrays, "forces", "force"), (n_atoms, 3), label, "forces")
        dipole = _array(_first(results, info, "dipole"), (3,), label, "dipole")
        total_charge = _total_charge(info, label)
        if dipole is not None and total_charge:
            raise FrameError(
                f"{label}: the dipole of a cell with charge {total_charge:g} depends on the origin; "
                "remove dipole= from the frame"
            )
        born = _array(
            _first(results, arrays, "born_effective_charges", "bec"), (n_atoms, 3, 3), label, "bec"
        )
        return Frame(
            label=label,
            types=self._find_types(atoms, label),
            positions=positions,
            cell=cell,
            energy=energy,
            forces=forces,
            virial=_virial(results, info, abs(np.linalg.det(cell)), n_atoms, label),
            total_charge=total_charge,
            born_charges=born,
            dipole=dipole,
            weight=_weight(info.get("weight"), label, "weight", smallest=1e-12),
            energy_weight=_weight(info.get("energy_weight"), label, "energy_weight", smallest=0.0),
            config_type=str(info.get("config_type", "")),
            group=str(_first(info, {}, "trajectory", "group", "source") or group),
            level=str(_first(info, {}, "level", "level_of_theory") or ""),
            pbc=pbc,
        )

    def _find_types(self, atoms: Atoms, label: str) -> np.ndarray:
        symbols = atoms.get_chemical_symbols()
        unknown = sorted(set(symbols) - set(self._types))
        if unknown:
            raise FrameError(
                f"{label}: element {', '.join(unknown)} is not among those of the model "
                f"({' '.join(self.elements)}); add it to `type` or leave the frame out"
            )
        return np.array([self._types[symbol] for symbol in symbols], dtype=np.int64)


def _directions(atoms: Atoms) -> tuple[bool, bool, bool]:
    a, b, c = map(bool, atoms.pbc)
    return a, b, c


def require_periodic(pbc: Sequence[bool], label: str) -> None:
    """Raise FrameError unless all directions are periodic, as a model with charges needs."""
    if not all(pbc):
        words = " ".join("FT"[is_periodic] for is_periodic in pbc)
        raise FrameError(
            f'{label}: a model with charges needs a cell that is periodic in all directions, got pbc="{words}"; '
            'write pbc="T T T" if the vacuum around the atoms is wide enough for that, or leave the frame out'
        )


def _first(primary: Mapping[str, Any], secondary: Mapping[str, Any], *keys: str) -> Any:
    for mapping in (primary, secondary):
        for key in keys:
            if mapping.get(key) is not None:
                return mapping[key]
    return None


def _number(value: Any, label: str, name: str) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError) as failure:
        raise FrameError(f"{label}: {name} must be a number, got {value!r}") from failure
    if not np.isfinite(number):
        raise FrameError(f"{label}: {name} is {number}; leave the frame out or label it again")
    return number


def _total_charge(info: Mapping[str, Any], label: str) -> float:
    try:
        return total_charge_in(info) or 0.0
    except ValueError as failure:
        raise FrameError(f"{label}: {failure}") from failure


def _array(value: Any, shape: tuple[int, ...], label: str, name: str) -> np.ndarray | None:
    if value is None:
        return None
    array = _numbers(value, label, name)
    if array.size != np.prod(shape):
        raise FrameError(f"{label}: {name} must have {np.prod(shape)} numbers, got {array.size}")
    _require_finite(array, label, name)
    return array.reshape(shape)


def _numbers(value: Any, label: str, name: str) -> np.ndarray:
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError) as failure:
        raise FrameError(f"{label}: {name} must be numbers, got {value!r}") from failure


def _require_finite(array: np.ndarray, label: str, name: str) -> None:
    if not np.isfinite(array).all():
        raise FrameError(
            f"{label}: {name} holds numbers that are not finite; leave the frame out or label it again"
        )


def _weight(value: Any, label: str, name: str, smallest: float) -> float:
    weight = _number(value, label, name)
    if weight is None:
        return 1.0
    if not smallest <= weight <= LARGEST_WEIGHT:
        raise FrameError(
            f"{label}: {name} must be between {smallest:g} and {LARGEST_WEIGHT:g}, got {weight:g}"
        )
    return weight


def _virial(
    results: Mapping[str, Any], info: Mapping[str, Any], volume: float, n_atoms: int, label: str
) -> np.ndarray | None:
    """Return the virial of the keys virial= and stress=, virial = -stress V (tension positive)."""
    stress = info.get("stress", results.get("stress"))
    virial = _array(info.get("virial", results.get("virial")), (3, 3), label, "virial")
    if stress is None:
        return virial
    tensor = _numbers(stress, label, "stress")
    if tensor.size == 6:
        xx, yy, zz, yz, xz, xy = tensor.ravel()
        tensor = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    checked = _array(tensor, (3, 3), label, "stress")
    assert checked is not None  # stress is not None
    from_stress = -volume * checked
    if virial is not None and np.abs(virial - from_stress).max() > VIRIAL_TOLERANCE * n_atoms:
        raise FrameError(
            f"{label}: virial= and -stress= x volume differ; keep the right one of the two"
        )
    return from_stress if virial is None else virial


def require_labels(frames: Iterable[Frame]) -> None:
    """Raise FrameError for the first frame that has no energy or no forces."""
    for frame in frames:
        if frame.energy is None:
            raise FrameError(
                f"{frame.label}: no energy; give energy= (and energy_weight=0 to leave it out of the fit)"
            )
        if frame.forces is None:
            raise FrameError(
                f"{frame.label}: no forces; label the frame with forces or leave it out"
            )


def hash_frames(frames: Sequence[Frame]) -> str:
    """Return a fingerprint of structures and labels, to tell data sets apart."""
    digest = hashlib.sha256()
    for frame in frames:
        for array in (
            frame.types,
            frame.positions,
            frame.cell,
            frame.forces,
            frame.virial,
            frame.born_charges,
        ):
            digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
        if (
            frame.dipole is not None
        ):  # so that model cards of data without dipoles keep their fingerprints
            digest.update(b"dipole" + frame.dipole.tobytes())
        if not all(frame.pbc):  # as with dipoles
            digest.update(b"pbc" + bytes(frame.pbc))
        digest.update(
            repr((frame.energy, frame.total_charge, frame.weight, frame.energy_weight)).encode()
        )
    return digest.hexdigest()
