"""Crystals and slabs."""

from __future__ import annotations

import numpy as np
import pytest
from ase.neighborlist import neighbor_list

from qnep.build import make_crystal
from qnep.build.carbon import LAYER_SPACING, graphite_basal, graphite_edge, slit_pore
from qnep.build.crystals import CRYSTALS, cut_slab

# Formula units in the cell, and the nearest neighbours: elements, distance in Å, number.
KNOWN = {
    "NaF": (4, "Na", "F", 2.317, 6),
    "Na2O": (4, "O", "Na", 2.403, 8),
    "Na2CO3": (4, "C", "O", 1.265, 3),
    "Li2CO3": (4, "C", "O", 1.28, 3),
    "NaOH": (4, "O", "H", 0.96, 1),
    "LiOH": (2, "O", "H", 0.95, 1),
    "NaH": (4, "Na", "H", 2.44, 6),
    "LiF": (4, "Li", "F", 2.014, 6),
}
UNIT_ATOMS = {"Na2CO3": 6, "Li2CO3": 6, "Na2O": 3, "NaOH": 3, "LiOH": 3}


@pytest.mark.parametrize(("name", "known"), KNOWN.items())
def test_contents_and_neighbours(name, known):
    n_units, centre, neighbor, distance, count = known
    atoms = make_crystal(name)
    assert len(atoms) == n_units * UNIT_ATOMS.get(name, 2)
    i, j = neighbor_list("ij", atoms, distance + 0.06)
    symbols = np.array(atoms.get_chemical_symbols())
    counts = np.bincount(i[(symbols[i] == centre) & (symbols[j] == neighbor)], minlength=len(atoms))
    assert set(counts[symbols == centre]) == {count}


@pytest.mark.parametrize("name", CRYSTALS)
def test_nothing_is_too_close(name):
    """Na-O in solids is at least 2.2 Å, C-O 1.25 Å, O-H 0.9 Å."""
    assert neighbor_list("d", make_crystal(name), 3.0).min() > 0.9
    assert CRYSTALS[name].source


def test_lattice_constant_can_be_given():
    assert make_crystal("Na", 4.20).cell.lengths() == pytest.approx([4.2] * 3)


@pytest.mark.parametrize("facet", [(1, 0, 0), (1, 1, 0), (1, 1, 1), (2, 1, 0)])
def test_slab_of_sodium_is_sodium(facet):
    """Cut along any facet, atoms keep the bulk distance, and each square Å has its share of them."""
    slab = cut_slab(make_crystal("Na"), facet, thickness=10.0, width=12.0)
    assert neighbor_list("d", slab, 4.0).min() == pytest.approx(4.2906 * np.sqrt(3) / 2, abs=1e-4)
    assert slab.positions[:, 2].min() == pytest.approx(0.0)
    area = np.linalg.norm(np.cross(slab.cell[0], slab.cell[1]))
    for edge in slab.cell[:2]:  # width between opposite faces
        assert area / np.linalg.norm(edge) > 12.0 - 1e-6
    # A slab of n planes is n spacings thick: as many atoms in this volume as in bulk, 2 / a³.
    n_planes = len(np.unique(slab.positions[:, 2].round(3)))
    volume = area * slab.cell[2, 2] * n_planes / (n_planes - 1)
    assert len(slab) / volume == pytest.approx(2 / 4.2906**3, rel=1e-3)


def test_graphite_basal():
    stack = graphite_basal(4, width=10.0)
    assert neighbor_list("d", stack, 1.6).min() == pytest.approx(1.4213, abs=1e-3)
    assert set(np.bincount(neighbor_list("i", stack, 1.6))) == {3}
    assert len(np.unique(stack.positions[:, 2].round(3))) == 4


def test_graphite_edges_are_closed_by_hydrogen():
    """Every C has three neighbours of C or H, every H one C."""
    slab = graphite_edge(4, height=12.0, width=10.0)
    neighbors = np.bincount(neighbor_list("i", slab, 1.6))
    assert set(neighbors[slab.numbers == 6]) == {3}
    assert set(neighbors[slab.numbers == 1]) == {1}
    assert slab.cell[1, 1] == pytest.approx(4 * LAYER_SPACING)


def test_slit_pore_has_its_width():
    """Between the last sheet and the image of the first."""
    slab = slit_pore(9.0, n_layers=3, height=12.0)
    planes = np.unique(slab.positions[:, 1].round(4))
    assert slab.cell[1, 1] - (planes.max() - planes.min()) == pytest.approx(9.0, abs=1e-3)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: make_crystal("NaCl"), "unknown crystal 'NaCl'; there are Na, Li, K, NaF"),
        (lambda: make_crystal("Na", -1.0), "lattice_constant must be positive"),
        (lambda: cut_slab(make_crystal("Na"), (0, 0, 0), 10.0), "must not all be zero"),
        (lambda: cut_slab(make_crystal("Na"), (1, 0, 0), 0.0), "thickness must be positive"),
        (lambda: graphite_basal(0), "at least one layer"),
        (lambda: graphite_edge(3, 10.0), "even number of layers"),
        (lambda: slit_pore(1.0, 2, 10.0), "at least one layer spacing"),
    ],
)
def test_bad_input(make, text):
    with pytest.raises(ValueError, match=text):
        make()
