"""Radial distribution, coordination, ion pairing and residence around a cation.

Definitions
-----------
A *cation* is an atom of its element that is not part of a metal; g(r), coordination, contacts and residence are
all around cations only. A *contact* is an atom within the form distance of the pair (`bond_cutoffs`;
`RadialDistribution.first_minimum` tells where the first shell ends in the trajectory). The *anion atoms* are those that
belong to an anion molecule (PF₆⁻, or a product such as F⁻); which molecules these are comes from the species of the
same frame, so that it holds while they react (a molecule without a known name is an anion where the model gives it a
charge below -0.4 e).

- SSIP (or free): the cation has no anion in contact.
- CIP: it has one anion in contact, and that anion touches no other cation.
- AGG: it has two or more anions in contact, or shares its anion with another cation.

The fractions are over all cations, and add up to 1. This is the usual sorting of electrolyte papers
(e.g. Seo et al., J. Electrochem. Soc. 159, A553 (2012), doi:10.1149/2.jes112264).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from ase.data import chemical_symbols

from qnep.analysis.bond_cutoffs import BondCutoffs, Kind
from qnep.analysis.bonds import RawBonds, is_member, neighbor_pairs, raw_bonds
from qnep.analysis.frame import Frame
from qnep.analysis.metals import is_metal, metallic_atoms
from qnep.analysis.molecules import MoleculeTracker

UNKNOWN_ANION_CHARGE = -0.4  # e, of the model; formal charges are not known for such molecules


@dataclass(frozen=True)
class RadialDistribution:
    """g(r) and the running coordination number of a pair of elements.

    Parameters
    ----------
    pair : symbols of the centre and of the neighbour.
    r : (n_bins,) middles of the bins, Å.
    edges : (n_bins + 1,) Å.
    g : (n_bins,).
    coordination : (n_bins,) neighbours of a centre within the upper edge of the bin.
    """

    pair: tuple[str, str]
    r: np.ndarray
    edges: np.ndarray
    g: np.ndarray
    coordination: np.ndarray

    def first_minimum(self) -> float:
        """Return the place of the first minimum behind the first peak, Å; nan where there is none.

        g is smoothed over five bins first, so that noise makes no minimum.
        """
        smooth = np.convolve(self.g, np.ones(5) / 5, mode="same")
        if smooth.max(initial=0.0) <= 1.0:
            return float("nan")
        peak = int(np.argmax(smooth))
        rising = np.flatnonzero(np.diff(smooth[peak:]) > 0)
        return float(self.r[peak + rising[0]]) if len(rising) else float("nan")


class RadialDistributions:
    """Accumulates g(r) of pairs of elements; cells may change from frame to frame.

    Parameters
    ----------
    pairs : (centre, neighbour) symbols.
    r_max : Å; images beyond half the cell count like any others.
    n_bins : between 0 and ``r_max``.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]], r_max: float = 8.0, n_bins: int = 160):
        if not (r_max > 0 and n_bins > 0):
            raise ValueError(f"r_max and n_bins must be positive, got {r_max:g} and {n_bins}")
        self.pairs = list(pairs)
        self.edges = np.linspace(0.0, r_max, n_bins + 1)
        self._counts = np.zeros((len(self.pairs), n_bins))
        self._ideal = np.zeros(len(self.pairs))  # sum over frames of n_centres * density
        self._n_centers = np.zeros(len(self.pairs))

    def add(self, frame: Frame, centers: np.ndarray | None = None) -> None:
        """Take the next frame.

        Parameters
        ----------
        centers : indices of the atoms that may be centres; all by default.

        Raises
        ------
        ValueError : for a frame without a box, which has no density.
        """
        if frame.volume <= 0:
            raise ValueError(f"frame {frame.index}: g(r) needs a box")
        may_be_center = np.full(frame.n_atoms, centers is None)
        if centers is not None:
            may_be_center[centers] = True
        for k, (first, second) in enumerate(self.pairs):
            is_center = frame.is_element(first) & may_be_center
            is_second = frame.is_element(second)
            atoms = np.flatnonzero(is_center | is_second)
            i, j, distance = neighbor_pairs(frame, float(self.edges[-1]), atoms)
            weight = is_center[i] & is_second[j]
            weight = weight.astype(float) + (is_center[j] & is_second[i])
            self._counts[k] += np.histogram(distance, self.edges, weights=weight)[0]
            n_others = is_second.sum() - (first == second)
            self._ideal[k] += is_center.sum() * n_others / frame.volume
            self._n_centers[k] += is_center.sum()

    def result(self) -> list[RadialDistribution]:
        """Return one distribution for each pair (zeros where an element is absent)."""
        shells = 4.0 / 3.0 * np.pi * np.diff(self.edges**3)
        r = 0.5 * (self.edges[1:] + self.edges[:-1])
        found = []
        for pair, counts, ideal, n in zip(self.pairs, self._counts, self._ideal, self._n_centers):
            g = counts / (shells * ideal) if ideal > 0 else np.zeros_like(r)
            coordination = np.cumsum(counts) / n if n > 0 else np.zeros_like(r)
            found.append(RadialDistribution(pair, r, self.edges, g, coordination))
        return found


@dataclass(frozen=True)
class SolvationShells:
    """Ion pairing of one frame.

    Parameters
    ----------
    n_cations : number of cations (atoms in a metal are none).
    n_ssip, n_cip, n_agg : of them.
    coordination : {element: neighbours in contact per cation}.
    """

    n_cations: int
    n_ssip: int
    n_cip: int
    n_agg: int
    coordination: dict[str, float]

    @property
    def fractions(self) -> tuple[float, float, float]:
        """Fractions of SSIP, CIP and AGG; nan without a cation."""
        n = self.n_cations or float("nan")
        return self.n_ssip / n, self.n_cip / n, self.n_agg / n


def classify_cations(
    cations: np.ndarray, contacts: tuple[np.ndarray, np.ndarray], anion_of_atom: np.ndarray
) -> tuple[int, int, int]:
    """Return the numbers of SSIP, CIP and AGG cations.

    Parameters
    ----------
    cations : indices.
    contacts : (cation, other atom) index arrays.
    anion_of_atom : (n_atoms,) a number for every anion molecule, -1 for other atoms.
    """
    cation, other = contacts
    anion = anion_of_atom[other]
    links = np.unique(np.column_stack((cation[anion >= 0], anion[anion >= 0])), axis=0)
    size = max(len(anion_of_atom), int(anion_of_atom.max(initial=-1)) + 1)
    n_anions = np.bincount(links[:, 0], minlength=size)
    n_cations = np.bincount(links[:, 1], minlength=size)
    shares = np.zeros(size, dtype=bool)
    shares[links[n_cations[links[:, 1]] > 1, 0]] = True
    number = n_anions[cations]
    is_agg = (number > 1) | shares[cations]
    n_ssip, n_agg = int((number == 0).sum()), int(is_agg.sum())
    return n_ssip, len(cations) - n_ssip - n_agg, n_agg


@dataclass(frozen=True)
class SolvationResult:
    """Solvation of a cation through a trajectory.

    Parameters
    ----------
    cation : symbol.
    times : (n_frames,) fs (or frame numbers).
    shells : ion pairing of every frame.
    distributions : g(r) around the cations.
    residence : {element: residence time of its contacts, fs}; nan where no decay was seen.
    survival : {element: (n_lags,) fraction of contacts that are still there after so many frames}.
    """

    cation: str
    times: np.ndarray
    shells: list[SolvationShells]
    distributions: list[RadialDistribution]
    residence: dict[str, float]
    survival: dict[str, np.ndarray]


@dataclass
class _Survival:
    """Contacts of the last frames, and how many survive how long."""

    n_lags: int
    history: list[np.ndarray] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    surviving: np.ndarray = field(init=False)
    started: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.surviving, self.started = np.zeros(self.n_lags), np.zeros(self.n_lags)

    def add(self, keys: np.ndarray) -> None:
        """Take the contacts of the next frame, as sorted keys.

        ``history[k]`` holds those of the k-th frame back that have been there ever since.
        """
        self.history = [old[is_member(old, keys)] for old in self.history[: self.n_lags - 1]]
        self.history.insert(0, keys)
        self.sizes = [len(keys), *self.sizes[: self.n_lags - 1]]
        for lag, (alive, size) in enumerate(zip(self.history, self.sizes)):
            self.surviving[lag] += len(alive)
            self.started[lag] += size

    def curve(self) -> np.ndarray:
        """Return the surviving fraction by lag, nan where never seen."""
        return self.surviving / np.where(self.started > 0, self.started, np.nan)


class SolvationAnalysis:
    """Solvation of a cation, one frame at a time; works while molecules react.

    Parameters
    ----------
    cation : symbol of the cation.
    neighbors : elements whose g(r) and residence are wanted.
    cutoffs : contact distances (form for contact, break for the end of a residence).
    r_max, n_bins : of g(r).
    n_lags : frames over which residence is followed. The residence time is the time in which the
        fraction of contacts that were never broken falls to 1/e, by a fit of its logarithm.
    """

    def __init__(
        self,
        cation: str = "Na",
        neighbors: Sequence[str] = ("O", "F"),
        cutoffs: BondCutoffs | None = None,
        r_max: float = 8.0,
        n_bins: int = 160,
        n_lags: int = 50,
    ):
        self.cation, self.neighbors = cation, list(neighbors)
        self.cutoffs = cutoffs or BondCutoffs()
        self._distributions = RadialDistributions([(cation, n) for n in neighbors], r_max, n_bins)
        self._shells: list[SolvationShells] = []
        self._times: list[float] = []
        self._survival = {element: _Survival(n_lags) for element in neighbors}
        self._contacts: dict[str, np.ndarray] = {}

    def add(self, frame: Frame) -> None:
        """Take the next frame."""
        self._times.append(frame.time)
        cations = self._cations(frame)
        self._distributions.add(frame, cations)
        contact = self.cutoffs.table(frame.numbers, [Kind.CONTACT])
        pairs = neighbor_pairs(frame, contact.cutoff)
        raw = raw_bonds(frame.numbers, pairs, contact)
        self._shells.append(self._classify(frame, cations, raw.near))
        for element in self.neighbors:
            self._follow(frame, cations, element, raw)

    def _cations(self, frame: Frame) -> np.ndarray:
        """Return the atoms of the cation's element that are not part of a metal."""
        atoms = np.flatnonzero(frame.is_element(self.cation))
        return np.setdiff1d(atoms, metallic_atoms(frame, self.cutoffs))

    def _classify(self, frame: Frame, cations: np.ndarray, near: np.ndarray) -> SolvationShells:
        first, second = np.divmod(near, frame.n_atoms)
        is_cation = np.zeros(frame.n_atoms, dtype=bool)
        is_cation[cations] = True
        center = np.concatenate((first, second))
        other = np.concatenate((second, first))
        keep = is_cation[center] & ~is_metal(frame.numbers)[other]
        center, other = center[keep], other[keep]
        numbers = classify_cations(cations, (center, other), self._anions(frame))
        symbols, counts = np.unique(frame.numbers[other], return_counts=True)
        coordination = {
            chemical_symbols[z]: n / max(1, len(cations))
            for z, n in zip(symbols.tolist(), counts.tolist())
        }
        return SolvationShells(len(cations), *numbers, coordination)

    def _anions(self, frame: Frame) -> np.ndarray:
        """Return the molecule of every atom of an anion, -1 for the others, [n_atoms]."""
        table = self.cutoffs.table(frame.numbers, [Kind.COVALENT])
        pairs = neighbor_pairs(frame, table.cutoff)
        tracker = MoleculeTracker(frame.numbers)
        tracker.start(raw_bonds(frame.numbers, pairs, table).near)
        known = [one.known for one in tracker.registry.species]
        is_anion = np.array([one is not None and one.charge < 0 for one in known])
        is_in_anion = is_anion[tracker.species]
        if frame.charges is not None:
            charge = np.bincount(tracker.root, weights=frame.charges, minlength=frame.n_atoms)
            is_unknown = np.array([one is None for one in known])[tracker.species]
            is_in_anion |= is_unknown & (charge[tracker.root] < UNKNOWN_ANION_CHARGE)
        return np.where(is_in_anion, tracker.root, -1)

    def _follow(self, frame: Frame, cations: np.ndarray, element: str, raw: RawBonds) -> None:
        """Carry the contacts of cations with one element on, with hysteresis.

        A contact also ends where its cation becomes part of a metal.
        """
        is_cation = np.zeros(frame.n_atoms, dtype=bool)
        is_cation[cations] = True
        of_pair = is_cation, frame.is_element(element)

        def only(keys: np.ndarray) -> np.ndarray:
            i, j = np.divmod(keys, frame.n_atoms)
            return keys[(of_pair[0][i] & of_pair[1][j]) | (of_pair[0][j] & of_pair[1][i])]

        before = self._contacts.get(element, np.empty(0, dtype=np.int64))
        kept = before[is_member(before, raw.far)]
        self._contacts[element] = only(np.union1d(kept, raw.near))
        self._survival[element].add(self._contacts[element])

    def result(self) -> SolvationResult:
        """Return what was found."""
        times = np.array(self._times)
        interval = float(np.median(np.diff(times))) if len(times) > 1 else float("nan")
        survival = {e: one.curve()[: len(times)] for e, one in self._survival.items()}
        residence = {e: residence_time(curve, interval) for e, curve in survival.items()}
        return SolvationResult(
            self.cation, times, self._shells, self._distributions.result(), residence, survival
        )


def residence_time(survival: np.ndarray, interval: float) -> float:
    """Return the decay time of a survival curve, in the unit of the interval between its points.

    Least squares of log S(t) = -t / tau through the origin, while S stays above 0.05; nan where nothing
    decays.
    """
    lag = np.arange(len(survival))
    use = np.isfinite(survival) & (survival > 0.05) & (lag > 0)
    if not use.any():
        return float("nan")
    slope = (lag[use] * np.log(survival[use])).sum() / (lag[use] ** 2).sum()
    return float(-interval / slope) if slope < 0 else float("nan")
