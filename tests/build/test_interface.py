"""Stacks of solids and electrolyte."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from ase.io import read
from ase.neighborlist import neighbor_list

from qnep.build import (
    MismatchError,
    Region,
    cut_slab,
    graphite_basal,
    insert_fragments,
    make_crystal,
    make_interface,
    mass_density,
    match_slabs,
    stack_solids,
)
from qnep.build.output import summary, write_extxyz

pytest.importorskip("rdkit")


@pytest.fixture(scope="module")
def sodium():
    return cut_slab(make_crystal("Na"), (1, 0, 0), thickness=8.0, width=12.0)


@pytest.fixture(scope="module")
def interface(sodium):
    return make_interface(sodium, {"EC": 1}, "NaPF6", 1.0, n_atoms=450, seed=3)


def contacts(atoms):
    ids = atoms.arrays["molecule_id"]
    i, j, distances = neighbor_list("ijd", atoms, 1.5)
    is_contact = ids[i] != ids[j]
    return distances[is_contact]


def test_sodium_and_electrolyte(interface, sodium):
    assert len(interface) == pytest.approx(450, abs=10)
    is_solid = interface.arrays["region"] == Region.ELECTRODE
    assert is_solid.sum() == len(sodium)
    assert set(interface.arrays["molecule_id"][is_solid]) == {0}
    assert np.allclose(interface.positions[is_solid], sodium.positions)
    assert interface.get_initial_charges().sum() == pytest.approx(0.0, abs=1e-9)
    assert contacts(interface).min(initial=9.0) > 1.0


def test_density_between_the_walls(interface):
    """The electrolyte fills the space between the two faces less twice the gap of 2 Å at the asked density."""
    is_liquid = interface.arrays["region"] == Region.ELECTROLYTE
    area = interface.cell[0, 0] * interface.cell[1, 1]
    solid_height = interface.positions[~is_liquid, 2].max()
    volume = area * (interface.cell[2, 2] - solid_height - 2 * 2.0)
    density = mass_density(interface[is_liquid], volume)
    assert density == pytest.approx(interface.info["density"], rel=1e-3)


def test_two_electrodes_mirror_each_other(sodium):
    atoms = make_interface(sodium, {"DME": 1}, n_electrodes=2, thickness=12.0, vacuum=10.0)
    assert list(atoms.pbc) == [True, True, False]
    is_solid = atoms.arrays["region"] == Region.ELECTRODE
    heights = np.sort(atoms.positions[is_solid, 2])
    assert is_solid.sum() == 2 * len(sodium)
    assert np.allclose(heights + heights[::-1], heights[0] + heights[-1])
    assert atoms.cell[2, 2] - heights[-1] == pytest.approx(10.0)
    liquid = atoms.positions[~is_solid, 2]
    assert liquid.min() > sodium.cell[2, 2]
    assert liquid.max() < heights[-1] - sodium.cell[2, 2]


def test_match_strains_the_cover_only():
    base_unit, cover_unit = graphite_basal(2), cut_slab(make_crystal("NaF"), (0, 0, 1), 6.0)
    base, cover, strain = match_slabs(base_unit, cover_unit, width=15.0, max_strain=0.06)
    assert np.allclose(base.cell.array[:2], cover.cell.array[:2])
    assert strain < 0.06
    assert neighbor_list("d", base, 1.6).min() == pytest.approx(1.4213, abs=1e-3)  # unstrained
    assert neighbor_list("d", cover, 2.6).min() == pytest.approx(2.317, rel=0.06)


def test_solids_that_do_not_fit():
    with pytest.raises(MismatchError, match=r"slab mismatch: the best fit .* strains the cover by"):
        match_slabs(
            graphite_basal(1), cut_slab(make_crystal("NaF"), (0, 0, 1), 6.0), 3.0, max_strain=1e-4
        )
    with pytest.raises(MismatchError, match="skewed cell"):
        match_slabs(cut_slab(make_crystal("Na"), (1, 1, 1), 6.0), graphite_basal(1), 10.0)
    with pytest.raises(MismatchError, match="slab mismatch: solid 1 has plane vectors"):
        stack_solids([graphite_basal(1), cut_slab(make_crystal("Na"), (1, 0, 0), 6.0)])


def test_sei_on_graphite():
    solids = match_slabs(graphite_basal(2), cut_slab(make_crystal("Na2CO3"), (0, 0, 1), 5.0), 12.0)
    solid = stack_solids(solids[:2])
    atoms = make_interface(solid, {"EC": 1}, thickness=10.0)
    assert set(atoms.arrays["region"]) == {Region.ELECTRODE, Region.SEI, Region.ELECTROLYTE}
    assert contacts(atoms).min(initial=9.0) > 1.0
    sei = atoms[atoms.arrays["region"] == Region.SEI]
    assert sei.get_chemical_formula(empirical=True) == "CNa2O3"


@pytest.mark.parametrize(
    ("place", "name", "count"),
    [("bulk", "C2H4", 2), ("interface", "NaF", 2), ("substrate", "CO", 1)],
)
def test_fragments_go_where_asked(interface, place, name, count):
    atoms = insert_fragments(interface, name, count, place, seed=5)
    region = atoms.arrays["region"]
    heights = atoms.positions[region == Region.PRODUCT, 2]
    surface = atoms.positions[region == Region.ELECTRODE, 2].max()
    assert (region == Region.PRODUCT).sum() == 2 * count * (3 if name == "C2H4" else 1)
    assert contacts(atoms).min(initial=9.0) > 1.0
    assert atoms.get_initial_charges().sum() == pytest.approx(0.0, abs=1e-9)
    if place == "bulk":
        assert heights.min() > surface + 3.0
    elif place == "interface":
        assert surface - 1.0 < heights.min() < surface + 5.0
    else:
        assert heights.max() < surface + 2.0
    molecules = len(atoms.info["molecules"])
    assert set(atoms.arrays["molecule_id"]) == set(range(molecules + 1))


def counted(atoms):
    """Molecules by name, from the elements of each number: not from what `info` says of them."""
    names = {"C3H4O3": "EC", "Na": "Na+", "F6P": "PF6-", "FNa": "NaF", "C2H4": "C2H4"}
    ids = atoms.arrays["molecule_id"]
    formulas = [atoms[ids == k].get_chemical_formula("hill") for k in range(1, ids.max() + 1)]
    return Counter(names[formula] for formula in formulas)


def test_summary_after_fragments_is_of_what_is_there(interface):
    """Molecules that gave way are not counted, what was inserted is; what no longer holds is not stated."""
    before = dict(interface.info)
    atoms = insert_fragments(interface, "NaF", 4, "interface", seed=5)
    atoms = insert_fragments(atoms, "C2H4", 2, "bulk", seed=5)
    said = {
        name: int(count)
        for count, name in (entry.split() for entry in atoms.info["composition"].split(", "))
    }
    assert said == counted(atoms)
    assert said["NaF"] == 4 and said["C2H4"] == 2
    assert said["EC"] < counted(interface)["EC"]
    entries = summary(atoms, sorted(set(atoms.symbols)))
    assert entries["composition"] == atoms.info["composition"]
    assert not {"electrolyte_density_g_cm3", "molarity_mol_per_L"} & set(entries)
    assert entries["mean_density_g_cm3"] == pytest.approx(mass_density(atoms), abs=1e-4)
    assert interface.info == before


def test_fragments_in_a_cell_from_a_file_state_no_composition(interface, tmp_path):
    """Files do not name the molecules, so that only the inserted ones could be counted."""
    write_extxyz(interface, tmp_path / "cell.extxyz")
    atoms = insert_fragments(read(tmp_path / "cell.extxyz"), "CO", 1, "bulk")
    assert not {"density", "molarity", "composition"} & set(atoms.info)


@pytest.mark.parametrize("seed", [1, 3])
def test_fragments_leave_the_solid_and_each_other(seed):
    """A crowded surface of an ionic crystal: no ion of it gives way, nor a product that was there before."""
    crystal = cut_slab(make_crystal("NaF"), (1, 0, 0), thickness=8.0, width=12.0)
    atoms = make_interface(crystal, {"EC": 1}, n_atoms=420, seed=seed)
    atoms = insert_fragments(atoms, "NaOCH2CH2OCO2Na", 2, "interface", seed=seed)
    atoms = insert_fragments(atoms, "NaF", 8, "interface", seed=seed)
    solid = atoms[atoms.arrays["molecule_id"] == 0]
    assert solid.get_chemical_formula() == crystal.get_chemical_formula()
    assert np.allclose(solid.positions, crystal.positions)
    products = atoms[atoms.arrays["region"] == Region.PRODUCT]
    assert len(np.unique(products.arrays["molecule_id"])) == 2 + 8
    assert products.get_chemical_formula() == "C6H8F8Na12O8"
    assert atoms.info["molecules"].count("NaOCH2CH2OCO2Na") == 2
    assert atoms.info["molecules"].count("NaF") == 8
    assert atoms.get_initial_charges().sum() == pytest.approx(0.0, abs=1e-9)
    assert contacts(atoms).min(initial=9.0) > 1.0


@pytest.mark.parametrize(
    ("salt", "facet", "ions"),
    [("NaF", (1, 0, 0), {"Na": 1, "F": -1}), ("Na2CO3", (0, 0, 1), {"Na": 1, "C": -2})],
)
def test_a_salt_stays_neutral_where_something_is_put_into_it(salt, facet, ions):
    """Whole ions give way, of both signs; a carbonate counts by its carbon, and keeps three oxygen atoms."""
    crystal = cut_slab(make_crystal(salt), facet, thickness=8.0, width=12.0)
    atoms = make_interface(crystal, {"EC": 1}, n_atoms=len(crystal) + 160)
    atoms = insert_fragments(atoms, "CH4", 2, "substrate", seed=2)
    solid = Counter(atoms[atoms.arrays["molecule_id"] == 0].get_chemical_symbols())
    assert sum(solid.values()) < len(crystal)
    assert sum(charge * solid[symbol] for symbol, charge in ions.items()) == 0
    assert solid["O"] == 3 * solid["C"]


def test_no_place_left():
    """The surface has room for some; then it is an error, and none of them is taken out again for the next."""
    crystal = cut_slab(make_crystal("NaF"), (1, 0, 0), thickness=5.0, width=8.0)
    atoms = make_interface(crystal, {"EC": 1}, thickness=8.0)
    with pytest.raises(ValueError, match=r"no place for NaF in 20 trials.* enlarge the cell"):
        insert_fragments(atoms, "NaF", 40, "interface", trials=20)


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({"n_atoms": 40}, "atoms leave 4 for the electrolyte"),
        ({"n_atoms": 80}, r"the electrolyte would be \d.\d Å thick"),
        ({"n_electrodes": 3, "thickness": 9.0}, "one or two electrodes, got 3"),
        ({"gap": -1.0, "thickness": 9.0}, "gap must not be negative"),
        ({"thickness": 9.0, "salt": "NaPF6", "molarity": 0.02}, "less than half an ion pair"),
    ],
)
def test_bad_input(sodium, keywords, text):
    with pytest.raises(ValueError, match=text):
        make_interface(sodium, {"EC": 1}, **keywords)


@pytest.mark.parametrize(
    ("place", "name", "text"),
    [
        ("sky", "CO", "place must be one of bulk, interface, substrate"),
        ("bulk", "unobtainium!", "unknown molecule"),
    ],
)
def test_bad_fragment(interface, place, name, text):
    with pytest.raises(ValueError, match=text):
        insert_fragments(interface, name, 1, place)
