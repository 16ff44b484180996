"""The command `qnep md`: a readable input, a run, and going on after a kill."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
from ase import Atoms, units
from ase.constraints import FixAtoms, FixBondLengths, FixCartesian
from ase.io import read, write

from qnep import QNEP, random_model
from qnep.cli import main
from qnep.lammps.md_input import MDSettings, md_input
from qnep.lammps.md_run import complete_restarts, cut_table, cut_trajectory, locked
from qnep.lammps.md_structure import fixed_atoms, off_open_faces
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


@contextmanager
def when_unlocked(folder):
    """Wait until nobody works in the folder any more."""
    for _ in range(300):
        try:
            with locked(folder):
                yield
            return
        except BlockingIOError:
            time.sleep(0.1)
    raise TimeoutError(f"{folder} is still locked")


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
    with when_unlocked(folder):  # LAMMPS may die a moment later than its parent
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
        (["md", "start.extxyz", "nep.txt", "--ranks", "0"], "--ranks: wanted at least 1, got 0"),
        (
            ["md", "start.extxyz", "nep.txt", "--threads", "-2"],
            "--threads: wanted at least 1, got -2",
        ),
        *(
            (["md", "start.extxyz", "nep.txt", *words.split()], message)
            for words, message in {
                "--timestep -0.5": "timestep must be positive, got -0.5",
                "--timestep nan": "timestep must be positive, got nan",
                "--timestep inf": "timestep must be positive, got inf",
                "--temperature inf": "temperature must be positive, got inf K",
                "--thermo-interval 0": "thermo_interval must be positive, got 0",
                "--trajectory-interval -1": "trajectory_interval must be positive, got -1",
                "--restart-interval 0": "restart_interval must be positive, got 0",
                "--seed -1": "seed must be positive, got -1",
                "--pressure nan --ensemble npt": "pressure must be a number of bar, got nan",
                "--charge inf": "charge must be a number of e, got inf",
                "--slab 1": "slab must be a factor from 1.5 to 100",
                "second.txt --deviation-interval -5": "deviation_interval must be 0 or more, got -5",
            }.items()
        ),
        (["md", "none.extxyz", "nep.txt"], "none.extxyz"),
        (["md", "start.extxyz", "none.txt"], "none.txt"),
    ],
)
def test_wrong_arguments(arguments, message, structure, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("is_resumed", [False, True])
@pytest.mark.parametrize(
    ("ensemble", "words", "wanted"),
    [
        ("nvt", "--pressure 1", "npt"),
        ("nve", "--pressure 1", "npt"),
        ("nvt", "--anisotropic", "npt"),
        ("nve", "--anisotropic", "npt"),
        ("nve", "--final-temperature 400", "nvt or npt"),
    ],
)
def test_options_of_another_ensemble_are_refused(
    ensemble, words, wanted, is_resumed, structure, tmp_path, capsys
):
    """Even a default that is repeated: who names a pressure expects a barostat."""
    start = ["md", "start.extxyz", "nep.txt", *OPTIONS, "--ensemble", ensemble, "--write-only"]
    arguments = [*start, *words.split()]
    option = words.split()[0]
    message = f"{option}: wanted --ensemble {wanted}, got {ensemble}: "
    if is_resumed:
        assert main(start) == 0
        arguments = ["md", "--resume", "--write-only", *words.split()]
        if "--pressure" not in words:  # others than the default differ from the run's before all
            message = f"{option}: a resumed run keeps its settings"
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert is_resumed or not (tmp_path / "md").exists()


def test_a_pressure_and_a_ramp_where_they_belong(structure, tmp_path):
    words = "--ensemble npt --pressure 5 --anisotropic --final-temperature 400 --write-only"
    assert main(["md", "start.extxyz", "nep.txt", *OPTIONS, *words.split()]) == 0
    assert re.search(r"fix dynamics all npt temp 100 400 .* aniso 5 5 ", md_text(tmp_path))


def md_text(tmp_path) -> str:
    return (tmp_path / "md" / "in.md").read_text()


def test_a_charge_needs_a_model_with_charges(structure, tmp_path, capsys):
    random_model("Na C O", seed=2).write("plain.txt")
    start = ["md", "start.extxyz", "plain.txt", *OPTIONS, "--write-only", "--charge"]
    assert main([*start, "-1"]) == 2
    message = "--charge: wanted a model with charges, got -1 e for plain.txt without any"
    assert message in capsys.readouterr().err
    assert not (tmp_path / "md").exists()
    assert main([*start, "0"]) == 0
    assert main(["md", "start.extxyz", "nep.txt", "--folder", "x", *start[3:], "-1"]) == 0


@pytest.fixture
def free_energy_model(structure):
    random_model(
        "Na C O", has_temperature=True, radial_cutoff=4.5, n_neurons=8, energy_scale=0.1, seed=5
    ).write("free.txt")


@pytest.mark.parametrize("ensemble", ["nvt", "nve"])
def test_a_model_of_the_free_energy_has_the_temperature_of_the_run(
    ensemble, free_energy_model, tmp_path
):
    """Energy of the first step against the calculator, also of the run that is resumed; a committee of both kinds."""
    words = ["--ensemble", ensemble, "--temperature", "900", "--steps", "10"]
    assert main(["md", "start.extxyz", "free.txt", "nep.txt", *OPTIONS, *words]) == 0
    atoms = read("start.extxyz")
    energies = {}
    for temperature in (0.0, 900.0):
        atoms.calc = QNEP("free.txt", temperature=temperature)
        energies[temperature] = atoms.get_potential_energy()
    found = read_thermo(tmp_path / "md" / "log.lammps")["PotEng"][0]
    assert found == pytest.approx(
        energies[900.0], abs=1e-6 * len(atoms)
    )  # eV, digits of the data file
    assert abs(energies[0.0] - energies[900.0]) > 1e-3
    assert main(["md", "--resume", "--steps", "20"]) == 0
    assert "temperature 900\n" in (tmp_path / "md" / "in.md.resumed").read_text()


def test_a_ramp_with_a_model_of_the_free_energy_is_refused(free_energy_model, tmp_path, capsys):
    assert main(["md", "start.extxyz", "nep.txt", "free.txt", *OPTIONS, *RAMP]) == 2
    message = r"final_temperature must be left out for a model of the free energy, .* \(100.0 K\), got 900.0 K"
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "md").exists()


@pytest.mark.parametrize(
    ("pbc", "has_cell", "options", "message"),
    [
        ("T T F", True, [], "periodic in x, y and z, got pbc T T F .* run it with --slab"),
        ("F F F", True, [], "got pbc F F F .* set pbc in the file, after adding vacuum"),
        ("F F F", False, [], "got pbc F F F and a volume of 0 Å³: give it one"),
        ("T T T", True, ["--slab", "3"], "not in z .*, got pbc T T T .* or leave out --slab"),
        ("T F F", True, ["--slab", "3"], "not in z .*, got pbc T F F .* set pbc in the file"),
    ],
)
def test_a_structure_is_not_made_periodic(
    pbc, has_cell, options, message, structure, random_electrolyte, tmp_path, capsys
):
    atoms = random_electrolyte(40)
    atoms.pbc = [letter == "T" for letter in pbc.split()]
    if not has_cell:
        atoms.cell = None
    write("other.extxyz", atoms)
    assert main(["md", "other.extxyz", "nep.txt", "--write-only", *OPTIONS, *options]) == 2
    assert re.search(f"other.extxyz: wanted a cell .*{message}", capsys.readouterr().err)
    assert not (tmp_path / "md").exists()


def test_a_slab_runs(structure, random_electrolyte, tmp_path):
    atoms = random_electrolyte(40)
    atoms.pbc = True, True, False
    atoms.center(vacuum=2.0, axis=2)
    write("slab.extxyz", atoms)
    assert main(["md", "slab.extxyz", "nep.txt", "--slab", "3", "--steps", "10", *OPTIONS]) == 0
    assert steps_of(tmp_path / "md" / "trajectory.lammpstrj") == [0, 10]


def test_models_of_the_user_are_not_replaced(structure, tmp_path, capsys):
    """A second model first, in the folder of both: its name there would be that of the other one."""
    texts = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert main(["md", "start.extxyz", "second.txt", "nep.txt", "--folder", ".", *OPTIONS]) == 2
    assert "nep.txt: the run would replace what is there" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == texts


def test_a_structure_of_the_user_is_not_replaced(structure, tmp_path, capsys):
    (tmp_path / "start.extxyz").rename(tmp_path / "system.data")
    (tmp_path / "system.data").write_text("kept")
    (tmp_path / "restart.5").write_text("kept")
    write("start.extxyz", Atoms("Na", cell=[9, 9, 9], pbc=True))
    assert main(["md", "start.extxyz", "nep.txt", "--folder", ".", *OPTIONS]) == 2
    assert "system.data, restart.5: the run would replace" in capsys.readouterr().err
    assert (tmp_path / "system.data").read_text() == "kept"


def test_a_model_in_its_place_is_used(structure, tmp_path):
    (tmp_path / "nep2.txt").write_bytes((tmp_path / "second.txt").read_bytes())
    text = (tmp_path / "nep.txt").read_text()
    models = ["nep.txt", "second.txt"]
    options = ["--folder", ".", "--write-only", *OPTIONS]
    assert main(["md", "start.extxyz", *models, *options]) == 0
    assert (tmp_path / "nep.txt").read_text() == text
    assert '"nep.txt" "nep2.txt"' in (tmp_path / "in.md").read_text()


def test_the_final_structure_is_written_after_all(structure, tmp_path):
    """Of a run that was killed between its last restart file and its end, also when it was extended before."""
    folder = tmp_path / "md"
    final = folder / "final.data"
    assert main(["md", "start.extxyz", "nep.txt", *OPTIONS, "--steps", "40"]) == 0
    whole = final.read_text()
    final.unlink()
    assert main(["md", "--resume"]) == 0
    assert "timestep = 40" in whole and "timestep = 40" in final.read_text()
    assert steps_of(folder / "trajectory.lammpstrj") == [0, 10, 20, 30, 40]
    assert main(["md", "--resume", "--steps", "80", "--write-only"]) == 0
    assert not final.exists()  # of the shorter run


@pytest.mark.parametrize("kspace", ["msm 1e-5", "ewld 1e-5", "pppm", "ewald fine", "pppm 0", ""])
def test_a_wrong_kspace_is_refused_before_anything_is_written(kspace, structure, tmp_path, capsys):
    assert main(["md", "start.extxyz", "nep.txt", "--kspace", kspace, *OPTIONS]) == 2
    message = f"kspace must be pppm ACCURACY, .* got '{kspace}'"
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "md").exists()


def test_a_run_that_failed_at_once_does_not_block_its_folder(structure, tmp_path, capsys):
    """What LAMMPS said is shown; the corrected command begins anew and keeps the input that failed."""
    start = ["md", "start.extxyz", "nep.txt", "--steps", "10", *OPTIONS]
    assert main([*start, "--kspace", "pppm 1e-5 order 99"]) == 1
    assert "keyword order: wanted" in capsys.readouterr().err
    assert main(start) == 0
    assert steps_of(tmp_path / "md" / "trajectory.lammpstrj") == [0, 10]
    assert "order 99" in (tmp_path / "md" / "in.md.1").read_text()
    assert main(start) == 2  # it holds a run now
    assert "holds a run already" in capsys.readouterr().err


def test_a_finished_run_is_known_between_restart_files(structure, tmp_path, capsys):
    """30 steps with a restart file every 20: nothing is left to do, and more steps go on from the last one."""
    folder = tmp_path / "md"
    assert main(["md", "start.extxyz", "nep.txt", *OPTIONS, "--steps", "30"]) == 0
    trajectory = (folder / "trajectory.lammpstrj").read_bytes()
    capsys.readouterr()
    assert main(["md", "--resume"]) == 0
    assert "finished: 30 steps" in capsys.readouterr().out
    assert (folder / "trajectory.lammpstrj").read_bytes() == trajectory
    assert main(["md", "--resume", "--steps", "50"]) == 0
    assert "read_restart restart.30\n" in (folder / "in.md.resumed").read_text()
    assert steps_of(folder / "trajectory.lammpstrj") == [0, 10, 20, 30, 40, 50]


def test_one_process_at_a_time_works_in_a_folder(structure, tmp_path, capsys):
    start = ["md", "start.extxyz", "nep.txt", "--steps", "10", *OPTIONS]
    assert main([*start, "--write-only"]) == 0
    files = sorted(path.name for path in (tmp_path / "md").iterdir())
    with locked(tmp_path / "md"):
        assert main(["md", "--resume"]) == 2
    assert "another process works in md " in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "md").iterdir()) == files
    assert main(["md", "--resume"]) == 0


def test_lammps_holds_the_lock_too(structure, tmp_path):
    """It goes on where only its parent is killed, and would write beside a resumed run."""
    arguments = ["md", "start.extxyz", "nep.txt", "--steps", "1000000", *OPTIONS]
    process = subprocess.Popen(
        [sys.executable, "-m", "qnep.cli", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    folder = tmp_path / "md"
    try:
        for _ in range(600):
            if complete_restarts(folder):
                break
            time.sleep(0.1)
        process.kill()
        process.wait()
        with pytest.raises(BlockingIOError, match="a LAMMPS that outlived one"), locked(folder):
            pass
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def fixed_electrolyte(random_electrolyte, fixed) -> Atoms:
    """With velocities, which fixed atoms must not keep."""
    atoms = random_electrolyte(40)
    atoms.set_momenta(np.random.default_rng(1).normal(size=(40, 3)))
    atoms.set_constraint(FixAtoms(fixed))
    return atoms


@pytest.mark.parametrize("options", [[], ["--ensemble", "nvt"], ["--keep-velocities"]])
def test_fixed_atoms_stay(options, structure, random_electrolyte, tmp_path):
    """Also in a resumed run. The temperature is that of the others: 3 degrees of freedom for each."""
    fixed = [0, 1, 2, 5, 30, 31]
    write("fixed.extxyz", fixed_electrolyte(random_electrolyte, fixed))
    arguments = ["md", "fixed.extxyz", "nep.txt", *OPTIONS, *options, "--steps", "20"]
    assert main(arguments) == 0
    assert main(["md", "--resume", "--steps", "40"]) == 0
    folder = tmp_path / "md"
    assert json.loads((folder / "md.json").read_text())["frozen"] == ["1:3", "6", "31:32"]
    frames = read(folder / "trajectory.lammpstrj", index=":")
    assert len(frames) == 5
    mobile = np.setdiff1d(np.arange(40), fixed)
    for frame in frames:
        moved = np.abs(frame.positions - frames[0].positions)
        assert moved[fixed].max() == 0
        assert frame is frames[0] or moved[mobile].max(axis=1).min() > 0
        assert not frame.get_velocities()[fixed].any()
    thermo = read_thermo(folder / "log.lammps")
    speeds = frames[-1].get_velocities()[mobile]
    masses = read(tmp_path / "fixed.extxyz").get_masses()[mobile]
    temperature = (masses * (speeds**2).sum(axis=1)).sum() / (3 * len(mobile) * units.kB)
    assert thermo["Temp"][-1] == pytest.approx(temperature, rel=1e-3)  # masses of ASE and LAMMPS


def test_long_lists_of_fixed_atoms_take_several_lines(random_electrolyte):
    atoms = Atoms(f"Na{500}", constraint=FixAtoms(range(0, 500, 2)))
    settings = MDSettings(models=("nep.txt",), elements=("Na",), frozen=fixed_atoms(atoms))
    commands = md_input(settings).replace(" &\n", " ").splitlines()
    (group,) = (line.split() for line in commands if line.startswith("group frozen id"))
    assert [int(i) for i in group[3:]] == list(range(1, 501, 2))
    assert max(map(len, md_input(settings).splitlines())) < 140


def test_a_move_mask_of_three_columns():
    """As ASE reads it: a constraint for each atom, be it fixed, free, or neither."""
    atoms = Atoms("Na3", positions=np.eye(3))
    masks = [[True] * 3, [False] * 3, [True] * 3]
    atoms.set_constraint([FixCartesian(i, mask) for i, mask in enumerate(masks)])
    assert fixed_atoms(atoms) == ("1", "3")


@pytest.mark.parametrize(
    ("constraint", "options", "message"),
    [
        (FixCartesian([3], [False, False, True]), [], "no other constraint, got FixCartesian"),
        (FixBondLengths([(0, 1)]), [], "no other constraint, got FixBondLengths"),
        (FixAtoms(range(40)), [], "wanted atoms that can move, got 40 that are all fixed"),
        (
            FixAtoms([0]),
            ["--ensemble", "npt"],
            "npt moves all atoms with the cell, got .* take nvt",
        ),
    ],
)
def test_constraints_that_cannot_be_kept(
    constraint, options, message, structure, random_electrolyte, tmp_path, capsys
):
    atoms = random_electrolyte(40)
    atoms.set_constraint(constraint)
    write("other.traj", atoms)
    assert main(["md", "other.traj", "nep.txt", *OPTIONS, *options]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "md").exists()


def test_velocities_to_keep_must_be_there(structure, tmp_path, capsys):
    assert main(["md", "start.extxyz", "nep.txt", "--keep-velocities", *OPTIONS]) == 2
    assert "start.extxyz has no velocities" in capsys.readouterr().err
    assert not (tmp_path / "md").exists()


def test_a_slab_is_moved_off_the_open_faces(structure, random_electrolyte, tmp_path, capsys):
    """Lowest atom in the face, as that of two electrodes of `qnep build`: the vacuum is shared, the shape is kept."""
    atoms = random_electrolyte(40)
    atoms.pbc = True, True, False
    atoms.center(vacuum=2.0, axis=2)
    middle = atoms.positions.copy()
    atoms.positions[:, 2] -= 2.0
    write("slab.extxyz", atoms)
    options = ["--slab", "3", "--temperature", "1000", "--steps", "40"]
    assert main(["md", "slab.extxyz", "nep.txt", *OPTIONS, *options]) == 0
    assert "moved all atoms by +2.000 Å along z" in capsys.readouterr().out
    first = read(tmp_path / "md" / "trajectory.lammpstrj", index=0)
    np.testing.assert_allclose(first.positions, middle, atol=1e-6)  # 8 digits in both files


def test_a_slab_with_vacuum_stays_where_it_is(random_electrolyte):
    atoms = random_electrolyte(40)
    atoms.center(vacuum=2.0, axis=2)
    atoms.positions[:, 2] -= 0.9
    same, shift = off_open_faces(atoms)
    assert shift == 0
    np.testing.assert_array_equal(same.positions, atoms.positions)


def test_a_slab_without_vacuum_is_refused(structure, random_electrolyte, tmp_path, capsys):
    atoms = random_electrolyte(40)
    atoms.pbc = True, True, False
    atoms.center(vacuum=0.4, axis=2)
    write("slab.extxyz", atoms)
    assert main(["md", "slab.extxyz", "nep.txt", "--slab", "3", *OPTIONS]) == 2
    assert "wanted 2 Å of vacuum or more along z, got 0.8 Å" in capsys.readouterr().err
    assert not (tmp_path / "md").exists()


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


def test_numbers_keep_their_digits():
    settings = MDSettings(
        models=("nep.txt",),
        elements=("Na",),
        ensemble="npt",
        charge=0.123456789,
        temperature=300.12345678,
        pressure=1013.2501234,
        timestep=0.1,
    )
    text = md_input(settings)
    assert "charge 0.123456789\n" in text
    assert "velocity all create 300.12345678 1 " in text
    assert "timestep 0.0001 " in text
    assert "temp 300.12345678 300.12345678 0.01 iso 1013.2501234 1013.2501234 0.1\n" in text


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
