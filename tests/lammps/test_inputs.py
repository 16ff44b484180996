"""The inputs of lammps_inputs/ run to their end, at toy size with a random model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from qnep import random_model

FOLDER = Path(__file__).resolve().parents[2] / "lammps_inputs"
INPUTS = sorted(path.name for path in FOLDER.glob("in.*"))
WRITTEN = {
    "in.bulk_electrolyte": "bulk_electrolyte.lammpstrj",
    "in.constant_potential": "constant_potential.lammpstrj",
    "in.interface": "interface.lammpstrj",
    "in.npt": "final.npt.data",
    "in.melt": "melt.lammpstrj",
    "in.committee": "deviation.committee.txt",
}


def test_every_input_is_listed():
    assert sorted(WRITTEN) == INPUTS
    readme = (FOLDER / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in INPUTS)


@pytest.mark.parametrize("name", INPUTS)
def test_input_runs(name, run_lammps, tmp_path):
    for index, model in enumerate(("nep.txt", "nep2.txt")):
        random_model(
            "C F H Na O P",
            charge_mode=2,
            radial_cutoff=4.0,
            angular_cutoff=3.0,
            n_max=(2, 2),
            basis_size=(4, 4),
            n_neurons=5,
            zbl=(0.7, 1.4),
            energy_scale=0.05,
            charge_scale=0.2,
            seed=index,
        ).write(str(tmp_path / model))
    shutil.copytree(FOLDER / "data", tmp_path / "data")
    variables = {"model": "nep.txt", "second": "nep2.txt", "steps": 10}
    run = run_lammps((FOLDER / name).read_text(), variables=variables)
    assert run.status == 0, run.screen
    assert (tmp_path / WRITTEN[name]).stat().st_size > 0


@pytest.mark.parametrize("name", INPUTS)
def test_header_says_what_and_how_long(name):
    header = [
        line for line in (FOLDER / name).read_text().splitlines()[:12] if line.startswith("#")
    ]
    assert any(line.startswith("# Shows:") for line in header)
    assert any(line.startswith("# Takes:") for line in header)
