"""Deposition runs: counts, rates, sources, kills, refusals - with a cheap pair potential and real PLUMED."""

from __future__ import annotations

import contextlib
import csv
import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from toy_interface import ANODE, ELEMENTS, FORCE_FIELD, SEI, toy_interface

from qnep import random_model
from qnep.build.output import write_lammps_data
from qnep.cli import main
from qnep.deposit import Deposition, ForceField, Protocol, choose_regions
from qnep.deposit.census import find_molecules, find_residents, take_census
from qnep.deposit.dynamics import Dynamics, setup_lines
from qnep.deposit.engine import LammpsError
from qnep.deposit.figure import draw_deposition
from qnep.deposit.frame import Frame, read_frame, write_frame
from qnep.deposit.ion_choice import NoSodiumLeft, choose_ion, coordination_numbers, insert_sodium
from qnep.deposit.regions import select
from qnep.deposit.state import StateError

FORCES = ForceField(FORCE_FIELD, ELEMENTS)
QUICK = {
    "interval_ps": 0.6, "timestep_fs": 1.5, "equilibration_ps": 0.15, "dump_ps": 0.15, "bias": "moving",
    "hill_ps": 0.03,
}  # fmt: skip


def start(folder, program, n_sodium=14, axis=2, periodic=False, **changes) -> Deposition:
    atoms = toy_interface(n_sodium, periodic=periodic)
    if axis != 2:  # a cyclic exchange of the axes keeps the cell one that LAMMPS takes
        atoms.positions = np.roll(atoms.positions, axis + 1, axis=1)
        atoms.cell = np.diag(np.roll(atoms.cell.lengths(), axis + 1))
        atoms.pbc = np.roll(atoms.pbc, axis + 1)
    atoms, regions = choose_regions(atoms, axis, anode=ANODE, sei=SEI)
    frozen = tuple(np.flatnonzero(select(atoms, ANODE, axis)).tolist())
    return Deposition.start(
        folder, atoms, regions, FORCES, Protocol(**{**QUICK, "frozen": frozen, **changes}), program
    )


def assert_counts_add_up(rows, n_electrolyte, n_sei=4, reservoir=False):
    for row in rows:
        come_in = row["interval"] if reservoir else 0
        assert (
            row["deposited"] + row["in_sei"] + row["in_electrolyte"]
            == n_electrolyte + n_sei + come_in
        )


def test_noise_holds_the_centre_only_of_free_slabs():
    """Noise without a net force would cool a molecule, or what moves on frozen atoms."""

    def bath(dynamics):
        lines = setup_lines(dynamics, FORCES, (True, True, True), 0, 0, biased=False)
        return next(line for line in lines if line.startswith("fix bath")).split()[-1]

    assert bath(Protocol()) == "yes"
    assert bath(Protocol(frozen=(0, 1))) == "no"
    assert bath(Dynamics()) == "no"


@pytest.mark.parametrize(
    ("axis", "changes"),
    [
        (2, {}),
        (0, {"bias": "metadynamics", "choice": "least-coordinated"}),
        (1, {"variables": ("height", "coordination"), "choice": "random"}),
        (2, {"variables": ("coordination",), "bias": "metadynamics"}),
        (2, {"periodic": True}),
    ],
    ids=["moving", "metadynamics-x", "both-y", "coordination", "periodic"],
)
def test_protocols_run(axis, changes, tmp_path, lammps_program):
    run = start(tmp_path / "run", lammps_program, axis=axis, **changes)
    run.run(1)
    rows = run.state.rows
    assert [row["time_ps"] for row in rows] == pytest.approx([0.15, 0.75])
    assert_counts_add_up(rows, 14)
    with (run.folder / "deposition.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [int(row["deposited"]) for row in written] == [row["deposited"] for row in rows]
    for name in (
        "regions.png",
        "regions.txt",
        "deposition.png",
        "trajectory.dump",
        "interval_0001/COLVAR",
    ):
        assert (run.folder / name).stat().st_size > 0


def test_restraint_brings_the_ion_down_and_lets_it_go(tmp_path, lammps_program):
    """A stiff restraint carries one ion from the electrolyte to contact; the run stops pulling on arrival."""
    run = start(tmp_path / "run", lammps_program, n_sodium=1, interval_ps=3.0, spring=5.0)
    run.run(1)
    before, after = run.state.rows
    assert before["deposited"] == 0
    assert after["deposited"] >= 1
    assert after["arrival_ps"] < after["time_ps"]
    heights = np.loadtxt(run.folder / "interval_0001" / "COLVAR")[:, 1]
    assert heights[0] > 7.0
    assert heights[-1] < 5.0
    assert after["bias_work_eV"] == pytest.approx(after["total_bias_work_eV"])


def test_ion_goes_to_the_nearer_of_two_faces(tmp_path, lammps_program):
    """A periodic graphite slab: an ion behind it is carried to its back, and counts as deposited there."""
    atoms = toy_interface(n_sodium=0, periodic=True)
    keep = atoms.symbols == "C"
    atoms = atoms[keep | (atoms.positions[:, 2] > 10.5)]
    atoms += Atoms("Na", [[6.0, 6.4, 27.2]])  # under the slab's image at 34.7 Å, 7.5 Å from it
    near = np.linalg.norm(atoms.positions - atoms.positions[-1], axis=1) < 2.5
    near[-1] = False
    molecule = atoms.positions[:, 2]
    atoms = atoms[~(near | ((molecule > 26.0) & (molecule < 34.5) & ~(atoms.symbols == "Na")))]
    atoms, regions = choose_regions(atoms, anode=ANODE, sei="none", faces="both")
    frozen = tuple(np.flatnonzero(select(atoms, ANODE, 2)).tolist())
    protocol = Protocol(
        **{**QUICK, "frozen": frozen, "interval_ps": 3.0, "spring": 5.0, "equilibration_ps": 0.01}
    )
    run = Deposition.start(tmp_path / "run", atoms, regions, FORCES, protocol, lammps_program)
    run.run(1)
    before, after = run.state.rows
    assert before["deposited"] == 0
    assert after["deposited"] == 1
    assert after["arrival_ps"] < after["time_ps"]
    start_height = np.loadtxt(run.folder / "interval_0001" / "COLVAR")[0, 1]
    assert start_height == pytest.approx(7.5, abs=0.5)
    frame = run.frame()
    ion = frame.symbols.index("Na")
    surface, side = regions.face_below(frame.positions, ion)
    assert (set(surface), side) == (set(range(60)), -1)  # the lower layer, which looks down


def test_reservoir_brings_in_neutral_atoms(tmp_path, lammps_program):
    run = start(tmp_path / "run", lammps_program, n_sodium=2, source="reservoir")
    charge = run.frame().charges.sum()
    run.run(2)
    assert_counts_add_up(run.state.rows, 2, reservoir=True)
    assert len(run.frame().symbols) == len(toy_interface(2)) + 2
    assert run.frame().charges.sum() == pytest.approx(charge, abs=1e-9)


def test_run_ends_when_no_sodium_is_left(tmp_path, lammps_program, caplog):
    run = start(tmp_path / "run", lammps_program, n_sodium=1, interval_ps=3.0, spring=5.0)
    run.run(5)
    assert len(run.state.rows) == 2
    assert "no sodium left" in caplog.text


def test_killed_run_resumes_to_the_same_result(tmp_path, lammps_program):
    """kill -9 in the middle of an interval: only this interval is lost, and its repetition is the same to the digit."""
    whole = start(tmp_path / "whole", lammps_program)
    whole.run(2)
    cut = start(tmp_path / "cut", lammps_program)
    program = (
        "import sys; from qnep.deposit import Deposition; Deposition.resume(sys.argv[1]).run(2)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(cut.folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )
    middle = cut.folder / "interval_0002" / "trajectory.dump"
    deadline = time.monotonic() + 100.0
    while not (middle.exists() and middle.stat().st_size > 0) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(
        process.pid, signal.SIGKILL
    )  # LAMMPS outlives its parent for a while and must do no harm
    process.wait()
    resumed = Deposition.resume(cut.folder)
    assert len(resumed.state.rows) == 2
    resumed.run(2)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    assert resumed.state.rows == whole.state.rows
    for name in ("deposition.csv", "trajectory.dump"):
        assert (cut.folder / name).read_text() == (whole.folder / name).read_text()
    assert (cut.folder / "interval_0002.interrupted-1").is_dir()


def test_command_line(tmp_path, lammps_program, capsys):
    """Regions are shown before a run; a run and its resumption from the command line."""
    write(tmp_path / "toy.extxyz", toy_interface())
    (tmp_path / "toy.lmp").write_text(FORCE_FIELD)
    folder = ["--folder", str(tmp_path / "run")]
    regions = ["--anode", ANODE, "--sei", SEI, "--frozen", ANODE]
    forces = ["--force-field", str(tmp_path / "toy.lmp"), "--elements", ",".join(ELEMENTS)]
    times = [
        "--interval-ps",
        "0.15",
        "--equilibration-ps",
        "0.03",
        "--dump-ps",
        "0.03",
        "--timestep-fs",
        "1.5",
    ]
    structure = str(tmp_path / "toy.extxyz")
    assert main(["deposit", structure, "--show", *folder, *regions]) == 0
    assert "C120" in capsys.readouterr().out
    assert (tmp_path / "run" / "regions.png").exists()
    assert main(["deposit", structure, "--intervals", "1", *folder, *regions, *forces, *times]) == 0
    again = [
        structure,
        *regions,
        *forces,
        "--interval-ps",
        "0.15",
        "--axis",
        "2",
        "--faces",
        "auto",
    ]
    assert main(["deposit", "--resume", "--intervals", "2", *folder, *again]) == 0
    assert "2 rows are done" in capsys.readouterr().out
    assert len((tmp_path / "run" / "deposition.csv").read_text().splitlines()) == 1 + 3
    assert main(["deposit", structure, *folder, *regions, *forces]) == 2
    assert "holds a deposition run" in capsys.readouterr().err
    assert main(["deposit", structure, "--folder", "x", "--anode", "elements=Li"]) == 2
    assert "there is no Li" in capsys.readouterr().err


def test_a_resumed_run_keeps_its_settings(tmp_path, lammps_program, capsys, monkeypatch):
    """Other values are named with those of the run, also a default that the run does not have; nothing is written."""
    monkeypatch.chdir(tmp_path)
    write("toy.extxyz", toy_interface())
    Path("toy.lmp").write_text(FORCE_FIELD)
    Path("other.lmp").write_text(FORCE_FIELD.replace("0.004", "0.005"))
    random_model(" ".join(ELEMENTS), seed=1).write("nep.txt")
    words = (
        f"--anode {ANODE} --sei {SEI} --frozen {ANODE} --force-field toy.lmp --elements {','.join(ELEMENTS)} "
        "--temperature 310 --seed 2 --interval-ps 0.03 --equilibration-ps 0 --timestep-fs 1.5 --folder run"
    )
    assert main(["deposit", "toy.extxyz", *words.split(), "--intervals", "1"]) == 0
    texts = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    capsys.readouterr()
    for given, message in {
        "--temperature 300": "--temperature: .* wanted 310.0 as in run/state.json, got 300.0",
        "--seed 1": "--seed: .* wanted 2 .* got 1",
        "--variables height coordination": "--variables: .* wanted height .* got height coordination",
        "--bias moving": "--bias: .* wanted metadynamics .* got moving",
        "--axis x": "--axis: .* wanted z .* got x",
        "--sei auto": f"--sei: .* wanted {SEI} .* got auto",
        "--frozen none": f"--frozen: .* wanted {ANODE} .* got none",
        "--faces one": "--faces: .* wanted auto .* got one",
        "--force-field other.lmp": "--force-field: .*wanted .* 0.004 .* got .* 0.005 ",
        "--model nep.txt": "--model: .* wanted pair_style hybrid .* got pair_style qnep; .*nep.txt",
        "--elements Na,C,F,N,O,P": "--elements: .* wanted C F N Na O P .* got Na C F N O P",
        "other.extxyz": "structure: .* wanted .*/toy.extxyz .* got .*/other.extxyz",
        "--intervals 0": "--intervals: the run in run has 1, more are possible, got 0",
        "--show": "--show: .* leave out --resume",
    }.items():
        assert main(["deposit", "--resume", "--folder", "run", *given.split()]) == 2
        assert re.search(message, capsys.readouterr().err), given
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == texts


def test_a_negative_number_of_intervals_is_refused(capsys):
    assert main(["deposit", "toy.extxyz", "--intervals", "-1"]) == 2
    assert "--intervals: wanted 0 or more, got -1" in capsys.readouterr().err


def test_a_run_that_does_not_say_what_was_selected(tmp_path, lammps_program, capsys):
    """Of an older version, or started from Python."""
    folder = start(tmp_path / "run", lammps_program).folder
    assert main(["deposit", "--resume", "--folder", str(folder), "--sei", SEI]) == 2
    assert "state.json does not say what this one was: leave it out" in capsys.readouterr().err


def test_a_model_of_the_free_energy_has_the_temperature_of_the_run(
    tmp_path, lammps_program, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write("toy.extxyz", toy_interface())
    random_model(" ".join(ELEMENTS), has_temperature=True, energy_scale=0.01, seed=1).write(
        "nep.txt"
    )
    words = (
        f"--anode {ANODE} --sei {SEI} --model nep.txt --elements {','.join(ELEMENTS)} "
        "--temperature 310 --equilibration-ps 0 --intervals 0 --folder run"
    )
    assert main(["deposit", "toy.extxyz", *words.split()]) == 0
    text = (tmp_path / "run" / "interval_0000" / "in.lammps").read_text()
    assert "pair_style qnep temperature 310\n" in text
    again = ["--model", "nep.txt", "--intervals", "0"]
    assert main(["deposit", "--resume", "--folder", "run", *again]) == 0
    with pytest.raises(LammpsError, match="wanted a temperature in K, got none"):
        ForceField.from_model("nep.txt", ELEMENTS)


def test_regions_of_other_dialects_and_formats(tmp_path, capsys):
    """Regions need the cell: of GPUMD's ``lattice=``, and of LAMMPS data as `qnep build` writes them."""
    atoms = toy_interface()
    write(tmp_path / "ase.extxyz", atoms)
    text = (tmp_path / "ase.extxyz").read_text()
    (tmp_path / "gpumd.xyz").write_text(text.replace("Lattice=", "lattice=", 1))
    write_lammps_data(atoms, tmp_path / "toy.data", ELEMENTS)
    tables = []
    for name, axis in (("ase.extxyz", "z"), ("gpumd.xyz", "2"), ("toy.data", "Z")):
        options = [
            "--axis",
            axis,
            "--show",
            "--folder",
            str(tmp_path / "show"),
            "--anode",
            ANODE,
            "--sei",
            SEI,
        ]
        assert main(["deposit", str(tmp_path / name), *options]) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1] == tables[2]


@pytest.mark.parametrize("command", [["deposit"], ["barrier", "--plumed", "plumed.dat"]])
@pytest.mark.parametrize("name", ["empty.extxyz", "empty.data", "what.ever"])
def test_a_file_without_a_structure_is_named(tmp_path, capsys, command, name):
    (tmp_path / name).write_text("")
    folder = ["--folder", str(tmp_path / "run")]
    assert main([command[0], str(tmp_path / name), *command[1:], *folder]) == 2
    assert name in capsys.readouterr().err


@pytest.mark.parametrize("command", ["deposit", "barrier"])
def test_help_tells_defaults_where_there_are_any(capsys, command):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "(default: None)" not in text and "(default: False)" not in text
    assert "alphabetical) (default" not in text
    assert "of the dynamics, fs (default: 0.5)" in text
    temperature = "300.0" if command == "deposit" else "TEMP of the PLUMED file, else 300.0"
    assert f"of the run, K (default: {temperature})" in text


@pytest.mark.parametrize(
    ("end_ps", "label", "last"), [(0.2, "time (ps)", 0.2), (2500, "time (ns)", 2.5)]
)
def test_figure_chooses_its_unit_of_time(tmp_path, monkeypatch, end_ps, label, last):
    from matplotlib import pyplot

    counts = dict.fromkeys(
        ("deposited", "in_sei", "in_electrolyte", "min_na_charge", "na_lost_percent", "solvent_lost_percent",
         "salt_lost_percent"), 0.0,
    )  # fmt: skip
    closed = []
    monkeypatch.setattr(pyplot, "close", closed.append)
    draw_deposition([{"time_ps": t, **counts} for t in (0.0, end_ps)], tmp_path / "figure.png")
    monkeypatch.undo()
    axes = closed[0].axes[-1]
    assert axes.get_xlabel() == label
    assert axes.lines[0].get_xdata()[-1] == pytest.approx(last)
    pyplot.close(closed[0])


def test_a_torn_trajectory_is_mended(tmp_path, lammps_program):
    """Killed between the trajectory and the state: frames without a state are cut off."""
    run = start(tmp_path / "run", lammps_program)
    run.run(0)
    state = (run.folder / "state.json").read_text()
    run.run(1)
    whole = (run.folder / "trajectory.dump").read_text()
    lines = whole.splitlines()
    steps = [int(step) for title, step in pairwise(lines) if title == "ITEM: TIMESTEP"]
    assert steps == sorted(set(steps))  # the last frame of an interval is not the next one's first
    (run.folder / "state.json").write_text(state)
    again = Deposition.resume(run.folder)
    again.run(1)
    assert (run.folder / "trajectory.dump").read_text() == whole


def test_refusals(tmp_path, lammps_program):
    run = start(tmp_path / "run", lammps_program)
    with pytest.raises(FileExistsError, match="--resume"):
        start(tmp_path / "run", lammps_program)
    with pytest.raises(NoSodiumLeft, match="no sodium left"):
        start(tmp_path / "dry", lammps_program, n_sodium=0)
    with pytest.raises(StateError, match="no deposition run"):
        Deposition.resume(tmp_path / "nowhere")
    (run.folder / "state.json").write_text('{"format": 1, "protocol"')
    with pytest.raises(StateError, match="cannot be read"):
        Deposition.resume(run.folder)
    with pytest.raises(LammpsError, match=r"ERROR(.|\n)*unknown_style"):
        atoms, regions = choose_regions(toy_interface(), anode=ANODE, sei=SEI)
        Deposition.start(
            tmp_path / "bad", atoms, regions, ForceField("pair_style unknown_style", ELEMENTS), Protocol(),
            lammps_program,
        )  # fmt: skip
    with pytest.raises(ValueError, match="not N"):
        Deposition.start(
            tmp_path / "bad", atoms, regions, ForceField(FORCE_FIELD, ("C", "F", "Na", "O", "P")), Protocol(),
            lammps_program,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bias": "push"}, "bias must be one of moving, metadynamics"),
        ({"variables": ()}, "variables must be among"),
        ({"interval_ps": 0.0}, "interval_ps must be positive"),
        ({"source": "sea"}, "source must be one of"),
        ({"release_height": 4.0}, "release_height must not be above arrival_height"),
        ({"temperature": float("inf")}, "temperature must be positive, got inf"),
        ({"timestep_fs": -0.5}, "timestep_fs must be positive, got -0.5"),
        ({"dump_ps": float("nan")}, "dump_ps must be positive, got nan"),
        ({"equilibration_ps": -1.0}, "equilibration_ps must be 0 or more, got -1.0"),
        ({"release_height": -1.0}, "release_height must be positive, got -1.0"),
        ({"hill_height": 0.0}, "hill_height must be positive, got 0.0"),
        ({"bias_factor": 1.0}, "bias_factor must be greater than 1, got 1.0"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
    ],
)
def test_bad_protocols(changes, message):
    with pytest.raises(ValueError, match=message):
        Protocol(**changes)


def toy_frame(n_sodium: int = 14) -> tuple[Frame, object]:
    atoms, regions = choose_regions(toy_interface(n_sodium), anode=ANODE, sei=SEI)
    return Frame.from_atoms(atoms, 300.0, 1), regions


def test_frames_keep_all_digits(tmp_path):
    frame, _ = toy_frame()
    write_frame(tmp_path / "a.dump", frame)
    again = read_frame(tmp_path / "a.dump")
    for name in ("positions", "velocities", "charges", "cell"):
        np.testing.assert_array_equal(getattr(again, name), getattr(frame, name))
    assert (again.symbols, again.pbc, again.step) == (frame.symbols, frame.pbc, frame.step)
    text = (tmp_path / "a.dump").read_text().splitlines()
    (tmp_path / "a.dump").write_text("\n".join(text[:-3]))
    with pytest.raises(ValueError, match="not a whole frame"):
        read_frame(tmp_path / "a.dump")


def test_choice_of_the_ion():
    frame, regions = toy_frame()
    heights = regions.heights(frame.positions)
    ions = [i for i in regions.electrolyte if frame.symbols[i] == "Na"]
    generator = np.random.default_rng(0)
    assert heights[choose_ion(frame, regions, ions, 3.5, "nearest", generator)] == min(
        heights[ions]
    )
    assert choose_ion(frame, regions, ions, 3.5, "random", generator) in ions
    shell = [i for i in regions.electrolyte if frame.symbols[i] in ("O", "F", "N")]
    least = choose_ion(frame, regions, ions, 3.5, "least-coordinated", generator)
    counts = coordination_numbers(frame, ions, shell)
    assert counts[ions.index(least)] == counts.min()
    frame.positions[least, 2] = (
        frame.positions[list(regions.surface), 2].mean() + 2.0
    )  # it is down now
    assert choose_ion(frame, regions, ions, 3.5, "least-coordinated", generator) != least


def test_insertion_needs_room():
    frame, regions = toy_frame()
    generator = np.random.default_rng(0)
    new = insert_sodium(frame, regions, 300.0, generator)
    distances = np.linalg.norm(new.positions[:-1] - new.positions[-1], axis=1)
    assert distances.min() >= 1.9
    heights = regions.heights(new.positions)
    assert heights[-1] > np.percentile(heights[list(regions.electrolyte)], 60)
    crowded = np.repeat(np.arange(12.0, 33.0, 1.5), 100)
    full = frame
    for z, k in zip(crowded, range(len(crowded)), strict=True):
        full = full.with_atom(
            "O", np.array([1.28 * (k % 10), 1.28 * (k // 10 % 10), z]), np.zeros(3)
        )
    with pytest.raises(ValueError, match="no room for a new sodium atom"):
        insert_sodium(full, regions, 300.0, generator)


def test_census_of_a_frame_made_by_hand():
    """Moved by hand: one ion down, one ion into the SEI, one solvent and one salt molecule broken."""
    frame, regions = toy_frame()
    atoms, _ = choose_regions(toy_interface(), anode=ANODE, sei=SEI)
    molecules = find_molecules(atoms, regions.electrolyte)
    assert {molecule.kind for molecule in molecules} == {"solvent", "salt"}
    ions = [i for i in regions.electrolyte if frame.symbols[i] == "Na"]
    surface = frame.positions[list(regions.surface), 2].mean()
    frame.positions[ions[0], 2] = surface + 2.0
    frame.positions[ions[1], 2] = surface + 4.0
    frame.charges[ions[0]] = 0.1
    solvent = [one for one in molecules if one.kind == "solvent"]
    salt = [one for one in molecules if one.kind == "salt"]
    for molecule in (solvent[0], salt[0]):
        frame.positions[molecule.bonds[0][1], 2] += 2.0
    census = take_census(frame, regions, molecules, ions, (), 3.5)
    assert (census.deposited, census.in_sei, census.in_electrolyte) == (1, 5, 12)
    high = take_census(frame, regions, molecules, ions, find_residents(frame, regions, 5.5), 5.5)
    assert (high.deposited, high.in_sei, high.in_electrolyte) == (
        2,
        4,
        12,
    )  # the SEI's own are not deposited
    assert census.min_na_charge == 0.1
    assert census.na_lost_percent == pytest.approx(100 / 14)
    assert census.solvent_lost_percent == pytest.approx(100 / len(solvent))
    assert census.salt_lost_percent == pytest.approx(100 / len(salt))


@pytest.mark.long
def test_ten_ions_go_down(tmp_path, lammps_program):
    """A deposition of ten ions by metadynamics; table and figure are left in the folder to be looked at."""
    folder = Path(os.environ.get("QNEP_KEEP", tmp_path)) / "ten"
    run = start(
        folder, lammps_program, interval_ps=20.0, bias="metadynamics", dump_ps=2.0, hill_ps=0.05
    )
    run.run(12)
    rows = run.state.rows
    assert_counts_add_up(rows, 14)
    assert rows[-1]["deposited"] >= 10
    assert rows[-1]["total_bias_work_eV"] == pytest.approx(sum(row["bias_work_eV"] for row in rows))


@pytest.mark.long
def test_ten_ions_with_the_shipped_model(tmp_path, lammps_program):
    """Na | 5 M NaPF6 in EC, 400 atoms, one ion per picosecond, from the command line; about five minutes.

    Left in QNEP_KEEP, if that is set, to be looked at.
    """
    keep = Path(os.environ.get("QNEP_KEEP", tmp_path))
    cell, folder = keep / "cell", keep / "shipped"
    build = "interface --solid Na --thickness 8 --width 12.5 --solvent EC --salt NaPF6 --molarity 5 --atoms 400"
    assert not main(["build", *build.split(), "-o", str(cell)])
    protocol = (
        "--intervals 16 --equilibration-ps 0.2 --interval-ps 1 --bias moving --spring 8 --dump-ps 0.5 "
        "--arrival-height 4.2 --release-height 1.8"
    )
    model = Path(__file__).resolve().parents[2] / "models" / "na-sei-seed" / "nep.txt"
    assert not main(
        ["deposit", f"{cell}.extxyz", "--model", str(model), "--folder", str(folder)]
        + protocol.split()
    )
    rows = Deposition.resume(folder).state.rows
    assert_counts_add_up(rows, 13, n_sei=0)
    assert len(rows) == 17
    # How many stay down is up to the model; each one that was carried came down.
    assert sum(row["arrival_ps"] is not None for row in rows) >= 10
    assert (folder / "deposition.png").stat().st_size > 5000


@pytest.mark.long
@pytest.mark.parametrize(("case", "atoms"), [("na2co3-ec", 1300), ("naf-dme", 2900)])
def test_example_runs_both_published_cases(case, atoms, tmp_path, lammps_program):
    """Small, and for a few steps, with the shipped model."""
    root = Path(__file__).resolve().parents[2]
    words = f"{case} --atoms {atoms} --model {root / 'models' / 'na-sei-seed' / 'nep.txt'} --intervals 1"
    times = "--interval-ps 0.02 --equilibration-ps 0.01 --timestep-fs 0.25"
    finished = subprocess.run(
        [sys.executable, str(root / "examples" / "deposition.py"), *words.split(), *times.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    rows = Deposition.resume(tmp_path / f"{case}_run").state.rows
    assert len(rows) == 2
    assert rows[0]["in_electrolyte"] > 0
    assert rows[0]["in_sei"] > 100
