"""The command `qnep md`: a readable input, a run, and going on after a kill."""

from __future__ import annotations

import json
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
    assert steps_of(folder / "trajectory.lammpstrj") == expected
    np.testing.assert_array_equal(np.loadtxt(folder / "deviation.txt")[:, 0], expected)


RAMP = ["--ensemble", "nvt", "--temperature", "100", "--final-temperature", "900"]


def test_a_resumed_ramp_goes_on_where_it_was(structure, tmp_path):
    """Halfway through heating; equal to 1e-6 as only rounding differs, atoms stand in another order."""
    arguments = ["md", "start.extxyz", "nep.txt", *OPTIONS, *RAMP, "--steps", "200"]
    assert main([*arguments, "--restart-interval", "100"]) == 0
    folder = tmp_path / "md"
    (folder / "restart.200").unlink()
    assert main(["md", "--resume"]) == 0
    whole, resumed = (read_thermo(folder / name) for name in ("log.lammps.1", "log.lammps"))
    assert resumed["Step"] == whole["Step"][10:] == list(range(100, 201, 10))
    np.testing.assert_allclose(resumed["Temp"], whole["Temp"][10:], rtol=1e-6)


def test_more_steps_extend_a_run(structure, tmp_path, capsys):
    """A finished run, then twice as many steps: every frame once, and nothing else has changed."""
    folder = tmp_path / "md"
    assert main(["md", "start.extxyz", "nep.txt", *OPTIONS, "--steps", "40"]) == 0
    settings = json.loads((folder / "md.json").read_text())
    assert main(["md", "--resume", "--steps", "80", "--temperature", "100"]) == 0
    assert steps_of(folder / "trajectory.lammpstrj") == list(range(0, 81, 10))
    assert json.loads((folder / "md.json").read_text()) == settings | {"n_steps": 80}
    assert "run 80 upto" in (folder / "in.md").read_text()
    capsys.readouterr()
    assert main(["md", "--resume", "--steps", "80"]) == 0
    assert "finished: 80 steps" in capsys.readouterr().out


def test_more_steps_before_the_first_restart_file(structure, tmp_path):
    arguments = ["md", "start.extxyz", "nep.txt", *OPTIONS, "--steps", "10"]
    assert main([*arguments, "--write-only"]) == 0
    assert main(["md", "--resume", "--steps", "20"]) == 0
    assert steps_of(tmp_path / "md" / "trajectory.lammpstrj") == [0, 10, 20]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperature", "350"], "--temperature: .* wanted 100.0 as in md/md.json, got 350.0"),
        (["--final-temperature", "400"], "--final-temperature: .* wanted 900.0 .* got 400.0"),
        (["--ensemble", "npt"], "--ensemble: .* wanted nvt .* got npt"),
        (["--anisotropic"], "--anisotropic: .* wanted False .* got True"),
        (["--keep-velocities"], "--keep-velocities: .* wanted False .* got True"),
        (["--slab", "3"], "--slab: .* wanted None .* got 3.0"),
        (["--charge", "1"], "--charge: .* wanted 0.0 .* got 1.0"),
        (["--kspace", "ewald 1e-5"], "--kspace: .* wanted pppm 1e-5 .* got ewald 1e-5"),
        (["--precision", "single"], "--precision: .* wanted double .* got single"),
        (["--restart-interval", "5"], "--restart-interval: .* wanted 20 .* got 5"),
        (["--steps", "50"], "--steps: the run in md has 100, more are possible, got 50"),
        (["--steps", "200"], "--steps: .* would change the ramp that it has begun, got 200"),
        (["start.extxyz", "nep.txt"], "structure and models from md, leave out start.extxyz nep"),
    ],
)
def test_a_resumed_run_keeps_its_settings(arguments, message, structure, tmp_path, capsys):
    """Options that agree with the run may be repeated, others are named with both values; nothing is written."""
    start = ["md", "start.extxyz", "nep.txt", *OPTIONS, *RAMP, "--steps", "100", "--write-only"]
    assert main(start) == 0
    texts = {path.name: path.read_text() for path in (tmp_path / "md").iterdir()}
    assert main(["md", "--resume", "--write-only", *OPTIONS, *RAMP, "--steps", "100"]) == 0
    assert main(["md", "--resume", *arguments]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert {path.name: path.read_text() for path in (tmp_path / "md").iterdir()} == texts


def test_settings_of_another_program_are_refused(structure, tmp_path, capsys):
    (tmp_path / "md").mkdir()
    for text in ('{"models": [], "elements": [], "colour": 1}', "[]", "{"):
        (tmp_path / "md" / "md.json").write_text(text)
        assert main(["md", "--resume"]) == 2
        assert "md/md.json: wanted the settings of a run" in capsys.readouterr().err


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
    assert "run 100 upto start 0" in text  # of a ramp


def test_keywords_of_the_pair_style():
    settings = MDSettings(
        models=("nep.txt",), elements=("Na",), slab=3.0, charge=-1.0, precision="single"
    )
    words = "pair_style qnep kspace pppm 1e-5 slab 3 charge -1 precision single\n"
    assert words in md_input(settings)
    assert "boundary p p f" in md_input(settings)


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
