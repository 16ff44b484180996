"""Surface energies of facets with any ASE calculator, the Wulff shape, and how like it a crystal is."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import surface
from ase.calculators.calculator import Calculator
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from scipy.spatial import ConvexHull, cKDTree

from qnep._optional import require

logger = logging.getLogger(__name__)

JOULES_PER_M2 = 16.02176634  # of one eV/Å²
CONVERGED = 0.1  # largest change of a surface energy by the last thickness, relative
FORMAL_CHARGES = {
    "Li": 1, "Na": 1, "K": 1, "Rb": 1, "Cs": 1, "Mg": 2, "Ca": 2, "Sr": 2, "Ba": 2, "H": -1, "F": -1,
    "Cl": -1, "Br": -1, "I": -1, "O": -2, "S": -2, "Se": -2, "Te": -2, "N": -3, "P": -3,
}  # fmt: skip
# Wigner-Seitz cells around the atoms of a lattice (ions of rocksalt all alike): atoms in the cube that bounds the cell,
# and where its corners are cut, as the largest sum of |x|, |y|, |z| in half edges of the cube (3: not at all)
_CELLS = {"rocksalt": (1, 3.0), "bcc": (2, 1.5)}
_PLANE_TOLERANCE = 0.1  # Å: atoms nearer than this along the normal are one plane

Miller = tuple[int, int, int]


class PolarFacetError(ValueError):
    """A facet has no termination without a dipole (Tasker's type III), so no surface energy of its own."""


@dataclass(frozen=True)
class SurfaceEnergy:
    """The surface energy of a facet and how it converged with the slab's thickness.

    Parameters
    ----------
    miller : indices of the facet in the conventional cell.
    energy : eV/Å², from the thickest two slabs.
    thicknesses : (n,) Å.
    energies : (n - 1,) eV/Å², from each slab and the next.
    n_atoms : (n,) atoms of the slabs.
    """

    miller: Miller
    energy: float
    thicknesses: np.ndarray
    energies: np.ndarray
    n_atoms: np.ndarray

    @property
    def convergence(self) -> float:
        """Change of the energy with the last slab, eV/Å²; nan for two slabs."""
        return float(self.energies[-1] - self.energies[-2]) if len(self.energies) > 1 else np.nan

    @property
    def energy_J_per_m2(self) -> float:
        """Energy in J/m²."""
        return self.energy * JOULES_PER_M2


def facet_name(miller: Miller) -> str:
    """Return "(1-10)" of (1, -1, 0)."""
    return "(" + "".join(map(str, miller)) + ")"


def formal_charges(atoms: Atoms) -> np.ndarray | None:
    """Return formal charges [n_atoms], e, if elements with known ones make the crystal neutral; else None.

    Of an element crystal they are zero.
    """
    if len(set(atoms.symbols)) == 1:
        return np.zeros(len(atoms))
    if not set(atoms.symbols) <= set(FORMAL_CHARGES):
        return None
    charges = np.array([FORMAL_CHARGES[symbol] for symbol in atoms.symbols], dtype=float)
    return charges if abs(charges.sum()) < 1e-9 else None


def nonpolar_cell(bulk: Atoms, miller: Miller) -> Atoms:
    """Return a cell of the bulk that lies on the facet and whose stack has no dipole.

    The stack of planes is cut at each of its gaps in turn, the widest first, until the formal charges of the
    planes have no dipole moment along the normal.

    Raises
    ------
    PolarFacetError : where every cut leaves a dipole, as for rocksalt (111).
    ValueError : where formal charges are needed but not known.
    """
    oriented = surface(bulk, miller, 1, periodic=True)
    oriented.wrap()
    charges = formal_charges(oriented)
    if charges is None:
        raise ValueError(
            f"formal charges of {bulk.get_chemical_formula()} are not known, so it cannot be told "
            "whether a facet is polar"
        )
    height = oriented.cell.cellpar()[2] * abs(_unit_normal(oriented) @ _unit(oriented.cell[2]))
    z = oriented.positions @ _unit_normal(oriented)
    for bottom in _cuts(oriented, z, height):
        shifted = (z - bottom + _PLANE_TOLERANCE) % height
        if abs(charges @ shifted) < 1e-6 * max(1.0, np.abs(charges).sum()):
            return _shift_cut(oriented, bottom, height)
    raise PolarFacetError(
        f"{facet_name(miller)} of {bulk.get_chemical_formula()} is polar: every termination has a "
        "dipole that grows with the slab (Tasker type III), so without a reconstruction or "
        "adsorbates it has no finite surface energy; leave it out"
    )


def _cuts(oriented: Atoms, z: np.ndarray, height: float) -> list[float]:
    """Return the heights of the planes above the gaps between planes, the widest gap first."""
    heights = np.sort(z % height)
    gaps = heights - np.roll(heights, 1)
    gaps[0] += height
    is_plane = gaps > _PLANE_TOLERANCE
    levels, gaps = heights[is_plane], gaps[is_plane]
    return levels[np.argsort(-np.round(gaps, 6), kind="stable")].tolist()


def _miller(indices: Sequence[int]) -> Miller:
    h, k, l = (int(index) for index in indices)
    return h, k, l


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _unit_normal(atoms: Atoms) -> np.ndarray:
    return _unit(np.cross(atoms.cell[0], atoms.cell[1]))


def _shift_cut(oriented: Atoms, bottom: float, height: float) -> Atoms:
    """Move the periodic stack so that the plane at ``bottom`` is its lowest."""
    atoms = oriented.copy()
    atoms.positions += (_PLANE_TOLERANCE - bottom) / height * atoms.cell[2]
    atoms.wrap()
    return atoms


def make_slab(cell: Atoms, n_repeats: int, vacuum: float) -> Atoms:
    """Return a slab of so many cells with vacuum (Å) on top, its normal along z."""
    slab = cell.repeat((1, 1, n_repeats))
    normal = _unit_normal(slab)
    slab.cell[2] = normal * ((slab.cell[2] @ normal) + vacuum)
    slab.rotate(normal, "z", rotate_cell=True)
    slab.pbc = True
    return slab


def relax_bulk(bulk: Atoms, calculator: Calculator, fmax: float = 0.01, steps: int = 300) -> Atoms:
    """Return the bulk with cell and positions relaxed; symmetric cells stay so."""
    atoms = bulk.copy()
    atoms.calc = calculator
    _run(FIRE(FrechetCellFilter(atoms), logfile=None), fmax, steps, "bulk")
    relaxed = atoms.copy()
    relaxed.calc = None
    return relaxed


def _run(optimizer: Any, fmax: float, steps: int, what: str) -> None:
    if not optimizer.run(fmax=fmax, steps=steps):
        logger.warning("%s: forces not below %g eV/Å after %d steps", what, fmax, steps)


def surface_energy(
    bulk: Atoms,
    miller: Miller,
    calculator: Calculator,
    thicknesses: Sequence[float] = (8.0, 14.0, 20.0),
    vacuum: float = 12.0,
    relax: bool = True,
    fmax: float = 0.02,
) -> SurfaceEnergy:
    """Return the surface energy of a facet from slabs of growing thickness.

    The energy of slabs of n atoms is fitted as E = 2 A gamma + n e between each slab and the next, so
    that the bulk energy comes from the slabs themselves and does not make gamma drift with thickness.

    Parameters
    ----------
    bulk : conventional cell, relaxed with the same calculator.
    thicknesses : least thicknesses of the slabs, Å, at least two.
    vacuum : Å.
    relax : relax the atoms of the slabs in their cells, until forces are below ``fmax``, eV/Å.

    Raises
    ------
    PolarFacetError, ValueError : see `nonpolar_cell`.

    References
    ----------
    Fiorentini and Methfessel, J. Phys.: Condens. Matter 8, 6525 (1996), doi:10.1088/0953-8984/8/36/005
    """
    if len(thicknesses) < 2:
        raise ValueError(f"at least two slab thicknesses are needed, got {len(thicknesses)}")
    cell = nonpolar_cell(bulk, miller)
    spacing = cell.get_volume() / np.linalg.norm(np.cross(cell.cell[0], cell.cell[1]))
    repeats = sorted({max(1, int(np.ceil(t / spacing))) for t in thicknesses})
    while len(repeats) < len(thicknesses):
        repeats.append(repeats[-1] + 1)
    slabs = [make_slab(cell, n, vacuum) for n in repeats]
    energies = [_energy(slab, calculator, relax, fmax, facet_name(miller)) for slab in slabs]
    n_atoms = np.array([len(slab) for slab in slabs])
    area = np.linalg.norm(np.cross(slabs[0].cell[0], slabs[0].cell[1]))
    per_atom = np.diff(energies) / np.diff(n_atoms)
    gamma = (np.array(energies[1:]) - n_atoms[1:] * per_atom) / (2 * area)
    return SurfaceEnergy(miller, float(gamma[-1]), np.array(repeats) * spacing, gamma, n_atoms)


def _energy(slab: Atoms, calculator: Calculator, relax: bool, fmax: float, name: str) -> float:
    atoms = slab.copy()
    atoms.calc = calculator
    if relax:
        _run(FIRE(atoms, logfile=None), fmax, 300, f"{name}, {len(slab)} atoms")
    return atoms.get_potential_energy()


@dataclass(frozen=True)
class SurfaceEnergies:
    """Surface energies of the facets of a crystal.

    Parameters
    ----------
    energies : {facet: surface energy}.
    refused : {facet: why it has no energy}.
    bulk : conventional cell, relaxed.
    """

    energies: dict[Miller, SurfaceEnergy]
    refused: dict[Miller, str]
    bulk: Atoms

    def wulff(self) -> WulffResult:
        """Return the energies with the shape that follows.

        Raises
        ------
        ValueError : where no facet has an energy, or one is not positive.
        """
        energies = {m: one.energy for m, one in self.energies.items()}
        shape = WulffShape.from_energies(energies, self.bulk)
        return WulffResult(self.energies, self.refused, self.bulk, shape)


@dataclass(frozen=True)
class WulffResult(SurfaceEnergies):
    """Surface energies and the shape that follows.

    Parameters
    ----------
    shape : the shape.
    """

    shape: WulffShape

    @property
    def lowest(self) -> Miller:
        """The facet of lowest energy."""
        return min(self.energies, key=lambda miller: self.energies[miller].energy)


def wulff(
    bulk: Atoms, facets: Sequence[Miller], calculator: Calculator, **settings: Any
) -> WulffResult:
    """Compute surface energies and the Wulff shape: `surface_energies` and `SurfaceEnergies.wulff` in one."""
    return surface_energies(bulk, facets, calculator, **settings).wulff()


def surface_energies(
    bulk: Atoms,
    facets: Sequence[Miller],
    calculator: Calculator,
    report: Callable[[str], None] = logger.info,
    **settings: Any,
) -> SurfaceEnergies:
    """Compute the surface energies of facets.

    Parameters
    ----------
    bulk : conventional cell; relaxed first with the calculator.
    facets : Miller indices; symmetric ones need not be given. Polar ones are refused.
    report : told of each step.
    settings : of `surface_energy`.

    Raises
    ------
    ValueError : see `surface_energy`.
    """
    relaxed = relax_bulk(bulk, calculator)
    report(f"bulk relaxed: a = {relaxed.cell.cellpar()[0]:.4f} Å")
    energies: dict[Miller, SurfaceEnergy] = {}
    refused: dict[Miller, str] = {}
    for miller in facets:
        try:
            energies[miller] = surface_energy(relaxed, miller, calculator, **settings)
        except PolarFacetError as polar:
            refused[miller] = str(polar)
            report(str(polar))
            continue
        one = energies[miller]
        change = one.convergence * JOULES_PER_M2
        report(
            f"{facet_name(miller)}: {one.energy_J_per_m2:.4f} J/m² "
            + (
                "(two slabs do not show whether it has converged)"
                if np.isnan(change)
                else f"(last thickness changed it by {change:+.4f})"
            )
        )
        if abs(one.convergence) > CONVERGED * abs(one.energy):
            report(
                f"{facet_name(miller)} IS NOT CONVERGED: slabs of different thickness disagree by more than "
                f"{CONVERGED:.0%}. Look at slab_convergence.csv; give more or thicker slabs, leave the facet out, or "
                "doubt the potential"
            )
    return SurfaceEnergies(energies, refused, relaxed)


@dataclass(frozen=True)
class WulffShape:
    """A Wulff polyhedron around the origin.

    Parameters
    ----------
    normals : (n_facets, 3) outward unit vectors, in the axes of the conventional cell.
    distances : (n_facets,) from the centre, for unit volume.
    families : (n_facets,) Miller indices of each facet's form.
    area_fractions : {form: its part of the surface}; forms that do not show are absent.
    particle : WulffPack's particle, for pictures and atomic models.
    """

    normals: np.ndarray
    distances: np.ndarray
    families: list[Miller]
    area_fractions: dict[Miller, float]
    particle: Any

    @classmethod
    def from_energies(cls, energies: Mapping[Miller, float], bulk: Atoms) -> WulffShape:
        """Build the shape of surface energies (any unit) with WulffPack.

        Raises
        ------
        ValueError : without energies, or with one that is not positive.
        """
        if not energies:
            raise ValueError("a Wulff shape needs at least one facet with an energy")
        bad = {facet_name(m): e for m, e in energies.items() if not e > 0}
        if bad:
            raise ValueError(f"surface energies must be positive, got {bad}")
        wulffpack = require("wulffpack", extra="analysis")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # spglib's, about its own future
            particle = wulffpack.SingleCrystal(dict(energies), bulk, natoms=1000)
        scale = particle.volume ** (-1 / 3)
        facets = [(f, form.miller_indices) for form in particle.forms for f in form.facets]
        return cls(
            np.array([facet.normal for facet, _ in facets]),
            np.array([facet.distance_from_origin * scale for facet, _ in facets]),
            [_miller(miller) for _, miller in facets],
            {_miller(m): float(x) for m, x in particle.facet_fractions.items() if x > 1e-9},
            particle,
        )

    def contains(self, points: np.ndarray, volume: float) -> np.ndarray:
        """Return which points [n, 3] (in the axes of the shape) lie in the shape of this volume."""
        limits = self.distances * volume ** (1 / 3)
        return (points @ self.normals.T <= limits + 1e-9).all(axis=1)


@dataclass(frozen=True)
class ShapeComparison:
    """How like a Wulff shape a crystal is.

    Parameters
    ----------
    overlap : volume common to both over the volume of either, 0 to 1, with shapes of equal volume put
        centre on centre and the crystal's axes along the shape's.
    facet_alignment : part of the crystal's convex surface whose normal is within the given angle
        of a facet of the shape.
    by_facet : {form: that part, by form}.
    """

    overlap: float
    facet_alignment: float
    by_facet: dict[Miller, float]


def compare_with_shape(
    positions: np.ndarray,
    axes: np.ndarray,
    volume_per_atom: float,
    shape: WulffShape,
    angle_degrees: float = 15.0,
    n_samples: int = 20000,
    seed: int = 0,
    kind: str = "rocksalt",
) -> ShapeComparison:
    """Compare a crystal found in a trajectory with a Wulff shape.

    The crystal's body is all points in the Wigner-Seitz cell of one of its atoms, so that it fills space: a cube for
    rocksalt, a truncated octahedron for bcc. Points are sampled at random.

    Parameters
    ----------
    positions : (n_atoms, 3) Å, whole (not cut by the cell).
    axes : (3, 3) the crystal's cube axes as rows (`Nucleus.axes`).
    volume_per_atom : Å³.
    angle_degrees : within which a piece of surface counts as aligned.
    n_samples : random points.
    kind : of the crystal's lattice, "rocksalt" or "bcc".

    Raises
    ------
    ValueError : for fewer than 8 atoms or atoms in one plane, or another kind of lattice.
    """
    if kind not in _CELLS:
        raise ValueError(f"lattice must be rocksalt or bcc, got {kind!r}")
    if len(positions) < 8:
        raise ValueError(f"a shape needs at least 8 atoms, got {len(positions)}")
    local = (positions - positions.mean(axis=0)) @ axes.T
    if np.linalg.matrix_rank(local, tol=0.1) < 3:
        raise ValueError("the atoms lie in one plane: no shape to compare")
    volume = len(positions) * volume_per_atom
    n_in_cube, cut = _CELLS[kind]
    half = 0.5 * (n_in_cube * volume_per_atom) ** (1 / 3)
    reach = max(np.abs(local).max() + half, 2.0 * shape.distances.max() * volume ** (1 / 3))
    samples = np.random.default_rng(seed).uniform(-reach, reach, (n_samples, 3))
    _, nearest = cKDTree(local).query(samples, k=8)  # as many cells meet at a corner at most
    away = np.abs(samples[:, None, :] - local[nearest])  # [n_samples, 8, 3]
    in_cell = (away.max(axis=2) <= half) & (away.sum(axis=2) <= cut * half)
    in_crystal = in_cell.any(axis=1)
    in_shape = shape.contains(samples, volume)
    overlap = (in_crystal & in_shape).sum() / max(1, (in_crystal | in_shape).sum())
    by_facet = _aligned_area(local, shape, angle_degrees)
    return ShapeComparison(float(overlap), float(sum(by_facet.values())), by_facet)


def _aligned_area(
    local: np.ndarray, shape: WulffShape, angle_degrees: float
) -> dict[Miller, float]:
    """Return the part of the convex hull's area along each form of the shape."""
    hull = ConvexHull(local)
    corners = local[hull.simplices]
    crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = 0.5 * np.linalg.norm(crosses, axis=1)
    cosines = hull.equations[:, :3] @ shape.normals.T
    nearest = cosines.argmax(axis=1)
    aligned = cosines.max(axis=1) >= np.cos(np.radians(angle_degrees))
    parts: dict[Miller, float] = dict.fromkeys(shape.families, 0.0)
    for facet, part in zip(nearest[aligned], areas[aligned] / areas.sum()):
        parts[shape.families[facet]] += float(part)
    return parts
