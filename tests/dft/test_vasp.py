"""VASP without VASP: its input files and the reading of its output."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from qnep.dft import backend_settings
from qnep.dft.backends import vasp_parameters

pytestmark = pytest.mark.filterwarnings("ignore:Loaded VASP_PP_PATH from environment")
DATA = Path(__file__).parent / "data"


@pytest.fixture
def inputs(tmp_path, monkeypatch, water):
    """The files written for water, with pseudopotentials that hold a title only."""
    from ase.calculators.vasp import Vasp

    for element in ("H", "O"):
        folder = tmp_path / "potpaw_PBE" / element
        folder.mkdir(parents=True)
        (folder / "POTCAR").write_text(f"  PAW_PBE {element}\n   1.0\n End of Dataset\n")
    monkeypatch.setenv("VASP_PP_PATH", str(tmp_path))
    calculator = Vasp(
        directory=str(tmp_path / "run"),
        **vasp_parameters(water, (4, 4, 1), backend_settings("vasp")),
    )
    (tmp_path / "run").mkdir()
    calculator.write_input(water)
    return tmp_path / "run"


def test_incar_is_the_published_one(inputs):
    """arXiv:2604.07077; IVDW 12 is D3 with Becke-Johnson damping, ISMEAR 0 Gaussian smearing."""
    lines = (line.split("=") for line in (inputs / "INCAR").read_text().splitlines() if "=" in line)
    incar = {name.strip(): value.strip() for name, value in lines}
    assert float(incar["ENCUT"]) == 600.0
    assert float(incar["SIGMA"]) == 0.05
    assert float(incar["EDIFF"]) == 1e-6
    assert (incar["ISMEAR"], incar["IVDW"], incar["GGA"]) == ("0", "12", "PE")
    assert "KSPACING" not in incar


def test_kpoints_are_centred_on_gamma(inputs):
    lines = (inputs / "KPOINTS").read_text().splitlines()
    assert lines[2].strip().lower().startswith("gamma")
    assert lines[3].split() == ["4", "4", "1"]


@pytest.mark.parametrize("file", ["OUTCAR", "vasprun.xml"])
def test_output_of_two_sodium_atoms(file):
    """Energies as in the file: free -2.61, extrapolated to no entropy -2.60; the stress of 1.6 kB is -1e-3 eV/Å³."""
    atoms = read(DATA / "vasp" / file)
    assert atoms.get_chemical_symbols() == ["Na", "Na"]
    assert atoms.get_potential_energy() == pytest.approx(-2.60)
    assert atoms.get_potential_energy(force_consistent=True) == pytest.approx(-2.61)
    assert np.allclose(atoms.get_forces(), [[0, 0, 0.1], [0, 0, -0.1]])
    assert np.allclose(atoms.cell.lengths(), 4.2)
    # 1 kB = 0.1 GPa = 6.2415e-4 eV/Å³; VASP counts compression positive.
    assert atoms.get_stress() == pytest.approx(
        -6.2415e-4 * np.array([1.6, 1.6, 1.6, 0, 0, 0]), rel=1e-4
    )
