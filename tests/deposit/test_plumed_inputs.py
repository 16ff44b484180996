"""Every shipped PLUMED input is one that PLUMED accepts and that a few steps of dynamics survive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from lammps_inputs import script, write_data

from qnep.deposit.barrier import find_columns
from qnep.deposit.kernel import PlumedError
from qnep.deposit.plumed_input import check_plumed_input, read_plumed_input

FOLDER = Path(__file__).resolve().parents[2] / "plumed_inputs"
INPUTS = sorted(FOLDER.glob("*.dat"))
N_ATOMS = 60  # more than any of the files names


def test_the_promised_files_are_there():
    assert {path.stem for path in INPUTS} == {
        "na_deposition", "na_desolvation", "ec_ring_opening", "p_f_cleavage", "opes_example", "walls",
    }  # fmt: skip


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.stem)
def test_input_states_its_units_and_parses(path):
    pytest.importorskip("plumed", reason="no PLUMED kernel: pip install --no-deps hillclimber")
    assert "Units of this file: length Å, energy eV, time ps." in path.read_text()
    first = read_plumed_input(path)[0]
    assert first.text == "UNITS LENGTH=A ENERGY=eV TIME=ps"
    check_plumed_input(path, N_ATOMS)


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.stem)
def test_input_runs_as_it_is(path, tmp_path, run_lammps):
    """A lattice of free atoms: nothing physical, but every collective variable is evaluated and biased."""
    places = np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 3)[:N_ATOMS] * 2.4
    atoms = Atoms(["Na"] * N_ATOMS, places, cell=[9.6] * 3, masses=[20.0] * N_ATOMS)
    write_data(tmp_path / "frame.data", atoms)
    (tmp_path / "plumed.dat").write_text(path.read_text())
    run = run_lammps(
        script(body="fix nve all nve\nrun 200").replace("timestep 0.001", "timestep 0.0005")
    )
    assert run.status == 0, run.output
    assert np.isfinite(np.loadtxt(tmp_path / "COLVAR")).all()


@pytest.mark.parametrize("name", ["ec_ring_opening", "opes_example", "p_f_cleavage"])
def test_input_is_one_for_barriers(name):
    assert find_columns(FOLDER / f"{name}.dat").bias


def test_wrong_line_is_named(tmp_path):
    pytest.importorskip("plumed", reason="no PLUMED kernel: pip install --no-deps hillclimber")
    (tmp_path / "a.dat").write_text(
        "d: DISTANCE ATOMS=1,2\n\n# c\nr: RESTRAINT ...\n ARG=q AT=1\n KAPPA=1\n...\n"
    )
    with pytest.raises(PlumedError, match=r"line 4:\n.*ARG=q(.|\n)*cannot find action named q"):
        check_plumed_input(tmp_path / "a.dat", 5)
