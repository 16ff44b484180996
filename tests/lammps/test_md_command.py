"""The command `qnep md`: a readable input, a run, and going on after a kill."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from ase.io import write

from qnep import random_model
from qnep.cli import main
from qnep.lammps.md_input import MDSettings, md_input
from qnep.lammps.md_run import complete_restarts, cut_table, cut_trajectory
from qnep.report.thermo_log import read_thermo

OPTIONS = [
    "--ensemble",
    "nve",
    "--temperature",
    "100",
    "--timestep",
    "0.5",
    "--thermo-interval",
    "10",
    "--trajectory-interval",
    "10",
    "--restart-interval",
    "20",
]


@pytest.fixture
def structure(tmp_path, random_electrolyte, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for index, name in enumerate(("nep.txt", "second.txt")):
        random_model(
            "Na C O",
            charge_mode=2,
            radial_cutoff=4.5,
            n_max=(2, 2),
            n_neurons=8,
            zbl=(1.0, 2.0),
            energy_scale=0.1,
            charge_scale=0.2,
            seed=index,
        ).write(name)
    write("start.extxyz", random_electrolyte(40))


def steps_of(path) -> list[int]:
    return [int(step) for step in re.findall(r"ITEM: TIMESTEP\n(\d+)", path.read_text())]


@pytest.mark.mpi
def test_run_writes_a_trajectory(structure, tmp_path):
    status = main(["md", "start.extxyz", "nep.txt", "--steps", "40", "--ranks", "2", *OPTIONS])
    assert status == 0
    assert steps_of(tmp_path / "md" / "trajectory.lammpstrj") == [0, 10, 20, 30, 40]
    text = (tmp_path / "md" / "in.md").read_text()
    assert 'pair_coeff * * "nep.txt" C Na O' in text


def test_single_precision_is_asked_of_the_pair_style(structure, tmp_path):
    """The same start in both precisions: nearly the same energies, and not the same digits."""
    energies = []
    for precision in ("double", "single"):
        folder = tmp_path / precision
        words = ["--steps", "10", "--folder", str(folder), "--precision", precision]
        assert main(["md", "start.extxyz", "nep.txt", *OPTIONS, *words]) == 0
        energies.append(read_thermo(folder / "log.lammps")["PotEng"][0])
    assert energies[0] == pytest.approx(energies[1], rel=1e-5)
    assert energies[0] != energies[1]


def test_killed_run_goes_on(structure, tmp_path):
    """SIGKILL in the middle, then --resume: every frame once, and the end that an undisturbed run reaches."""
    arguments = [
        "md",
        "start.extxyz",
        "nep.txt",
        "second.txt",
        "--steps",
        "4000",
        "--deviation-interval",
        "10",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "qnep.cli", *arguments, *OPTIONS],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    folder = tmp_path / "md"
    for _ in range(600):
        if len(complete_restarts(folder)) >= 2:
            break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    last = complete_restarts(folder)[-1]
    assert 0 < last < 4000
    settings = (
        (folder / "md.json").read_text().replace('"n_steps": 4000', f'"n_steps": {last + 40}')
    )
    (folder / "md.json").write_text(settings)
    assert main(["md", "--resume"]) == 0
    expected = list(range(0, last + 41, 10))
    assert steps_of(folder / "trajectory.lammpstrj") == expected
    np.testing.assert_array_equal(np.loadtxt(folder / "deviation.txt")[:, 0], expected)
    assert main(["md", "--resume"]) == 0  # nothing left to do


def test_a_run_is_not_overwritten(structure, capsys):
    for _ in range(2):
        status = main(["md", "start.extxyz", "nep.txt", "--steps", "10", "--write-only", *OPTIONS])
    assert status == 2
    assert "holds a run already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["md"], "wants a structure and at least one model"),
        (["md", "--resume"], "no run to resume"),
        (["md", "start.extxyz", "nep.txt", "--steps", "0"], "n_steps must be positive, got 0"),
        (
            ["md", "start.extxyz", "nep.txt", "--temperature", "-5"],
            "temperature must be positive, got -5.0 K",
        ),
        (
            ["md", "start.extxyz", "nep.txt", "--deviation-interval", "5"],
            "needs at least two models, got one",
        ),
        (["md", "start.extxyz", "nep.txt", "--slab", "3", "--ensemble", "npt"], "periodic in z"),
        (["md", "none.extxyz", "nep.txt"], "none.extxyz"),
        (["md", "start.extxyz", "none.txt"], "none.txt"),
    ],
)
def test_wrong_arguments(arguments, message, structure, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_wrong_kspace_keyword_shows_what_lammps_said(structure, capsys):
    assert main(["md", "start.extxyz", "nep.txt", "--kspace", "msm 1e-5", *OPTIONS]) != 0
    assert "keyword kspace: wanted pppm ACCURACY" in capsys.readouterr().err


def test_input_of_a_resumed_run_reads_the_restart_file():
    settings = MDSettings(models=("nep.txt",), elements=("Na",), n_steps=100)
    text = md_input(settings, restart_step=60)
    assert "read_restart restart.60" in text
    assert "velocity" not in text
    assert "run 100 upto" in text


def test_cut_trajectory_keeps_whole_older_frames(tmp_path):
    frame = (
        "ITEM: TIMESTEP\n{}\nITEM: NUMBER OF ATOMS\n2\n"
        "ITEM: BOX BOUNDS pp pp pp\n0 1\n0 1\n0 1\nITEM: ATOMS id\n1\n2\n"
    )
    path = tmp_path / "t.lammpstrj"
    path.write_text(frame.format(0) + frame.format(10) + frame.format(20)[:-3])
    cut_trajectory(path, 30)
    assert steps_of(path) == [0, 10]
    cut_trajectory(path, 10)
    assert steps_of(path) == [0]


def test_cut_table_keeps_header_and_older_rows(tmp_path):
    path = tmp_path / "table.txt"
    path.write_text("# head\n0 1.0\n10 2.0\n20 3")
    cut_table(path, 15)
    assert path.read_text() == "# head\n0 1.0\n10 2.0\n"
