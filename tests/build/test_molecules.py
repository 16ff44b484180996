"""Molecules by name and SMILES."""

from __future__ import annotations

import numpy as np
import pytest
from ase.neighborlist import natural_cutoffs, neighbor_list

from qnep.build.molecules import FRAGMENTS, IONS, KNOWN, SOLVENTS, make_molecule

pytest.importorskip("rdkit")

FORMULAS = {
    "EC": "C3H4O3",
    "PC": "C4H6O3",
    "DMC": "C3H6O3",
    "EMC": "C4H8O3",
    "DEC": "C5H10O3",
    "DME": "C4H10O2",
    "G2": "C6H14O3",
    "FEC": "C3H3FO3",
    "VC": "C3H2O3",
}
CHARGES = {
    "Na+": 1,
    "Li+": 1,
    "K+": 1,
    "PF6-": -1,
    "FSI-": -1,
    "TFSI-": -1,
    "ClO4-": -1,
    "CO3--": -2,
}


@pytest.mark.parametrize(("name", "formula"), FORMULAS.items())
def test_solvents_have_their_formula(name, formula):
    assert make_molecule(name).get_chemical_formula() == formula
    assert set(FORMULAS) == set(SOLVENTS)


@pytest.mark.parametrize(("name", "charge"), CHARGES.items())
def test_ions_have_their_charge(name, charge):
    assert make_molecule(name).get_initial_charges().sum() == pytest.approx(charge)


@pytest.mark.parametrize("name", FRAGMENTS)
def test_fragments_are_neutral(name):
    assert make_molecule(name).get_initial_charges().sum() == pytest.approx(0.0)


@pytest.mark.parametrize("name", [name for name in KNOWN if "Na" not in name or name in IONS])
def test_molecules_hold_together(name):
    """Each atom has a neighbour within 1.25 times the sum of covalent radii, and none is within 0.7 times."""
    atoms = make_molecule(name)
    if len(atoms) == 1:
        return
    near = neighbor_list("i", atoms, natural_cutoffs(atoms, mult=1.25))
    assert set(near) == set(range(len(atoms)))
    assert len(neighbor_list("i", atoms, natural_cutoffs(atoms, mult=0.7))) == 0


@pytest.mark.parametrize(
    ("name", "bond", "length"),
    # Experimental gas-phase lengths, Å; MMFF94 reproduces them to 0.02.
    [
        ("CO2", (0, 1), 1.162),
        ("CO", (0, 1), 1.128),
        ("H2", (0, 1), 0.741),
        ("C2H4", (0, 1), 1.339),
        ("C2H6", (0, 1), 1.536),
    ],
)
def test_bond_lengths(name, bond, length):
    assert make_molecule(name).get_distance(*bond) == pytest.approx(length, abs=0.03)


def test_hexafluorophosphate_is_octahedral():
    atoms = make_molecule("PF6-")
    distances = np.sort(np.round(atoms.get_all_distances()[0, 1:], 6))
    assert np.allclose(distances, 1.60)
    angles = {round(atoms.get_angle(i, 0, j)) for i in range(1, 7) for j in range(1, i)}
    assert angles == {90, 180}


def test_seeds_give_conformers():
    first, again, other = (make_molecule("G2", seed) for seed in (1, 1, 2))
    assert np.array_equal(first.positions, again.positions)
    assert not np.allclose(first.get_all_distances(), other.get_all_distances(), atol=0.1)


def test_any_smiles():
    assert make_molecule("CC#N").get_chemical_formula() == "C2H3N"


@pytest.mark.parametrize("name", ["ethylene carbonatee", "C1CC", "Xx"])
def test_unknown_molecule(name):
    with pytest.raises(ValueError, match=r"unknown molecule .*neither a SMILES nor one of EC, PC"):
        make_molecule(name)
