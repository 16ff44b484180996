"""Crystals in a trajectory: how much, where, how large, how turned, and how they sit on their ground.

The heart is polyhedral template matching by OVITO (Larsen et al., Modelling Simul. Mater. Sci. Eng.
24, 055007 (2016)). For rocksalt it looks at each ion's own sublattice, which is fcc, and then at the other ions:
they must lie on the lattice that the match predicts. That tells NaF from bcc Na, from Na2O, and from
amorphous NaF. Ions at a surface, which miss neighbours, are taken in where they lie on the sites that
crystalline neighbours predict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components
from scipy.spatial.transform import Rotation

from qnep._optional import require
from qnep.analysis.bond_cutoffs import BondCutoffs, Kind
from qnep.analysis.bonds import neighbor_pairs
from qnep.analysis.frame import Frame
from qnep.analysis.metals import metallic_atoms

RMSD_CUTOFF = 0.15  # of the template match; OVITO's manual advises 0.1 to 0.15 for hot crystals
SITE_TOLERANCE = 0.30  # of the nearest distance in the crystal: farther off is not on the site
SMALLEST_NUCLEUS = 8  # atoms with a full template; fewer are chance
_FCC, _BCC = 1, 3  # OVITO's structure types
_CUBIC = Rotation.create_group("O")


@dataclass(frozen=True)
class Lattice:
    """A kind of crystal.

    Parameters
    ----------
    name : to call it by.
    kind : "rocksalt" (two elements) or "bcc" (one).
    elements : symbols.

    Raises
    ------
    ValueError : for another kind, or another number of elements.
    """

    name: str
    kind: str
    elements: tuple[str, ...]

    def __post_init__(self) -> None:
        wanted = {"rocksalt": 2, "bcc": 1}
        if self.kind not in wanted:
            raise ValueError(f"lattice must be rocksalt or bcc, got {self.kind!r}")
        if len(self.elements) != wanted[self.kind]:
            raise ValueError(
                f"{self.kind} has {wanted[self.kind]} element(s), got {', '.join(self.elements)}"
            )

    @classmethod
    def parse(cls, text: str) -> Lattice:
        """Return the lattice of "rocksalt:Na,F" or "bcc:Na"."""
        kind, _, elements = text.partition(":")
        symbols = tuple(filter(None, elements.split(",")))
        return cls("".join(symbols), kind, symbols)


NAF = Lattice("NaF", "rocksalt", ("Na", "F"))
SODIUM = Lattice("Na", "bcc", ("Na",))


@dataclass(frozen=True)
class Nucleus:
    """One crystal.

    Parameters
    ----------
    atoms : indices.
    positions : (size, 3) of these atoms, Å, whole: not cut by the cell.
    center : mean position, Å, inside the cell.
    axes : (3, 3) directions of the cube axes as rows.
    orientation_spread : mean angle between its atoms' lattices and the axes, degrees; large for
        grains grown together.
    height : extent along the normal, Å.
    base_radius : of the disc of equal spread as the lowest quarter, Å.
    contact_angle : degrees, of the spherical cap of this height and base.
    sphericity : smallest over largest principal radius.
    """

    atoms: np.ndarray
    positions: np.ndarray
    center: np.ndarray
    axes: np.ndarray
    orientation_spread: float
    height: float
    base_radius: float
    contact_angle: float
    sphericity: float

    @property
    def size(self) -> int:
        """Number of atoms."""
        return len(self.atoms)


@dataclass(frozen=True)
class CrystalState:
    """The crystals of one frame.

    Parameters
    ----------
    time : fs (or frame number).
    n_atoms : atoms of the lattice's elements that could belong to it: for rocksalt anions
        without a covalent bond, and as many cations; for bcc the atoms of the metal.
    fraction : crystalline part of them.
    n_amorphous : rocksalt only: anions with at least three cations in contact, not crystalline.
    nuclei : the largest first.
    """

    time: float
    n_atoms: int
    fraction: float
    n_amorphous: int
    nuclei: list[Nucleus]

    @property
    def crystalline(self) -> np.ndarray:
        """Indices of all crystalline atoms."""
        return np.concatenate([np.empty(0, dtype=np.int64), *(one.atoms for one in self.nuclei)])

    @property
    def largest(self) -> int:
        """Number of atoms of the largest crystal; 0 without any."""
        return self.nuclei[0].size if self.nuclei else 0


@dataclass
class CrystalHistory:
    """Crystals of one kind against time. Only of the last frame it knows which atoms they hold.

    Parameters
    ----------
    times : of the frames, fs (or frame numbers).
    n_atoms, fraction, n_amorphous, largest : as in `CrystalState`, one for each frame.
    last : the crystals of the last frame; None before the first.
    """

    times: list[float] = field(default_factory=list)
    n_atoms: list[int] = field(default_factory=list)
    fraction: list[float] = field(default_factory=list)
    n_amorphous: list[int] = field(default_factory=list)
    largest: list[int] = field(default_factory=list)
    last: CrystalState | None = None

    def add(self, state: CrystalState) -> None:
        """Take the crystals of the next frame."""
        self.times.append(state.time)
        for name in ("n_atoms", "fraction", "n_amorphous", "largest"):
            getattr(self, name).append(getattr(state, name))
        self.last = state


@dataclass(frozen=True)
class _Match:
    """Template matches [n_atoms]: is it one, rotation (as quaternion), nearest distance of its lattice."""

    is_core: np.ndarray
    quaternions: np.ndarray
    spacing: np.ndarray


def match_templates(frame: Frame, atoms: np.ndarray, structure: int) -> _Match:
    """Match the neighbourhoods of some atoms, taken by themselves, with a structure type of OVITO.

    Returns
    -------
    For all atoms of the frame; ``spacing`` is the distance of nearest neighbours, Å.
    """
    data = require("ovito.data", extra="analysis")
    modifiers = require("ovito.modifiers", extra="analysis")
    n = frame.n_atoms
    match = _Match(np.zeros(n, dtype=bool), np.tile([0.0, 0.0, 0.0, 1.0], (n, 1)), np.zeros(n))
    if len(atoms) < SMALLEST_NUCLEUS:
        return match
    collection = data.DataCollection()
    cell = np.zeros((3, 4))
    cell[:, :3] = frame.cell.T
    if frame.volume > 0:
        collection.create_cell(cell, pbc=tuple(bool(p) for p in frame.pbc))
    collection.create_particles(count=len(atoms))
    collection.particles_.create_property("Position", data=frame.positions[atoms])
    collection.apply(
        modifiers.PolyhedralTemplateMatchingModifier(
            rmsd_cutoff=RMSD_CUTOFF, output_orientation=True, output_interatomic_distance=True
        )
    )
    particles = collection.particles
    match.is_core[atoms] = particles["Structure Type"][...] == structure
    match.quaternions[atoms] = particles["Orientation"][...]
    match.spacing[atoms] = particles["Interatomic Distance"][...]
    return match


def find_crystals(
    frame: Frame, lattice: Lattice, normal: int = 2, cutoffs: BondCutoffs | None = None
) -> CrystalState:
    """Find the crystals of one kind in a frame.

    Parameters
    ----------
    normal : axis (0, 1, 2) along which height and contact shape are measured.
    cutoffs : bond distances, by which ions and metal are told apart.

    Limits: crystals of fewer than `SMALLEST_NUCLEUS` fully surrounded atoms are not seen, and
    beyond about a tenth of the distance of nearest neighbours of thermal motion the match gets lost.
    """
    cutoffs = cutoffs or BondCutoffs()
    if lattice.kind == "rocksalt":
        return _find_rocksalt(frame, lattice, normal, cutoffs)
    return _find_bcc(frame, lattice, normal, cutoffs)


def _find_bcc(frame: Frame, lattice: Lattice, normal: int, cutoffs: BondCutoffs) -> CrystalState:
    atoms = metallic_atoms(frame, cutoffs)
    atoms = atoms[frame.is_element(*lattice.elements)[atoms]]
    match = match_templates(frame, atoms, _BCC)
    half_edge = match.spacing / np.sqrt(3.0)
    pairs = _core_pairs(frame, match, atoms, half_edge, reach=2.0 * 1.25)
    site, is_site = _bcc_sites(pairs.local)
    members, links = _crystal_atoms(frame, match, pairs, site, is_site)
    nuclei = _nuclei(frame, members, links, match, normal)
    n = sum(one.size for one in nuclei)
    return CrystalState(frame.time, len(atoms), n / max(1, len(atoms)), 0, nuclei)


def _bcc_sites(local: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest sites (units of half the edge) and whether they are first or second neighbours."""
    odd, even = 2 * np.floor(local / 2) + 1, 2 * np.rint(local / 2)
    nearer = ((local - odd) ** 2).sum(axis=1) < ((local - even) ** 2).sum(axis=1)
    site = np.where(nearer[:, None], odd, even)
    return site, np.isin((site**2).sum(axis=1), (3, 4))


def _find_rocksalt(
    frame: Frame, lattice: Lattice, normal: int, cutoffs: BondCutoffs
) -> CrystalState:
    cation, anion = lattice.elements
    is_cation, is_anion = frame.is_element(cation), _free_anions(frame, cation, anion, cutoffs)
    atoms = np.flatnonzero(is_cation | is_anion)
    match = _join(
        match_templates(frame, np.flatnonzero(is_cation), _FCC),
        match_templates(frame, np.flatnonzero(is_anion), _FCC),
    )
    distance = match.spacing / np.sqrt(2.0)  # cation to anion
    pairs = _core_pairs(frame, match, atoms, distance, reach=np.sqrt(2.0) * 1.2)
    site = np.rint(pairs.local)
    squared = (site**2).sum(axis=1)
    is_counter = is_cation[pairs.core] != is_cation[pairs.other]
    is_site = np.where(is_counter, squared == 1, squared == 2)
    _drop_cores_without_counterions(frame, match, pairs, site, is_site & is_counter)
    is_site &= match.is_core[pairs.core]
    members, links = _crystal_atoms(frame, match, pairs, site, is_site)
    nuclei = _nuclei(frame, members, links, match, normal)
    crystalline = np.concatenate([np.empty(0, dtype=np.int64), *(one.atoms for one in nuclei)])
    n_anions = int(is_anion.sum())
    fraction = is_anion[crystalline].sum() / max(1, n_anions)
    n_amorphous = _count_amorphous(frame, is_cation, is_anion, crystalline, cutoffs)
    return CrystalState(frame.time, 2 * n_anions, float(fraction), n_amorphous, nuclei)


def _free_anions(frame: Frame, cation: str, anion: str, cutoffs: BondCutoffs) -> np.ndarray:
    """Return a mask of the anions that have no covalent partner (the F of PF6- has one)."""
    is_anion = frame.is_element(anion)
    others = np.flatnonzero(~frame.is_element(cation))
    if is_anion.sum() == len(others):
        return is_anion
    table = cutoffs.table(frame.numbers[others], [Kind.COVALENT])
    i, j, distance = neighbor_pairs(frame, table.cutoff, others)
    element = table.index_of_number[frame.numbers]
    bonded = distance < table.form[element[i], element[j]]
    is_anion[i[bonded]] = is_anion[j[bonded]] = False
    return is_anion


def _count_amorphous(
    frame: Frame,
    is_cation: np.ndarray,
    is_anion: np.ndarray,
    crystalline: np.ndarray,
    cutoffs: BondCutoffs,
) -> int:
    """Return the number of anions outside crystals with three or more cations in contact."""
    atoms = np.flatnonzero(is_cation | is_anion)
    table = cutoffs.table(frame.numbers[atoms], [Kind.CONTACT])
    i, j, _ = neighbor_pairs(frame, float(table.form.max()), atoms)
    counter = is_cation[i] != is_cation[j]
    n = np.bincount(np.concatenate((i[counter], j[counter])), minlength=frame.n_atoms)
    is_solid = is_anion & (n >= 3)
    is_solid[crystalline] = False
    return int(is_solid.sum())


def _join(first: _Match, second: _Match) -> _Match:
    """Put the matches of two sublattices together."""
    chosen = second.spacing > 0
    return _Match(
        first.is_core | second.is_core,
        np.where(chosen[:, None], second.quaternions, first.quaternions),
        np.where(chosen, second.spacing, first.spacing),
    )


@dataclass(frozen=True)
class _CorePairs:
    """Pairs of a matched atom and a neighbour: separation in Å, and in units of its own lattice."""

    core: np.ndarray
    other: np.ndarray
    separation: np.ndarray
    local: np.ndarray

    def select(self, chosen: np.ndarray) -> _CorePairs:
        """Return the pairs of a mask."""
        return _CorePairs(
            self.core[chosen], self.other[chosen], self.separation[chosen], self.local[chosen]
        )


def _core_pairs(
    frame: Frame, match: _Match, atoms: np.ndarray, unit: np.ndarray, reach: float
) -> _CorePairs:
    """Return all neighbours of matched atoms within ``reach`` units of their lattice."""
    is_core = match.is_core
    cutoff = reach * float(np.median(unit[is_core])) if is_core.any() else 0.0
    i, j, vector = neighbor_pairs(frame, cutoff, atoms, vectors=True)
    core, other = np.concatenate((i, j)), np.concatenate((j, i))
    vector = np.concatenate((vector, -vector))
    keep = is_core[core]
    core, other, vector = core[keep], other[keep], vector[keep]
    local = np.empty((0, 3))
    if len(core):
        local = Rotation.from_quat(match.quaternions[core]).inv().apply(vector)
        local /= unit[core][:, None]
    return _CorePairs(core, other, vector, local)


def _drop_cores_without_counterions(
    frame: Frame, match: _Match, pairs: _CorePairs, site: np.ndarray, is_site: np.ndarray
) -> None:
    """Unmark atoms whose lattice has fewer than four of the six counterions in place."""
    is_near = np.linalg.norm(pairs.local - site, axis=1) < SITE_TOLERANCE
    n = np.bincount(pairs.core[is_site & is_near], minlength=frame.n_atoms)
    match.is_core[:] &= n >= 4


def _crystal_atoms(
    frame: Frame, match: _Match, pairs: _CorePairs, site: np.ndarray, is_site: np.ndarray
) -> tuple[np.ndarray, _CorePairs]:
    """Return a mask of crystalline atoms and the pairs of core and neighbour that hold them together.

    An atom that is not matched itself belongs to the crystal if it lies on the mean of the sites that
    matched neighbours predict for it.
    """
    n = frame.n_atoms
    offset = pairs.local - site
    weights = is_site.astype(float)
    n_sites = np.bincount(pairs.other, weights=weights, minlength=n)
    # the offset of the atom from each predicted site, turned back into the frame's axes
    turned = np.empty((0, 3))
    if len(pairs.core):
        turned = Rotation.from_quat(match.quaternions[pairs.core]).apply(offset)
    mean = (
        np.column_stack(
            [
                np.bincount(pairs.other, weights=weights * turned[:, k], minlength=n)
                for k in range(3)
            ]
        )
        / np.maximum(n_sites, 1)[:, None]
    )
    is_on_site = (n_sites >= 1) & (np.linalg.norm(mean, axis=1) < SITE_TOLERANCE)
    members = match.is_core | is_on_site
    held = is_site & (np.linalg.norm(offset, axis=1) < 2 * SITE_TOLERANCE)
    held &= members[pairs.other] & match.is_core[pairs.core]
    return members, pairs.select(held)


def _nuclei(
    frame: Frame,
    members: np.ndarray,
    links: _CorePairs,
    match: _Match,
    normal: int,
) -> list[Nucleus]:
    """Return the connected crystals with enough matched atoms, the largest first."""
    n = frame.n_atoms
    graph = coo_array((np.ones(len(links.core)), (links.core, links.other)), shape=(n, n))
    _, label = connected_components(graph.tocsr(), directed=False)
    n_core = np.bincount(label[match.is_core], minlength=label.max(initial=0) + 1)
    found = [
        _describe(
            frame,
            np.flatnonzero(members & (label == k)),
            links.select(label[links.core] == k),
            match,
            normal,
        )
        for k in np.flatnonzero(n_core >= SMALLEST_NUCLEUS)
    ]
    return sorted(found, key=lambda one: -one.size)


def _describe(
    frame: Frame, atoms: np.ndarray, links: _CorePairs, match: _Match, normal: int
) -> Nucleus:
    positions = _whole_positions(frame, atoms, links)
    center = positions.mean(axis=0)
    core = atoms[match.is_core[atoms]]
    rotations = Rotation.from_quat(match.quaternions[core])
    axes, spread = mean_orientation(rotations)
    radii = np.sqrt(np.maximum(np.linalg.eigvalsh(np.cov(positions.T)), 0.0))
    height, base_radius, angle = _contact_shape(positions, normal)
    if frame.volume > 0:
        scaled = np.linalg.solve(frame.cell.T, center)
        center = (scaled - np.where(frame.pbc, np.floor(scaled), 0.0)) @ frame.cell
    return Nucleus(
        atoms,
        positions,
        center,
        axes.as_matrix().T,
        spread,
        height,
        base_radius,
        angle,
        float(radii[0] / radii[-1]),
    )


def _whole_positions(frame: Frame, atoms: np.ndarray, links: _CorePairs) -> np.ndarray:
    """Return positions [n, 3] in which a crystal is whole, walked along the links that make it one."""
    positions = frame.positions[atoms].copy()
    if not frame.pbc.any():
        return positions
    n = len(atoms)
    first, second = np.searchsorted(atoms, links.core), np.searchsorted(atoms, links.other)
    step = {}
    for a, b, d in zip(first.tolist(), second.tolist(), links.separation):
        step[a, b], step[b, a] = d, -d
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(n, n)).tocsr()
    order, before = breadth_first_order(graph, 0, directed=False)
    for k in order[1:].tolist():
        positions[k] = positions[before[k]] + step[int(before[k]), k]
    return positions


def mean_orientation(rotations: Rotation) -> tuple[Rotation, float]:
    """Return the mean of rotations that mean the same cube, and the mean angle to it in degrees.

    They turn the lattice into the frame, so that R and R g, with g of the cube's own rotations, mean the same.
    """
    mean = rotations[0]
    # the second round starts at the mean, so that none is folded to the wrong side
    for _ in range(2):
        mean = mean * _smallest_turns(mean, rotations).mean()
    return mean, float(np.degrees(_smallest_turns(mean, rotations).magnitude().mean()))


def _smallest_turns(origin: Rotation, rotations: Rotation) -> Rotation:
    """Return the smallest turns of the cube of ``origin``, in its own axes, onto the cubes of the rotations."""
    return (origin.inv() * rotations).reduce(right=_CUBIC)


def _contact_shape(positions: np.ndarray, normal: int) -> tuple[float, float, float]:
    """Return height, base radius and contact angle (degrees) of a cap on its ground.

    A spherical cap of height h on a disc of radius a meets the ground at 2 arctan(h / a).
    """
    z = positions[:, normal]
    height = float(np.ptp(z))
    base = positions[z <= z.min() + 0.25 * height]
    across = np.delete(base, normal, axis=1)
    variance = across.var(axis=0).sum()  # half the squared radius for a uniform disc
    base_radius = float(np.sqrt(2.0 * variance))
    return height, base_radius, float(np.degrees(2.0 * np.arctan2(height, base_radius)))


class CrystalAnalysis:
    """Crystals against time, one frame at a time.

    Parameters
    ----------
    lattices : kinds to look for.
    normal : axis along which heights are measured.
    cutoffs : bond distances.
    """

    def __init__(
        self,
        lattices: Sequence[Lattice] = (NAF, SODIUM),
        normal: int = 2,
        cutoffs: BondCutoffs | None = None,
    ):
        self.lattices = list(lattices)
        self.normal = normal
        self.cutoffs = cutoffs
        self._histories = {one.name: CrystalHistory() for one in lattices}

    def add(self, frame: Frame) -> None:
        """Take the next frame."""
        for lattice in self.lattices:
            state = find_crystals(frame, lattice, self.normal, self.cutoffs)
            self._histories[lattice.name].add(state)

    def result(self) -> dict[str, CrystalHistory]:
        """Return what was found, by name of the lattice."""
        return self._histories
