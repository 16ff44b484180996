"""Boxes of molecules: dense, whole, apart."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.geometry import find_mic
from ase.neighborlist import neighbor_list

from qnep.build import (
    ContactError,
    PackingError,
    check_contacts,
    make_amorphous,
    make_electrolyte,
    make_molecule,
    mass_density,
    pack,
    push_apart,
)

pytest.importorskip("rdkit")


def assert_molecules_are_whole(atoms, tolerance=0.15):
    """Every molecule of each name has the bond lengths of its free conformers to within a tolerance, Å."""
    ids = atoms.arrays["molecule_id"]
    for number, name in enumerate(atoms.info["molecules"], start=1):
        part = atoms.positions[ids == number]
        free = make_molecule(name)
        assert len(part) == len(free)
        i, j, distances = neighbor_list("ijd", free, 1.75)
        found = np.linalg.norm(part[i] - part[j], axis=1)
        assert np.abs(found - distances).max(initial=0.0) < tolerance


def assert_contacts_are_safe(atoms):
    """By ASE's neighbour list, which the package does not use for this: 1.0 Å with H, 1.5 Å without."""
    ids = atoms.arrays["molecule_id"]
    i, j, distances = neighbor_list("ijd", atoms, 1.5)
    is_contact = ids[i] != ids[j]
    has_hydrogen = (atoms.numbers[i] == 1) | (atoms.numbers[j] == 1)
    assert (distances[is_contact & has_hydrogen] > 1.0).all()
    assert not (is_contact & ~has_hydrogen).any()


@pytest.mark.parametrize(
    ("solvents", "salt", "molarity", "n_atoms"),
    [
        ({"EC": 1}, "NaPF6", 1.0, 300),
        ({"DME": 1}, "NaFSI", 2.0, 400),
        ({"PC": 1, "DMC": 2}, "NaClO4", 0.5, 400),
        ({"EC": 1}, "NaPF6", 1.0, 1600),  # two blocks
    ],
)
def test_electrolyte(solvents, salt, molarity, n_atoms):
    atoms = make_electrolyte(solvents, salt, molarity, n_atoms, seed=4)
    assert len(atoms) == pytest.approx(n_atoms, abs=15)
    assert mass_density(atoms) == pytest.approx(atoms.info["density"], rel=1e-3)
    assert atoms.get_initial_charges().sum() == pytest.approx(0.0, abs=1e-9)
    assert_molecules_are_whole(atoms)
    assert_contacts_are_safe(atoms)


def test_density_that_was_asked_for():
    atoms = make_electrolyte({"EC": 1}, "NaPF6", 1.0, 300, density=1.30)
    assert mass_density(atoms) == pytest.approx(1.30, rel=0.02)


def test_seeds_decide_everything():
    first, again, other = (make_electrolyte({"DMC": 1}, n_atoms=150, seed=k) for k in (5, 5, 6))
    assert np.array_equal(first.positions, again.positions)
    assert not np.allclose(first.positions, other.positions)


def test_ions_are_spread_over_the_box():
    """Of 12 ions in a 21 Å box, no octant of the box holds more than five."""
    atoms = make_electrolyte({"EC": 1}, "NaPF6", 1.0, 900, seed=2)
    centres = atoms[[symbol in ("Na", "P") for symbol in atoms.symbols]]
    octants = (centres.get_scaled_positions(wrap=True) * 2).astype(int) @ [1, 2, 4]
    assert len(centres) >= 12
    assert np.bincount(octants, minlength=8).max() <= 5


def test_triclinic_cell():
    cell = np.array([[12.0, 0, 0], [4.0, 12.0, 0], [2.0, -3.0, 12.0]])
    atoms = pack({"EC": 14}, cell, seed=3)
    assert np.allclose(atoms.cell.array, cell)
    assert_molecules_are_whole(atoms)
    assert_contacts_are_safe(atoms)


def test_cell_in_another_form_is_refused():
    with pytest.raises(ValueError, match="lower triangular"):
        pack({"EC": 4}, np.array([[9.0, 3.0, 0], [0, 9.0, 0], [0, 0, 9.0]]))


@pytest.mark.parametrize("name", ["NaF", "Na2CO3", "NaOH"])
def test_amorphous_solid_is_neutral_and_dense(name):
    cell = np.diag([14.0, 14.0, 9.0])
    atoms = make_amorphous(name, cell, seed=1)
    assert atoms.get_initial_charges().sum() == pytest.approx(0.0, abs=1e-9)
    crystal_density = {"NaF": 2.80, "Na2CO3": 2.55, "NaOH": 2.02}[
        name
    ]  # g/cm³, of the cells in the package
    # One formula unit of the 25-60 in the cell may be missing.
    assert mass_density(atoms, 14 * 14 * 9) == pytest.approx(0.9 * crystal_density, rel=0.05)
    assert_contacts_are_safe(atoms)


def test_too_dense_is_an_error():
    """Four EC in 4.5 Å cubed are 6.4 g/cm³, five times the liquid."""
    with pytest.raises((PackingError, ContactError)):
        pack({"EC": 4}, np.eye(3) * 4.5)


def test_amorphous_needs_room():
    with pytest.raises(ValueError, match="too small for one unit of Na2CO3"):
        make_amorphous("Na2CO3", np.eye(3) * 3.0)


def test_push_apart_opens_a_contact_and_keeps_the_molecule():
    """Two CO2 0.8 Å apart: opened to 2 Å, C=O as before, the centre of mass where it was."""
    first, second = make_molecule("CO2"), make_molecule("CO2")
    second.positions += [0.3, 0.8, 0.0]
    atoms = first + second
    atoms.set_cell(np.eye(3) * 15)
    atoms.pbc = True
    atoms.arrays["molecule_id"] = np.repeat([1, 2], 3)
    with pytest.raises(ContactError, match=r"too close, the shortest 0\.\d+ Å between"):
        check_contacts(atoms)
    result = push_apart(atoms)
    check_contacts(result)
    assert neighbor_list("d", result, 1.9).max() < 1.35  # bonds only
    assert np.allclose(result.positions.mean(axis=0), atoms.positions.mean(axis=0), atol=1e-6)


def test_fixed_atoms_stay():
    atoms = Atoms("NaNa", [[0, 0, 0], [0, 0, 1.0]], cell=[9, 9, 9], pbc=True)
    atoms.arrays["molecule_id"] = np.array([0, 1])
    result = push_apart(atoms, is_fixed=np.array([True, False]))
    assert np.array_equal(result.positions[0], [0, 0, 0])
    _, length = find_mic(result.positions[1] - result.positions[0], result.cell)
    assert length > 1.9
