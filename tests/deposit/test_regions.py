"""Regions of an interface: named, found, refused."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from toy_interface import ANODE, SEI, toy_interface

from qnep.deposit.regions import RegionError, choose_regions, draw_regions, region_table, select


def carbon_interface(axis: int = 2, upside_down: bool = False) -> Atoms:
    """Graphite | CO3 and F with Na | EC-like molecules, PF6 and Na, by hand; normal along any axis."""
    atoms = toy_interface(n_sodium=0)
    atoms = atoms[[atom.index for atom in atoms if atom.symbol == "C"]]
    parts = [
        (molecule("CO2"), 9.0), (Atoms("O"), 9.0), (Atoms("F"), 10.0), (Atoms("Na"), 8.5),
        (molecule("CH3OCH3"), 16.0), (molecule("CH3OH"), 20.0), (Atoms("Na"), 18.0),
    ]  # fmt: skip
    for k, (part, height) in enumerate(parts):
        part.translate(
            [1.0 + 3.5 * (k % 3), 3.0 + 3.0 * (k // 3), height] - part.positions.mean(axis=0)
        )
        atoms += part
    if upside_down:
        atoms.positions[:, 2] = atoms.cell[2, 2] - atoms.positions[:, 2]
    order = [(axis + 1) % 3, (axis + 2) % 3, axis]
    lengths, positions = np.zeros(3), np.zeros_like(atoms.positions)
    lengths[order] = atoms.cell.lengths()
    positions[:, order] = atoms.positions
    pbc = np.ones(3, dtype=bool)
    pbc[axis] = False
    return Atoms(atoms.symbols, positions, cell=lengths, pbc=pbc)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("upside_down", [False, True])
def test_regions_are_found_along_any_normal(axis, upside_down):
    atoms, regions = choose_regions(carbon_interface(axis, upside_down), axis)
    assert len(regions.anode) == 120
    assert sorted(atoms.symbols[list(regions.sei)]) == ["C", "F", "Na", "O", "O", "O"]
    assert len(regions.electrolyte) == 9 + 6 + 1
    assert regions.side == (-1 if upside_down else 1)
    heights = regions.heights(atoms.positions)
    assert heights[list(regions.electrolyte)].min() > heights[list(regions.sei)].mean() > 3.0
    assert heights[list(regions.surface)] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("upside_down", [False, True])
@pytest.mark.parametrize("shift", [0.0, 11.0, 33.0])
def test_periodic_normal_has_no_seam(upside_down, shift):
    """Wherever the edge of the cell cuts the structure, heights come out the same."""
    atoms = carbon_interface(2, upside_down)
    atoms.pbc = True
    reference_atoms, reference = choose_regions(atoms)
    atoms.positions[:, 2] = (atoms.positions[:, 2] + shift) % atoms.cell[2, 2]
    moved, regions = choose_regions(atoms)
    assert regions == reference
    np.testing.assert_allclose(
        regions.heights(moved.positions), reference.heights(reference_atoms.positions), atol=1e-9
    )


def test_metallic_sodium_is_the_anode():
    metal = bulk("Na", "bcc", 4.28, cubic=True) * (3, 3, 3)
    atoms = Atoms(
        metal.symbols, metal.positions, cell=[*metal.cell.lengths()[:2], 40], pbc=[1, 1, 0]
    )
    for k, height in enumerate((20.0, 27.0)):
        part = molecule("CH3OH")
        part.translate([3, 3 + 3 * k, height])
        atoms += part
    atoms += Atoms("Na", [[6, 6, 23.0]])
    _, regions = choose_regions(atoms)
    assert regions.anode == tuple(range(54))
    assert regions.sei == ()
    assert regions.electrolyte[-1] == 66


def test_regions_of_a_built_structure_are_taken_over():
    atoms = toy_interface()
    atoms.arrays["region"] = np.where(
        atoms.positions[:, 2] < 6, 0, np.where(atoms.positions[:, 2] < 10, 1, 2)
    )
    assert choose_regions(atoms)[1] == choose_regions(atoms, anode=ANODE, sei=SEI)[1]


def test_selections():
    atoms = toy_interface()
    assert select(atoms, "indices=0-3,7", 2).nonzero()[0].tolist() == [0, 1, 2, 3, 7]
    assert select(atoms, "elements=C&between=2:5", 2).sum() == 60
    assert not select(atoms, "none", 2).any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("indices=0-9999", "there are"),
        ("indices=a", "expected numbers"),
        ("elements=Xx", "'Xx' is no element"),
        ("elements=Li", "there is no Li"),
        ("between=3", "expected two heights"),
        ("between=100:200", "matches no atom"),
        ("colour=red", "expected indices="),
    ],
)
def test_bad_selections(text, message):
    with pytest.raises(RegionError, match=message):
        select(toy_interface(), text, 2)


def test_regions_must_divide_the_atoms():
    atoms = toy_interface()
    with pytest.raises(RegionError, match="9 atoms are in 'anode' and in 'sei'"):
        choose_regions(atoms, anode="between=0:10", sei=SEI)
    with pytest.raises(RegionError, match=r"atoms are in no region: .*Na"):
        choose_regions(atoms, anode=ANODE, sei=SEI, electrolyte="elements=N,O")
    with pytest.raises(RegionError, match="'electrolyte' has no atoms"):
        choose_regions(atoms, anode=ANODE, sei="between=5:99")
    with pytest.raises(RegionError, match="perpendicular"):
        tilted = atoms.copy()
        tilted.set_cell([[12.3, 0, 0], [0, 12.8, 0], [2, 0, 30]])
        choose_regions(tilted, anode=ANODE)


def test_table_and_picture(tmp_path):
    atoms, regions = choose_regions(toy_interface(), anode=ANODE, sei=SEI)
    table = region_table(atoms, regions)
    assert "C120" in table
    assert "F5 Na4" in table
    draw_regions(atoms, regions, tmp_path / "regions.png")
    assert (tmp_path / "regions.png").read_bytes().startswith(b"\x89PNG")


def periodic_slab(shift: float = 0.0) -> Atoms:
    """Sodium slab, periodic along z, an ion and a molecule near each face; 3 x 3 cells wide, 40 Å long."""
    metal = bulk("Na", "bcc", 4.28, cubic=True) * (3, 3, 3)  # layers from 0 to 10.7 Å
    atoms = Atoms(metal.symbols, metal.positions)
    for height, x in ((15.0, 3.0), (35.4, 9.0)):
        part = molecule("CH3OH")
        part.translate([x, x, height] - part.positions.mean(axis=0))
        atoms += part
    atoms += Atoms("Na2", [[6, 6, 10.7 + 7.0], [6, 6, 40.0 - 5.0]])
    atoms.set_cell([*metal.cell.lengths()[:2], 40.0])
    atoms.pbc = True
    atoms.positions[:, 2] = (atoms.positions[:, 2] + shift) % 40.0
    return atoms


@pytest.mark.parametrize("shift", [0.0, 5.0, 25.0, 33.0])
def test_periodic_slab_has_two_surfaces(shift):
    """Heights count from the nearer face, wherever the edge of the cell is; inside the metal they are negative."""
    atoms, regions = choose_regions(periodic_slab(shift))
    assert regions.anode == tuple(range(54))
    assert len(regions.surface) == len(regions.back) == 9
    heights = regions.heights(atoms.positions)
    assert heights[[-2, -1]] == pytest.approx([7.0, 5.0])
    assert heights[list(regions.surface)] == pytest.approx(0.0)
    assert heights[list(regions.back)] == pytest.approx(0.0)
    assert heights[:54].min() == pytest.approx(-4.28)
    assert heights.max() < 0.5 * (40.0 - 10.7)
    ions = len(atoms) - 2, len(atoms) - 1
    assert [regions.face_below(atoms.positions, i) for i in ions] == [
        (regions.surface, regions.side),
        (regions.back, -regions.side),
    ]
    assert regions.gap(atoms.positions) == pytest.approx(40.0 - 10.7)
    assert "nearer surface (9 atoms and 9 atoms)" in region_table(atoms, regions)


def test_one_face_can_be_chosen():
    atoms, regions = choose_regions(periodic_slab(), faces="one")
    assert regions.back == ()
    assert regions.heights(atoms.positions)[[-2, -1]] == pytest.approx([7.0, 40.0 - 10.7 - 5.0])
    flat = periodic_slab()
    flat.pbc = [True, True, False]
    with pytest.raises(RegionError, match="periodic along z"):
        choose_regions(flat, faces="both")


def test_surface_of_the_moment_leaves_strays_out():
    """A molten surface: one atom that left, one that came; atoms that were deposited count when they are named."""
    atoms, regions = choose_regions(periodic_slab())
    top = list(regions.surface)
    atoms.positions[top[0], 2] += regions.side * 6.0
    atoms.positions[top[1:], 2] += regions.side * 0.5
    now = regions.with_surface_of(atoms.positions, atoms.cell.array, ())
    assert now.surface == tuple(top[1:])
    assert now.heights(atoms.positions)[-2] == pytest.approx(6.5)
    grown = atoms.copy()
    deposited = []
    for i in top:  # a second layer on the first
        grown += Atoms("Na", [atoms.positions[i] + [2.14, 2.14, regions.side * 2.14]])
        deposited.append(len(grown) - 1)
    now = regions.with_surface_of(grown.positions, grown.cell.array, deposited)
    assert set(now.surface) >= set(deposited[1:])
    assert not set(now.surface) & set(top[1:])
