"""Molecules of a trajectory against time, and every reaction between them."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from qnep.analysis.bond_cutoffs import BondCutoffs, Kind
from qnep.analysis.bonds import BondChange, BondTracker, RawBonds, neighbor_pairs, raw_bonds
from qnep.analysis.frame import Frame
from qnep.analysis.metals import METAL_NEIGHBORS, is_metal, metallic_atoms
from qnep.analysis.molecules import BrokenBond, MoleculeTracker, Reaction, Species

logger = logging.getLogger(__name__)

DEFAULT_LIFETIME_FS = 50.0  # one to two periods of a C-O or P-F stretch


@dataclass(frozen=True)
class SpeciesResult:
    """What `SpeciesAnalysis` found.

    Parameters
    ----------
    species : in order of appearance.
    times : (n_frames,) fs, or frame numbers where no time is known.
    has_times : are they fs?
    counts : (n_frames, n_species) molecules.
    charges : (n_species,) mean charge of a molecule, e; nan without charges.
    charge_spreads : (n_species,) standard deviation, e.
    reactions : in order of time.
    broken_bonds : in order of time.
    initial_species : (n_atoms,) species of every atom in the first frame.
    volume : mean volume, Å³; 0 without a box.
    delay : frames for which a change must last.
    """

    species: list[Species]
    times: np.ndarray
    has_times: bool
    counts: np.ndarray
    charges: np.ndarray
    charge_spreads: np.ndarray
    reactions: list[Reaction]
    broken_bonds: list[BrokenBond]
    initial_species: np.ndarray
    volume: float
    delay: int

    def index(self, name: str) -> int:
        """Return the index of a species by name, label or formula (if it is the only one).

        Raises
        ------
        KeyError : where there is no such species, or several isomers of the formula.
        """
        for attribute in ("name", "label", "formula"):
            found = [k for k, one in enumerate(self.species) if getattr(one, attribute) == name]
            if len(found) == 1:
                return found[0]
        raise KeyError(name)

    def count(self, name: str) -> np.ndarray:
        """Return the number of molecules of a species in every frame; zeros if it never appears."""
        try:
            return self.counts[:, self.index(name)]
        except KeyError:
            return np.zeros(len(self.times), dtype=np.int64)

    def display_names(self) -> list[str]:
        """Return names that are unique: isomers without a name get their label behind the formula."""
        names = [one.name for one in self.species]
        return [
            f"{name} {one.label}" if names.count(name) > 1 else name
            for name, one in zip(names, self.species)
        ]


@dataclass
class _Held:
    """What of a frame is needed once its bonds are certain."""

    index: int
    time: float
    charges: np.ndarray | None
    metallic: np.ndarray | None


@dataclass
class _Tally:
    """Sums over frames, grown as species appear."""

    times: list[float] = field(default_factory=list)
    counts: list[np.ndarray] = field(default_factory=list)
    charge_sums: np.ndarray = field(default_factory=lambda: np.zeros((3, 0)))
    reactions: list[Reaction] = field(default_factory=list)
    broken_bonds: list[BrokenBond] = field(default_factory=list)
    volume: float = 0.0

    def add_charges(self, species: np.ndarray, charges: np.ndarray) -> None:
        """Add molecules' charges to the sums [n, q, q²] of their species."""
        size = max(int(species.max(initial=-1)) + 1, self.charge_sums.shape[1])
        sums = np.zeros((3, size))
        sums[:, : self.charge_sums.shape[1]] = self.charge_sums
        for row, weights in enumerate((np.ones(len(charges)), charges, charges**2)):
            sums[row] += np.bincount(species, weights=weights, minlength=size)
        self.charge_sums = sums


class SpeciesAnalysis:
    """Follows molecules through a trajectory, one frame at a time.

    Covalent bonds make molecules. Contacts of a metal with a nonmetal are ionic and make none, so that
    PF₆⁻, Na⁺ and CO₃²⁻ stay what a chemist calls them. Atoms of a metal (`metallic_atoms`) are counted
    apart from its ions.

    Parameters
    ----------
    cutoffs : bond distances.
    min_lifetime_fs : a bond formed or broken counts, from the frame in which this is first seen,
        if it stays so for this long without a break; 0 counts every change. Where frames are
        farther apart, it must still be so in the next frame. Changes near the end, which
        cannot be shown to last, do not count.
    """

    def __init__(
        self, cutoffs: BondCutoffs | None = None, min_lifetime_fs: float = DEFAULT_LIFETIME_FS
    ):
        if not min_lifetime_fs >= 0:
            raise ValueError(f"min_lifetime_fs must not be negative, got {min_lifetime_fs:g}")
        self.cutoffs = cutoffs or BondCutoffs()
        self.min_lifetime_fs = min_lifetime_fs
        self._tracker = BondTracker()
        self._molecules: MoleculeTracker | None = None
        self._first: tuple[RawBonds, float] | None = None
        self._held: deque[_Held] = deque()
        self._tally = _Tally()
        self._n_frames = 0
        self._initial_species = np.empty(0, dtype=np.int64)
        self._has_times = False

    def add(self, frame: Frame) -> None:
        """Take the next frame."""
        if self._molecules is None:
            self._set_up(frame)
        raw = self._bonds_of(frame)
        self._n_frames += 1
        self._tally.volume += frame.volume
        if self._n_frames == 1:
            self._first = (raw, frame.time)
            self._has_times = frame.time_fs is not None
            return
        if self._first is not None:
            first, time = self._first
            self._tracker.delay = self._delay(frame.time - time)
            self._first = None
            self._take(self._tracker.add(first))
        self._take(self._tracker.add(raw))

    def _set_up(self, frame: Frame) -> None:
        self._molecules = MoleculeTracker(frame.numbers)
        self._covalent = self.cutoffs.table(frame.numbers, [Kind.COVALENT])
        self._cutoff = self._covalent.cutoff
        self._has_metal = int(is_metal(frame.numbers).sum()) > METAL_NEIGHBORS
        if self._has_metal:
            contact = self.cutoffs.table(frame.numbers, [Kind.CONTACT])
            self._cutoff = max(self._cutoff, float(contact.form.max()))

    def _delay(self, interval_fs: float) -> int:
        if not self._has_times:
            return 1 if self.min_lifetime_fs > 0 else 0
        if interval_fs <= 0:
            raise ValueError(
                f"the second frame is {interval_fs:g} fs after the first: times must increase"
            )
        return math.ceil(self.min_lifetime_fs / interval_fs - 1e-9)

    def _bonds_of(self, frame: Frame) -> RawBonds:
        """Find the pairs of a frame, and put aside what will be needed later."""
        pairs = neighbor_pairs(frame, self._cutoff)
        metallic = metallic_atoms(frame, self.cutoffs, pairs) if self._has_metal else None
        self._held.append(_Held(frame.index, frame.time, frame.charges, metallic))
        return raw_bonds(frame.numbers, pairs, self._covalent)

    def _take(self, change: BondChange | None) -> None:
        """Count the molecules of the frame whose bonds are now certain."""
        if change is None:
            return
        assert self._molecules is not None
        held = self._held.popleft()
        if not self._tally.times:
            self._molecules.start(change.bonds)
            self._initial_species = self._molecules.species.copy()
        else:
            reactions, broken = self._molecules.update(change, held.index, held.time)
            self._tally.reactions += reactions
            self._tally.broken_bonds += broken
        self._tally.times.append(held.time)
        self._count(held)

    def _count(self, held: _Held) -> None:
        molecules = self._molecules
        assert molecules is not None
        roots = molecules.roots
        species = molecules.species[roots]
        if held.metallic is not None and len(held.metallic):
            of_atom = molecules.species.copy()
            for number in np.unique(molecules.numbers[held.metallic]).tolist():
                mine = held.metallic[molecules.numbers[held.metallic] == number]
                of_atom[mine] = molecules.registry.metal_index(number)
            species = of_atom[roots]
        self._tally.counts.append(
            np.bincount(species, minlength=len(molecules.registry.species)).astype(np.int32)
        )
        if held.charges is not None:
            charges = np.bincount(molecules.root, weights=held.charges)[roots]
            self._tally.add_charges(species, charges)

    def result(self) -> SpeciesResult:
        """Return what was found; no more frames may be added.

        Raises
        ------
        ValueError : where no frame was added.
        """
        if self._molecules is None:
            raise ValueError("no frame was analysed")
        if self._first is not None:
            self._take(self._tracker.add(self._first[0]))
            self._first = None
        for change in self._tracker.flush():
            self._take(change)
        species = self._molecules.registry.species
        counts = np.zeros((len(self._tally.times), len(species)), dtype=np.int64)
        for row, count in zip(counts, self._tally.counts):
            row[: len(count)] = count
        charges, spreads = _mean_and_spread(self._tally.charge_sums, len(species))
        return SpeciesResult(
            list(species),
            np.array(self._tally.times),
            self._has_times,
            counts,
            charges,
            spreads,
            self._tally.reactions,
            self._tally.broken_bonds,
            self._initial_species,
            self._tally.volume / self._n_frames,
            self._tracker.delay,
        )


def _mean_and_spread(sums: np.ndarray, n_species: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of the sums [n, q, q²], nan where there is no charge."""
    padded = np.zeros((3, n_species))
    padded[:, : sums.shape[1]] = sums
    n = np.where(padded[0] > 0, padded[0], np.nan)
    mean = padded[1] / n
    return mean, np.sqrt(np.maximum(padded[2] / n - mean**2, 0.0))


def find_species(
    frames: Iterable[Frame],
    cutoffs: BondCutoffs | None = None,
    min_lifetime_fs: float = DEFAULT_LIFETIME_FS,
) -> SpeciesResult:
    """Run `SpeciesAnalysis` over frames and return its result."""
    analysis = SpeciesAnalysis(cutoffs, min_lifetime_fs)
    for frame in frames:
        analysis.add(frame)
    return analysis.result()
