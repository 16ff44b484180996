"""Profiles along the interface normal, thickness of the layers, roughness of the solid's surface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_masses, chemical_symbols
from scipy.ndimage import gaussian_filter1d

from qnep.analysis.bond_cutoffs import BondCutoffs
from qnep.analysis.frame import Frame
from qnep.analysis.materials import Material, MaterialSorter

GRAMS_PER_CM3 = 1.66053907  # of one u/Å³ (CODATA 2018 atomic mass constant)
SMOOTHING = 1.0  # Å, about half the distance of lattice planes
VACUUM_DENSITY = 0.2  # g/cm³, a quarter of that of light solvents


@dataclass(frozen=True)
class LayerProfiles:
    """Profiles along the normal, mean over frames.

    Parameters
    ----------
    z : (n_bins,) middles of the bins, Å, from the middle of the metal (or of the cell without metal): over the cell
        where it is periodic along the normal, else over the atoms.
    density : {material: (n_bins,) g/cm³}.
    composition : {element: (n_bins,) atoms per Å³}.
    charge : (n_bins,) e/Å³; None without charges.
    """

    z: np.ndarray
    density: dict[Material, np.ndarray]
    composition: dict[str, np.ndarray]
    charge: np.ndarray | None


@dataclass(frozen=True)
class LayerResult:
    """Layers through a trajectory.

    Parameters
    ----------
    times : (n_frames,) fs (or frame numbers).
    thickness : {material: (n_frames,) Å}.
    roughness : (n_frames,) Å; nan where there is no solid product.
    profiles : mean over the last ``n_last`` frames.
    """

    times: np.ndarray
    thickness: dict[Material, np.ndarray]
    roughness: np.ndarray
    profiles: LayerProfiles


class LayerAnalysis:
    """Layers of an interface, one frame at a time.

    The *thickness* of a material is the integral of its fraction of the mass density along the normal (smoothed
    by a Gaussian of 1 Å, so that lattice planes leave no gaps), over both sides of the metal in a periodic
    cell; so thicknesses add up to the length of the filled cell, and a molecule far out adds only its
    share. Where the density is below 0.2 g/cm³ there is vacuum. A cell that is open along the normal is taken
    as far as its atoms reach, beyond its vectors too. *Roughness* is the standard deviation, over columns of
    the given width that hold any, of the height of the highest atom of solid product on the upper side of
    the metal.

    Parameters
    ----------
    normal : axis (0, 1, 2) of the cell vector across the interface.
    bin_width, column_width : Å.
    n_last : frames over which profiles are averaged, counted from the end.
    """

    def __init__(
        self,
        normal: int = 2,
        cutoffs: BondCutoffs | None = None,
        bin_width: float = 1.0,
        column_width: float = 4.0,
        n_last: int = 20,
    ):
        if normal not in (0, 1, 2):
            raise ValueError(f"normal must be 0, 1 or 2, got {normal}")
        if not (bin_width > 0 and column_width > 0 and n_last > 0):
            raise ValueError("bin_width, column_width and n_last must be positive")
        self.normal, self.bin_width, self.column_width = normal, bin_width, column_width
        self.n_last = n_last
        self._sorter = MaterialSorter(cutoffs)
        self._times: list[float] = []
        self._thickness: list[np.ndarray] = []
        self._roughness: list[float] = []
        self._recent: list[LayerProfiles] = []
        self._is_periodic = True

    def add(self, frame: Frame) -> None:
        """Take the next frame.

        Raises
        ------
        ValueError : for a frame without a box.
        """
        if frame.volume <= 0:
            raise ValueError(f"frame {frame.index}: profiles need a box")
        material, _, _ = self._sorter.sort(frame)
        height = heights(frame, self.normal, material == Material.METAL)
        self._is_periodic = bool(frame.pbc[self.normal])
        edges = self._edges(frame, height)
        volumes = np.diff(edges) * area(frame, self.normal)
        profiles = _profiles(frame, height, material, edges, volumes)
        self._times.append(frame.time)
        self._thickness.append(_thicknesses(profiles, edges[1] - edges[0], self._is_periodic))
        self._roughness.append(self._rough(frame, height, material))
        self._recent = [*self._recent, profiles][-self.n_last :]

    def _edges(self, frame: Frame, height: np.ndarray) -> np.ndarray:
        """Return the edges of the bins: over the cell where it is periodic, else over the atoms."""
        if not self._is_periodic:
            first = np.floor(height.min() / self.bin_width)
            last = np.floor(height.max() / self.bin_width) + 1.0
            return self.bin_width * np.arange(first, last + 1.0)
        length = frame.volume / area(frame, self.normal)
        n_bins = max(1, round(length / self.bin_width))
        return np.linspace(-0.5 * length, 0.5 * length, n_bins + 1)

    def _rough(self, frame: Frame, height: np.ndarray, material: np.ndarray) -> float:
        """Return the roughness of one frame."""
        solid = np.isin(material, (Material.INORGANIC, Material.ORGANIC)) & (height > 0)
        if not solid.any():
            return float("nan")
        across = [k for k in range(3) if k != self.normal]
        scaled = np.linalg.solve(frame.cell.T, frame.positions[solid].T).T[:, across] % 1.0
        lengths = np.linalg.norm(frame.cell[across], axis=1)
        n_columns = np.maximum(1, np.rint(lengths / self.column_width)).astype(int)
        column = np.minimum((scaled * n_columns).astype(int), n_columns - 1)
        index = column[:, 0] * n_columns[1] + column[:, 1]
        top = np.full(n_columns.prod(), -np.inf)
        np.maximum.at(top, index, height[solid])
        return float(np.std(top[np.isfinite(top)]))

    def result(self) -> LayerResult:
        """Return what was found.

        Raises
        ------
        ValueError : where no frame was added.
        """
        if not self._times:
            raise ValueError("no frame was analysed")
        thickness = np.array(self._thickness)
        return LayerResult(
            np.array(self._times),
            {one: thickness[:, one] for one in Material},
            np.array(self._roughness),
            _mean_profiles(self._recent, self._is_periodic),
        )


def heights(frame: Frame, normal: int, reference: np.ndarray) -> np.ndarray:
    """Return the height of every atom along the normal of the plane of the other two cell vectors, Å.

    Zero is the middle of the reference atoms (a circular mean where the cell is periodic), or the
    middle of the cell without any; periodic heights lie within half the cell.
    """
    length = frame.volume / area(frame, normal)
    scaled = np.linalg.solve(frame.cell.T, frame.positions.T)[normal]
    if not frame.pbc[normal]:
        middle = scaled[reference].mean() if reference.any() else 0.5
        return (scaled - middle) * length
    phase = np.exp(2j * np.pi * scaled[reference]).mean() if reference.any() else -1.0
    middle = np.angle(phase) / (2 * np.pi)
    return ((scaled - middle + 0.5) % 1.0 - 0.5) * length


def area(frame: Frame, normal: int) -> float:
    """Return the area of the cell across the normal, Å²."""
    first, second = (frame.cell[k] for k in range(3) if k != normal)
    return float(np.linalg.norm(np.cross(first, second)))


def _profiles(
    frame: Frame, height: np.ndarray, material: np.ndarray, edges: np.ndarray, volumes: np.ndarray
) -> LayerProfiles:
    """Return the profiles of one frame over bins of the given edges (Å) and volumes (Å³)."""
    mass = atomic_masses[frame.numbers] * GRAMS_PER_CM3

    def histogram(weights: np.ndarray) -> np.ndarray:
        inside = np.clip(height, edges[0], edges[-1])  # rounding may put an atom just outside
        return np.histogram(inside, edges, weights=weights)[0] / volumes

    return LayerProfiles(
        0.5 * (edges[1:] + edges[:-1]),
        {one: histogram(mass * (material == one)) for one in Material},
        {
            chemical_symbols[z]: histogram((frame.numbers == z).astype(float))
            for z in np.unique(frame.numbers).tolist()
        },
        None if frame.charges is None else histogram(frame.charges),
    )


def _thicknesses(profiles: LayerProfiles, width: float, is_periodic: bool) -> np.ndarray:
    """Return the thickness of every material, [n_materials] Å."""
    densities = np.array([profiles.density[one] for one in Material])
    if not is_periodic:
        # room for what smoothing, which reaches four deviations, carries beyond the last atoms
        n_beyond = int(np.ceil(4 * SMOOTHING / width))
        densities = np.pad(densities, ((0, 0), (n_beyond, n_beyond)))
    densities = gaussian_filter1d(
        densities, SMOOTHING / width, axis=1, mode="wrap" if is_periodic else "constant"
    )
    total = densities.sum(axis=0)
    is_filled = total > VACUUM_DENSITY
    return width * (densities[:, is_filled] / total[is_filled]).sum(axis=1)


def _mean_profiles(profiles: Sequence[LayerProfiles], is_periodic: bool) -> LayerProfiles:
    """Return the mean of profiles.

    Periodic ones are put on the bins of the last one (a changing cell shifts bins a little). Open ones have bins in
    common, as far as each reaches; beyond, there is nothing.
    """
    last = profiles[-1]
    z = last.z if is_periodic else np.unique(np.concatenate([one.z for one in profiles]))
    outside = None if is_periodic else 0.0

    def mean(curves: list[np.ndarray]) -> np.ndarray:
        resampled = [
            np.interp(z, one.z, y, left=outside, right=outside) for one, y in zip(profiles, curves)
        ]
        return np.mean(resampled, axis=0)

    charges = [one.charge for one in profiles if one.charge is not None]
    return LayerProfiles(
        z,
        {kind: mean([one.density[kind] for one in profiles]) for kind in Material},
        {s: mean([one.composition[s] for one in profiles]) for s in last.composition},
        mean(charges) if len(charges) == len(profiles) else None,
    )
