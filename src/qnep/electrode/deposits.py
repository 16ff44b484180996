"""What has happened to the metal of electrodes: plated layers, isolated clusters, roughness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from qnep.electrode.slab import unwrap
from qnep.neighbors import VerletList

LAYER = 1.0  # Å; atoms this close to the outermost one are its layer
PATCH = 4.0  # Å, edge of the patches whose highest atoms make the profile of a surface


@dataclass
class Deposits:
    """Metal of a two-electrode cell.

    Attributes
    ----------
    electrode_atoms : (n_electrodes,), sum of the memberships.
    layer_atoms : (n_electrodes,), atoms of the outermost layer at its back, away from the electrolyte.
    n_isolated_clusters, n_isolated_atoms : metal that no chain of bonds joins to an electrode, clusters of two or more.
    roughness : (n_electrodes,), Å, standard deviation of the height of the surface that faces the electrolyte, after
        its mean; dendrites raise it.
    """

    electrode_atoms: np.ndarray
    layer_atoms: np.ndarray
    n_isolated_clusters: int
    n_isolated_atoms: int
    roughness: np.ndarray


def measure_deposits(
    atoms: Atoms, weights: np.ndarray, elements: list[str], bond: float, axis: int
) -> Deposits:
    """Measure the metal of a cell.

    Parameters
    ----------
    atoms : periodic, with vacuum along `axis`; the first electrode lies lower along it than the last.
    weights : (n_electrodes, n_atoms), memberships.
    elements : symbols of the metal.
    bond : Å, longest distance of two bonded metal atoms.
    axis : cell vector along the normal.
    """
    metal = np.flatnonzero(np.isin(atoms.get_chemical_symbols(), elements))
    labels = _clusters(atoms, metal, bond)
    anchored = np.unique(labels[weights[:, metal].max(axis=0) > 0.5])
    sizes = np.bincount(labels)
    isolated = [k for k in range(len(sizes)) if sizes[k] > 1 and k not in anchored]
    positions = unwrap(atoms.positions, atoms.cell.array, axis)[0]
    middle = 0.5 * (len(weights) - 1)
    roughness, layers = [], []
    for electrode, row in enumerate(weights):
        chosen, facing_up = positions[row > 0.5], electrode <= middle
        roughness.append(_roughness(chosen, atoms.cell.array, axis, facing_up))
        layers.append(_layer_atoms(chosen, atoms.cell.array, axis, facing_up))
    return Deposits(
        weights.sum(axis=1),
        np.array(layers),
        len(isolated),
        int(sizes[isolated].sum()),
        np.array(roughness),
    )


def _heights(positions: np.ndarray, cell: np.ndarray, axis: int, facing_up: bool) -> np.ndarray:
    """Along the normal towards the electrolyte, Å."""
    inverse = np.linalg.inv(cell)
    heights = positions @ (inverse[:, axis] / np.linalg.norm(inverse[:, axis]))
    return heights if facing_up else -heights


def _layer_atoms(positions: np.ndarray, cell: np.ndarray, axis: int, facing_up: bool) -> int:
    if len(positions) == 0:
        return 0
    heights = _heights(positions, cell, axis, facing_up)
    return int(np.sum(heights < heights.min() + LAYER))


def _clusters(atoms: Atoms, metal: np.ndarray, bond: float) -> np.ndarray:
    """Label of the cluster of each metal atom."""
    pairs = VerletList(bond, skin=0.0)
    pairs.update(atoms.positions[metal], atoms.cell.array, atoms.pbc)
    bonds = coo_array(
        (np.ones(len(pairs.first)), (pairs.first, pairs.second)), shape=(len(metal),) * 2
    )
    return connected_components(bonds, directed=False)[1]


def _roughness(positions: np.ndarray, cell: np.ndarray, axis: int, facing_up: bool) -> float:
    """Standard deviation over patches of the outermost height, Å; 0 for a surface of no atoms."""
    if len(positions) == 0:
        return 0.0
    inverse = np.linalg.inv(cell)
    heights = _heights(positions, cell, axis, facing_up)
    lateral = [other for other in range(3) if other != axis]
    counts = [max(1, round(np.linalg.norm(cell[other]) / PATCH)) for other in lateral]
    grids = np.meshgrid(*[(np.arange(n) + 0.5) / n for n in counts], indexing="ij")
    in_plane = (positions @ inverse)[:, lateral] % 1.0
    edges = np.array([np.linalg.norm(cell[other]) for other in lateral])
    tree = cKDTree(in_plane * edges, boxsize=edges)
    patches = np.stack(grids, axis=-1).reshape(-1, 2) * edges
    near = tree.query_ball_point(patches, PATCH)
    return float(np.std([heights[members].max() for members in near if members]))
