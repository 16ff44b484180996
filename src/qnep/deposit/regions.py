"""Anode, SEI and electrolyte of an interface: chosen by the user or found, and shown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.neighborlist import natural_cutoffs, neighbor_list
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from qnep._optional import require

BOND_TOLERANCE = 1.15  # a bond is shorter than this times the sum of the covalent radii
SURFACE_THICKNESS = 1.5  # Å; anode atoms this close to the height of its surface are its surface
AREA_OF_STRAYS = (
    40.0  # Å² for one atom; atoms that lie thinner than this on the anode are not its surface
)
TOUCHING = 5.0  # Å; what begins nearer than this to a face of the anode touches it
METALLIC_NEIGHBORS = 6  # sodium with as many sodium neighbours within METALLIC_DISTANCE is metal
METALLIC_DISTANCE = 4.3  # Å; first shell of bcc Na: 3.7 and 4.3 Å
SMALLEST_NETWORK = 20  # carbon atoms; more in one piece are an electrode, not a molecule
EDGE_MARGIN = 1.0  # Å; thermal motion keeps the anode off the edge of the cell
NAMES = ("anode", "sei", "electrolyte")
FACES = ("auto", "one", "both")


class RegionError(ValueError):
    """A region is empty, overlaps another or names atoms that do not exist."""


@dataclass(frozen=True)
class Regions:
    """Atom indices (from 0) of the three regions, the axis of the normal and on which side the electrolyte lies.

    `side` is +1 if the electrolyte lies at larger coordinates than the anode, else -1. `surface` are the anode's
    atoms that face it; heights count from their mean, positive towards the electrolyte.

    A periodic slab with electrolyte on both faces has a second surface, `back`, that looks the other way, and the
    `length` (Å) of its cell along the axis; heights then count from the nearer face. Both are empty for all else.
    """

    anode: tuple[int, ...]
    sei: tuple[int, ...]
    electrolyte: tuple[int, ...]
    surface: tuple[int, ...]
    axis: int
    side: int
    back: tuple[int, ...] = ()
    length: float = 0.0

    def heights(self, positions: np.ndarray) -> np.ndarray:
        """Heights above the anode's surface, the nearer one of two (Å), of positions [n_atoms, 3]."""
        return np.min(self._heights_above_faces(positions), axis=0)

    def heights_above_first(self, positions: np.ndarray) -> np.ndarray:
        """Heights above the first surface (Å), also of what is nearer to the second one."""
        return self._heights_above_faces(positions)[0]

    def face_below(self, positions: np.ndarray, i: int) -> tuple[tuple[int, ...], int]:
        """Atoms of the face nearest to atom `i`, and the side to which it looks."""
        nearest = int(np.argmin(self._heights_above_faces(positions)[:, i]))
        return (self.surface, self.side) if nearest == 0 else (self.back, -self.side)

    @property
    def faces(self) -> list[tuple[tuple[int, ...], int]]:
        """Atoms and side of each surface."""
        return [(self.surface, self.side), *([(self.back, -self.side)] if self.back else [])]

    def level(self, positions: np.ndarray, atoms: Sequence[int]) -> float:
        """Mean coordinate (Å) of a surface's atoms along the axis, across the edge of the cell if need be."""
        along = positions[list(atoms), self.axis]
        if self.length:
            along = along[0] + _nearest_image(along - along[0], self.length)
        return float(along.mean())

    def gap(self, positions: np.ndarray) -> float:
        """Distance (Å) between the two surfaces of a periodic slab through the electrolyte."""
        between = self.side * (
            self.level(positions, self.back) - self.level(positions, self.surface)
        )
        return between % self.length

    def _heights_above_faces(self, positions: np.ndarray) -> np.ndarray:  # [n_faces, n_atoms]
        heights = np.array(
            [
                side * (positions[:, self.axis] - self.level(positions, atoms))
                for atoms, side in self.faces
            ]
        )
        if self.back:  # the seam lies in the middle of the anode
            lowest = -0.5 * (self.length - self.gap(positions))
            heights = lowest + (heights - lowest) % self.length
        return heights

    def with_surface_of(
        self, positions: np.ndarray, cell: np.ndarray, members: Sequence[int]
    ) -> Regions:
        """Return the regions with the surfaces that the anode has in these positions.

        Parameters
        ----------
        positions, cell : (n_atoms, 3) and (3, 3) arrays, Å.
        members : atoms that have joined the anode.
        """
        atoms = np.array(sorted({*self.anode, *members}))
        along = positions[atoms, self.axis]
        if self.length:
            along = _nearest_image(along - _periodic_mean(along, self.length), self.length)
        front = _outermost(self.side * along, _area(cell, self.axis))
        surface = tuple(atoms[front].tolist())
        if not self.back:
            return replace(self, surface=surface)
        back = _outermost(-self.side * along, _area(cell, self.axis))
        return replace(self, surface=surface, back=tuple(atoms[back].tolist()))


def _nearest_image(distances: np.ndarray, length: float) -> np.ndarray:
    return (distances + 0.5 * length) % length - 0.5 * length


def _periodic_mean(along: np.ndarray, length: float) -> float:
    """Mean of coordinates on a circle: it knows no edge of the cell."""
    return float(np.angle(np.exp(2j * np.pi * along / length).sum())) * length / (2 * np.pi)


def _area(cell: np.ndarray, axis: int) -> float:
    return float(np.linalg.norm(np.cross(cell[(axis + 1) % 3], cell[(axis + 2) % 3])))


def _outermost(facing: np.ndarray, area: float) -> np.ndarray:
    """Mask of the outermost layer among heights [n_atoms]; atoms that strayed beyond it are not of it."""
    n_strays = min(math.ceil(area / AREA_OF_STRAYS), len(facing))
    top = np.sort(facing)[-n_strays]
    return np.abs(facing - top) < SURFACE_THICKNESS


def select(atoms: Atoms, text: str, axis: int) -> np.ndarray:
    """Return the mask of the atoms that a selection names.

    Parameters
    ----------
    text : ``"none"``, or parts joined by ``&``: ``indices=0-63,70`` (from 0), ``elements=C,H``, ``between=0:12.5``
        (layer along the axis, Å).
    axis : 0, 1 or 2.

    Raises
    ------
    RegionError : the text cannot be understood, or names atoms or elements that are not there.
    """
    mask = np.zeros(len(atoms), dtype=bool) if text == "none" else np.ones(len(atoms), dtype=bool)
    if text == "none":
        return mask
    selectors = {"indices": _by_indices, "elements": _by_elements, "between": _by_layer}
    for part in text.split("&"):
        keyword, _, value = part.strip().partition("=")
        if keyword not in selectors:
            raise RegionError(
                f"selection {part!r}: expected indices=0-63,70, elements=C,H, between=0:12.5 (Å), auto or none"
            )
        mask &= selectors[keyword](atoms, value, axis)
    if not mask.any():
        raise RegionError(f"selection {text!r} matches no atom")
    return mask


def _by_indices(atoms: Atoms, value: str, axis: int) -> np.ndarray:
    mask = np.zeros(len(atoms), dtype=bool)
    for piece in value.split(","):
        first, _, last = piece.partition("-")
        if not first.isdigit() or not (last or first).isdigit():
            raise RegionError(
                f"indices={value}: expected numbers and ranges as 0-63,70, got {piece!r}"
            )
        if int(last or first) >= len(atoms):
            raise RegionError(
                f"indices={value}: there are {len(atoms)} atoms, 0 to {len(atoms) - 1}"
            )
        mask[int(first) : int(last or first) + 1] = True
    return mask


def _by_elements(atoms: Atoms, value: str, axis: int) -> np.ndarray:
    wanted = value.split(",")
    present = set(atoms.get_chemical_symbols())
    for symbol in wanted:
        if symbol not in chemical_symbols:
            raise RegionError(f"elements={value}: {symbol!r} is no element")
        if symbol not in present:
            raise RegionError(
                f"elements={value}: there is no {symbol}, only {', '.join(sorted(present))}"
            )
    return np.isin(atoms.get_chemical_symbols(), wanted)


def _by_layer(atoms: Atoms, value: str, axis: int) -> np.ndarray:
    try:
        low, high = (float(word) for word in value.split(":"))
    except ValueError:
        raise RegionError(f"between={value}: expected two heights in Å as 0:12.5") from None
    along = atoms.positions[:, axis]
    return (along >= low) & (along < high)


def choose_regions(
    atoms: Atoms,
    axis: int = 2,
    anode: str = "auto",
    sei: str = "auto",
    electrolyte: str = "auto",
    faces: str = "auto",
) -> tuple[Atoms, Regions]:
    """Divide an interface into its regions.

    Returns the structure and its regions. A structure that is periodic along the axis comes back shifted so that the
    edge of the cell lies behind the anode, or, with two faces, far from it: heights then have no seam.

    `faces` is ``"one"`` or ``"both"`` sides of a periodic anode on which sodium arrives; ``"auto"``: both where
    the SEI, or the electrolyte if there is no SEI, touches both.

    A region that is ``auto`` gets those atoms that the others leave. If the structure has the array ``region`` of
    `qnep build`, that decides. Else the anode is the largest carbon network, or metallic sodium where there is none;
    the electrolyte is molecules with C-H or with P, B, S or Cl, and sodium at their height; the rest is the SEI.

    Raises
    ------
    RegionError : anode or electrolyte without atoms, an atom in two regions or in none, a normal that is not along
        a cell vector, two faces of an anode that is not periodic along it.
    """
    check_normal(atoms, axis)
    if faces not in FACES:
        raise RegionError(f"faces must be one of {', '.join(FACES)}, got {faces!r}")
    if faces == "both" and not atoms.pbc[axis]:
        raise RegionError(f"two faces need a structure that is periodic along {'xyz'[axis]}")
    texts = {"anode": anode, "sei": sei, "electrolyte": electrolyte}
    masks = {name: select(atoms, text, axis) for name, text in texts.items() if text != "auto"}
    _refuse_overlaps(atoms, masks)
    free = ~np.any(list(masks.values()), axis=0) if masks else np.ones(len(atoms), dtype=bool)
    if "anode" not in masks:
        masks["anode"] = _find(atoms, 0, _find_anode) & free
        free &= ~masks["anode"]
    if not masks["anode"].any():
        raise RegionError(
            "region 'anode' has no atoms: name them (--anode elements=..., between=..., indices=...)"
        )
    atoms = _with_anode_at_low_edge(atoms, masks["anode"], axis)
    if "electrolyte" not in masks:
        last = np.zeros_like(free) if "sei" not in masks else free
        found = _find(atoms, 2, lambda atoms: _find_electrolyte(atoms, free, axis))
        masks["electrolyte"] = last | (found & free)
        free = free & ~masks["electrolyte"]
    if "sei" not in masks:
        masks["sei"], free = free, np.zeros_like(free)
    if not masks["electrolyte"].any():
        raise RegionError(
            "region 'electrolyte' has no atoms: name them (--electrolyte elements=..., between=...)"
        )
    if free.any():
        raise RegionError(f"{free.sum()} atoms are in no region: {_composition(atoms, free)}")
    return _with_side(atoms, masks, axis, faces)


def check_normal(atoms: Atoms, axis: int) -> None:
    """Refuse cells whose interface normal is not both a cell vector and a Cartesian axis."""
    others = [k for k in range(3) if k != axis]
    cell = atoms.cell.array
    if abs(cell[axis, others]).max() > 1e-6 or abs(cell[others, axis]).max() > 1e-6:
        raise RegionError(
            f"the normal {'xyz'[axis]} must be perpendicular to the two other cell vectors, the cell is {cell.tolist()}"
        )


def _refuse_overlaps(atoms: Atoms, masks: dict[str, np.ndarray]) -> None:
    names = list(masks)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            both = masks[one] & masks[other]
            if both.any():
                raise RegionError(
                    f"{both.sum()} atoms are in {one!r} and in {other!r}: {_composition(atoms, both)}"
                )


def _composition(atoms: Atoms, mask: np.ndarray) -> str:
    counts = Counter(np.array(atoms.get_chemical_symbols())[mask].tolist())
    return " ".join(f"{symbol}{count}" for symbol, count in sorted(counts.items())) or "-"


def bonds_of(atoms: Atoms, mask: np.ndarray) -> np.ndarray:
    """Pairs [n_bonds, 2] of bonded atoms within a mask; sodium is taken to bind nobody."""
    symbols = np.array(atoms.get_chemical_symbols())
    indices = np.flatnonzero(mask & (symbols != "Na"))
    part = atoms[indices]
    first, second = neighbor_list("ij", part, natural_cutoffs(part, mult=BOND_TOLERANCE))
    pairs = np.stack([indices[first], indices[second]], axis=1)
    return pairs[pairs[:, 0] < pairs[:, 1]]


def fragments(n_atoms: int, bonds: np.ndarray) -> list[np.ndarray]:
    """Groups of bonded atoms, single atoms included."""
    ones = np.ones(len(bonds))
    graph = coo_matrix((ones, (bonds[:, 0], bonds[:, 1])), shape=(n_atoms, n_atoms))
    n_groups, group = connected_components(graph, directed=False)
    order = np.argsort(group, kind="stable")
    return np.split(order, np.searchsorted(group[order], np.arange(1, n_groups)))


def _find(atoms: Atoms, number: int, search: Callable[[Atoms], np.ndarray]) -> np.ndarray:
    """The region with a number in the array of `qnep build` (0: electrode, 2: electrolyte), else by a search."""
    return atoms.arrays["region"] == number if "region" in atoms.arrays else search(atoms)


def _find_anode(atoms: Atoms) -> np.ndarray:
    symbols = np.array(atoms.get_chemical_symbols())
    mask = np.zeros(len(atoms), dtype=bool)
    carbon = symbols == "C"
    for group in fragments(len(atoms), bonds_of(atoms, carbon)):
        if len(group) >= SMALLEST_NETWORK and carbon[group].all():
            mask[group] = True
    if mask.any():
        return mask
    sodium = np.flatnonzero(symbols == "Na")
    if len(sodium):
        neighbors = np.bincount(
            neighbor_list("i", atoms[sodium], METALLIC_DISTANCE), minlength=len(sodium)
        )
        mask[sodium[neighbors >= METALLIC_NEIGHBORS]] = True
    return mask


def _find_electrolyte(atoms: Atoms, free: np.ndarray, axis: int) -> np.ndarray:
    symbols = np.array(atoms.get_chemical_symbols())
    mask = np.zeros(len(atoms), dtype=bool)
    for group in fragments(len(atoms), bonds_of(atoms, free)):
        kinds = set(symbols[group])
        if (
            free[group].all()
            and len(group) > 1
            and ({"C", "H"} <= kinds or kinds & {"P", "B", "S", "Cl"})
        ):
            mask[group] = True
    if mask.any():
        along = atoms.positions[:, axis]
        low, high = np.percentile(along[mask], [2, 98])  # a molecule that strayed does not count
        mask |= free & (symbols == "Na") & (along >= low) & (along <= high)
    return mask


def _with_side(
    atoms: Atoms, masks: dict[str, np.ndarray], axis: int, faces: str
) -> tuple[Atoms, Regions]:
    along = atoms.positions[:, axis]
    anode = masks["anode"]
    neighbor = masks["sei"] if masks["sei"].any() else masks["electrolyte"]
    has_back, length = False, 0.0
    area = _area(atoms.cell.array, axis)
    if atoms.pbc[
        axis
    ]:  # all others lie above the anode: is it nearer through the edge of the cell?
        length = atoms.cell.array[axis, axis]
        above = along[neighbor].min() - along[anode][_outermost(along[anode], area)].max()
        below = along[anode].min() + length - along[neighbor].max()
        side = 1 if above <= below else -1
        has_back = faces == "both" or (faces == "auto" and max(above, below) < TOUCHING)
        if has_back:  # both surfaces far from the edge of the cell
            shift = 0.5 * length - _periodic_mean(along[anode], length)
            atoms.positions[:, axis] = (along + shift) % length
        elif side < 0:  # bring the anode to the other edge
            atoms.positions[:, axis] = (along - along[anode].max() - EDGE_MARGIN) % length
    else:
        side = 1 if along[neighbor].mean() >= along[anode].mean() else -1
    anode_atoms, sei_atoms, electrolyte_atoms = (
        tuple(np.flatnonzero(masks[name]).tolist()) for name in NAMES
    )
    regions = Regions(
        anode_atoms,
        sei_atoms,
        electrolyte_atoms,
        surface=(),
        axis=axis,
        side=side,
        back=anode_atoms[:1] if has_back else (),  # a placeholder: with_surface_of finds the faces
        length=length if has_back else 0.0,
    )
    return atoms, regions.with_surface_of(atoms.positions, atoms.cell.array, ())


def _with_anode_at_low_edge(atoms: Atoms, anode: np.ndarray, axis: int) -> Atoms:
    """Shift a periodic structure so that the anode's lowest layer lies at the lower edge of the cell."""
    arranged = atoms.copy()
    if not atoms.pbc[axis]:
        return arranged
    length = atoms.cell.array[axis, axis]
    along = atoms.positions[:, axis]
    middle = _periodic_mean(along[anode], length)
    around = _nearest_image(along[anode] - middle, length)
    lowest = around[_outermost(-around, _area(atoms.cell.array, axis))].min()
    arranged.positions[:, axis] = (along - middle - lowest + EDGE_MARGIN) % length
    return arranged


def region_table(atoms: Atoms, regions: Regions) -> str:
    """What the user is shown before a run: atoms, composition and extent of each region."""
    heights = regions.heights(atoms.positions)
    surfaces = " and ".join(f"{len(face)} atoms" for face, _ in regions.faces)
    which = "nearer surface" if regions.back else "surface"
    lines = [
        f"normal along {'+-'[regions.side < 0]}{'xyz'[regions.axis]}, "
        f"heights from the anode's {which} ({surfaces})",
        f"{'region':<12} {'atoms':>6} {'height / Å':>18}  composition",
    ]
    for name in NAMES:
        indices = list(getattr(regions, name))
        mask = np.isin(np.arange(len(atoms)), indices)
        extent = f"{heights[mask].min():8.2f} {heights[mask].max():8.2f}" if indices else "-"
        lines.append(f"{name:<12} {len(indices):>6} {extent:>18}  {_composition(atoms, mask)}")
    return "\n".join(lines)


def draw_regions(
    atoms: Atoms, regions: Regions, path: str | Path, chosen: Sequence[int] = ()
) -> None:
    """Picture of the regions: the structure from the side, colours by region, sodium outlined."""
    pyplot = require("matplotlib.pyplot", extra="analysis")
    heights = regions.heights_above_first(atoms.positions)
    across = atoms.positions[:, 0 if regions.axis != 0 else 1]
    symbols = np.array(atoms.get_chemical_symbols())
    figure, axes = pyplot.subplots(figsize=(4.5, 6), layout="constrained")
    for name, color in zip(NAMES, ("#444444", "#d08770", "#88c0d0"), strict=True):
        indices = np.array(getattr(regions, name), dtype=int)
        axes.scatter(
            across[indices], heights[indices], s=28, color=color, label=f"{name} ({len(indices)})"
        )
    sodium = symbols == "Na"
    axes.scatter(
        across[sodium],
        heights[sodium],
        s=40,
        facecolors="none",
        edgecolors="#7b3294",
        label="sodium",
    )
    if len(chosen):
        rings = list(chosen)
        axes.scatter(
            across[rings],
            heights[rings],
            s=110,
            facecolors="none",
            edgecolors="k",
            label="to be carried",
        )
    for place in (0.0, *((regions.gap(atoms.positions),) if regions.back else ())):
        axes.axhline(place, color="k", linewidth=0.8, linestyle="--")
    axes.set(
        xlabel=f"{'x' if regions.axis != 0 else 'y'} (Å)",
        ylabel="height above the anode's surface (Å)",
    )
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
