"""Cycling from the command line, its measures, and stopping and resuming."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read, write
from electrode_cells import charged_model, induced, membership, two_electrodes

from qnep.cli import main
from qnep.electrode import command as electrode_command
from qnep.electrode.cycling import Cycling, CyclingProtocol, read_cycling
from qnep.electrode.deposits import measure_deposits
from qnep.model import random_model

SHIPPED = Path(__file__).resolve().parents[2] / "models" / "na-sei-seed" / "nep.txt"


def short(**changes) -> CyclingProtocol:
    settings = {"n_half_cycles": 2, "half_cycle_ps": 0.004, "report_fs": 2.0, "timestep_fs": 1.0}
    return CyclingProtocol(**(settings | changes))


def cycling(folder, protocol, resume=False) -> Cycling:
    atoms = two_electrodes()
    return Cycling(atoms, induced(atoms), membership(atoms), protocol, folder, resume)


def test_potentials_change_places(tmp_path):
    cycling(tmp_path, short()).run()
    rows = list(read_cycling(tmp_path))
    assert [row["lower_V"] for row in rows] == [-1, -1, -1, 1, 1]
    assert [row["time_ps"] for row in rows] == pytest.approx([0, 0.002, 0.004, 0.006, 0.008])
    for row in rows:
        assert row["lower_charge"] == pytest.approx(-row["upper_charge"], abs=1e-8)
    # Ions hardly move in 8 fs: the charge that the voltage brings changes with its sign.
    assert rows[1]["upper_charge"] > rows[3]["upper_charge"]
    assert (tmp_path / "cycling.png").stat().st_size > 10000
    frames = read(tmp_path / "trajectory.extxyz", ":")
    assert [frame.info["time_fs"] for frame in frames] == pytest.approx([0, 2, 4, 6, 8])


def test_a_resumed_run_goes_the_same_way(tmp_path):
    cycling(tmp_path / "whole", short()).run()
    cycling(tmp_path / "parts", short(n_half_cycles=1)).run()
    with (tmp_path / "parts" / "cycling.csv").open("a") as table:
        table.write("0.006,stopped,before,the,state,was,written,0,0,0,0,0,0,0,0,0\n")
    cycling(tmp_path / "parts", short(), resume=True).run()
    whole, parts = (list(read_cycling(tmp_path / name)) for name in ("whole", "parts"))
    assert len(parts) == len(whole)
    # The state is written with eight decimals.
    assert parts[-1]["energy_eV"] == pytest.approx(whole[-1]["energy_eV"], abs=1e-4)
    for row in (parts[-1], whole[-1]):  # against the start of the whole run
        plated = (row["lower_atoms"] - whole[0]["lower_atoms"]) / 4
        assert row["lower_plated_layers"] == pytest.approx(plated, abs=1e-9)


def test_what_a_kill_left_behind_the_state_is_cut_off(tmp_path, monkeypatch):
    """Killed twice between trajectory and state, the second time with a torn frame: every frame is there once."""
    cycling(tmp_path / "whole", short()).run()
    folder = tmp_path / "parts"

    def kill(path, content):
        raise KeyboardInterrupt

    cycling(folder, short(n_half_cycles=1)).run()
    for torn in ("", '36\nLattice="8.4 0.0 0.0 0.0 8.4'):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("qnep.electrode.cycling.write_atomically", kill)
            cycling(folder, short(), resume=True).run()
        with (folder / "trajectory.extxyz").open("a") as file:
            file.write(torn)
    cycling(folder, short(), resume=True).run()
    whole, parts = (read(tmp_path / name / "trajectory.extxyz", ":") for name in ("whole", "parts"))
    assert [atoms.info["report"] for atoms in parts] == [0, 1, 2, 3, 4]
    for one, other in zip(whole, parts, strict=True):
        assert other.positions == pytest.approx(one.positions, abs=1e-6)
    tables = [(tmp_path / name / "cycling.csv").read_text() for name in ("whole", "parts")]
    assert [len(table.splitlines()) for table in tables] == [6, 6]


def test_a_run_that_never_moved_is_resumed_from_its_start(tmp_path, monkeypatch):
    """The state of the start counts: its velocities are not drawn again, and its table is not begun again."""
    run = cycling(tmp_path, short())
    monkeypatch.setattr(run, "_advance", lambda report: None)
    run.run()
    before = (tmp_path / "cycling.csv").read_text()
    resumed = cycling(tmp_path, short(), resume=True)
    monkeypatch.setattr(resumed, "_start", lambda: pytest.fail("began again"))
    resumed.run()
    assert (tmp_path / "cycling.csv").read_text().startswith(before)
    assert len(list(read_cycling(tmp_path))) == 5


def test_a_state_of_an_older_version_is_refused(tmp_path):
    atoms = two_electrodes()
    atoms.info = {"report": 3}
    write(tmp_path / "state.extxyz", atoms)
    with pytest.raises(ValueError, match="older version of qnep: start a new run from it"):
        cycling(tmp_path, short(), resume=True)


def test_a_used_folder_is_not_overwritten(tmp_path):
    cycling(tmp_path, short(n_half_cycles=1)).run()
    with pytest.raises(ValueError, match="holds a run already"):
        cycling(tmp_path, short())


@pytest.mark.parametrize("name", ["half_cycle_ps", "timestep_fs", "n_half_cycles"])
def test_wrong_protocol(name):
    with pytest.raises(ValueError, match=name):
        short(**{name: 0})


def test_command_line(tmp_path, capsys):
    structure, model = tmp_path / "cell.extxyz", tmp_path / "nep.txt"
    atoms = two_electrodes()
    write(structure, atoms)
    charged_model().write(str(model))
    plane = str(membership(atoms).planes[0])
    status = main(
        [
            "electrode",
            str(structure),
            "--model",
            str(model),
            "--folder",
            str(tmp_path / "run"),
            "--plane",
            plane,
            "--axis",
            "z",
        ]
        + [
            "--half-cycles",
            "1",
            "--half-cycle",
            "0.002",
            "--report",
            "1",
            "--potentials",
            "-0.5",
            "0.5",
        ]
    )
    assert not status
    assert "cycling.csv" in capsys.readouterr().out
    assert len(list(read_cycling(tmp_path / "run"))) == 3


@pytest.mark.parametrize("name", ["empty.extxyz", "empty.data"])
def test_a_file_without_a_structure_is_named(tmp_path, capsys, name):
    (tmp_path / name).write_text("")
    charged_model().write(str(tmp_path / "nep.txt"))
    files = [str(tmp_path / name), "--model", str(tmp_path / "nep.txt")]
    assert main(["electrode", *files, "--folder", str(tmp_path / "run")]) == 2
    assert name in capsys.readouterr().err


@pytest.mark.parametrize("metal", ["Li", "na"])
def test_a_metal_that_the_cell_has_not_is_named(tmp_path, capsys, metal):
    """With the elements that are there, and before anything is written."""
    write(tmp_path / "cell.extxyz", two_electrodes())
    charged_model().write(str(tmp_path / "nep.txt"))
    files = [str(tmp_path / "cell.extxyz"), "--model", str(tmp_path / "nep.txt")]
    more = ["--metal", metal, "--folder", str(tmp_path / "run")]
    assert main(["electrode", *files, *more]) == 2
    error = capsys.readouterr().err
    assert f"got {metal}, but {tmp_path / 'cell.extxyz'} has no {metal}, only F, Na" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("source", [["cell.extxyz"], ["--build", "--solvent EC"]])
def test_a_model_without_charges_is_refused_before_anything_is_built(
    tmp_path, capsys, monkeypatch, source
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(electrode_command, "_build_cell", lambda *_: pytest.fail("too late"))
    write("cell.extxyz", two_electrodes())
    random_model("Na F", radial_cutoff=5.0, angular_cutoff=4.0).write("plain.txt")
    assert main(["electrode", *source, "--model", "plain.txt", "--folder", "run"]) == 2
    error = capsys.readouterr().err
    assert "plain.txt: wanted a model with charges" in error
    assert "charge_mode 1 or 2), got a nep4, which has none" in error
    assert not Path("run").exists()


@pytest.fixture
def started(tmp_path) -> Path:
    """Folder of a run of one half cycle, of two reports, whose every option is none of the defaults."""
    atoms = two_electrodes()
    write(tmp_path / "cell.extxyz", atoms)
    charged_model().write(str(tmp_path / "nep.txt"))
    files = [str(tmp_path / "cell.extxyz"), "--model", str(tmp_path / "nep.txt")]
    electrodes = ["--distances", "4.4", "5.6", "--counts", "3", "8", "--hardness", "5"]
    protocol = "--half-cycles 1 --half-cycle 0.002 --timestep 0.5 --temperature 350 --friction 2 --report 1 --seed 4"
    options = [*electrodes, *protocol.split(), "--potentials", "-2", "2", "--relax", "2"]
    assert not main(["electrode", *files, *options, "--folder", str(tmp_path / "run")])
    return tmp_path / "run"


def test_resume_keeps_the_options_of_the_start(started, capsys):
    """From the folder alone; the plane is that of the start and not the middle of the atoms as they lie now."""
    settings = json.loads((started / "protocol.json").read_text())
    heights = two_electrodes().get_scaled_positions()[:, 2]
    assert settings["plane"] == pytest.approx((heights.min() + heights.max()) / 2, abs=1e-7)
    assert not main(["electrode", "--resume", "--folder", str(started), "--half-cycles", "2"])
    resumed = json.loads((started / "protocol.json").read_text())
    assert resumed["protocol"].pop("n_half_cycles") == 2
    assert settings["protocol"].pop("n_half_cycles") == 1
    assert resumed == settings
    expected = {
        "potentials_V": [-2.0, 2.0], "half_cycle_ps": 0.002, "timestep_fs": 0.5, "temperature_K": 350.0,
        "friction_per_ps": 2.0, "report_fs": 1.0, "seed": 4, "relax_steps": 2,
    }  # fmt: skip
    assert resumed["protocol"] == expected
    assert (resumed["distances"], resumed["counts"], resumed["hardness"]) == ([4.4, 5.6], [3, 8], 5)
    rows = list(read_cycling(started))
    assert [row["upper_V"] for row in rows] == [2, 2, 2, -2, -2]
    assert [row["time_ps"] for row in rows] == pytest.approx([0, 0.001, 0.002, 0.003, 0.004])
    assert not main(["electrode", "--resume", "--folder", str(started), "--temperature", "350"])
    assert len(list(read_cycling(started))) == 5
    capsys.readouterr()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("--potentials -1 1", r"potentials_V \(-2.0, 2.0\), not \(-1.0, 1.0\): resume it without"),
        ("--temperature 300 --seed 4", "started with temperature_K 350.0, not 300.0: resume"),
        ("--counts 5 8 --plane 0.4", r"counts \(3.0, 8.0\), not \(5.0, 8.0\)"),
        ("--hardness 4.6", "hardness 5.0, not 4.6"),
        ("other.extxyz", "structure .*cell.extxyz, not .*other.extxyz"),
        ("--build '--solvent EC'", "build None, not --solvent EC"),
    ],
)
def test_resume_refuses_other_options(started, capsys, options, text):
    before = {path.name: path.read_bytes() for path in started.iterdir()}
    command = ["electrode", "--resume", "--folder", str(started), "--half-cycles", "2"]
    assert main([*command, *shlex.split(options)]) == 2
    assert re.search(text, capsys.readouterr().err)
    assert {path.name: path.read_bytes() for path in started.iterdir()} == before


def test_resume_knows_its_model(started, capsys):
    """The file may be moved; another one in its place is another run."""
    model = started.parent / "nep.txt"
    moved = model.rename(model.with_name("moved.txt"))
    command = ["electrode", "--resume", "--folder", str(started), "--half-cycles", "2"]
    charged_model(seed=7).write(str(model))
    assert main(command) == 2
    assert "nep.txt is not the model that the run was started with" in capsys.readouterr().err
    assert not main([*command, "--model", str(moved)])
    assert json.loads((started / "protocol.json").read_text())["model"] == str(moved)


def test_resume_without_a_protocol(started, capsys):
    command = ["electrode", "--resume", "--folder", str(started)]
    (started / "protocol.json").write_text("{half")
    assert main(command) == 2
    assert "protocol.json cannot be read" in capsys.readouterr().err
    (started / "protocol.json").unlink()
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "older version of qnep" in error
    assert f"qnep electrode {started / 'state.extxyz'} --model" in error
    assert main(["electrode", "--resume", "--folder", str(started / "nowhere")]) == 2
    assert "there is no run to resume" in capsys.readouterr().err


def test_resume_before_the_first_report(started):
    """Killed in the minimisation there is no state: the run begins with the structure of its start."""
    (started / "state.extxyz").unlink()
    assert not main(["electrode", "--resume", "--folder", str(started)])
    assert len(read(started / "trajectory.extxyz", ":")) == len(list(read_cycling(started))) == 3


def test_command_line_builds_its_cell(tmp_path, capsys):
    """Metal | electrolyte | metal by `qnep build`, some steps with the shipped model, and the run taken up again."""
    folder = tmp_path / "run"
    command = ["electrode", "--model", str(SHIPPED), "--folder", str(folder), "--timestep", "0.5"]
    protocol = ["--half-cycle", "0.001", "--report", "0.5", "--potentials", "-0.5", "0.5"]
    build = ["--build", "--width 8 --thickness 8 --solvent EC --atoms 110"]
    assert not main([*command, *build, *protocol, "--half-cycles", "1"])
    assert (folder / "cell.extxyz").exists()
    assert not main([*command, "--resume", *protocol, "--half-cycles", "2"])
    rows = list(read_cycling(folder))
    assert [row["upper_V"] for row in rows] == [0.5, 0.5, 0.5, -0.5, -0.5]
    assert (folder / "cycling.png").stat().st_size > 10000
    capsys.readouterr()
    assert main([*command, "--half-cycles", "1"]) == 2
    assert "name either a structure or --build" in capsys.readouterr().err


def slab_with(extra: list[list[float]]) -> tuple[Atoms, np.ndarray]:
    """A flat slab of 4 x 4 x 3 cells of sodium and further atoms, all of one electrode but the further ones."""
    atoms = bulk("Na", "bcc", a=4.2, cubic=True) * (4, 4, 3)
    n_slab = len(atoms)
    atoms.cell[2, 2] += 40.0
    top = atoms.positions[:, 2].max()
    atoms += Atoms(["Na"] * len(extra), np.array(extra).reshape(-1, 3) + [0, 0, top])
    weights = np.zeros((1, len(atoms)))
    weights[0, :n_slab] = 1.0
    return atoms, weights


def test_isolated_clusters_are_counted():
    """A pair far away is one cluster of dead metal; a single ion is none; an adatom is joined to the electrode."""
    atoms, weights = slab_with(
        [[2.1, 2.1, 12.0], [2.1, 5.5, 12.0], [10.0, 10.0, 15.0], [0, 0, 2.1]]
    )
    metal = measure_deposits(atoms, weights, ["Na"], bond=4.4, axis=2)
    assert (metal.n_isolated_clusters, metal.n_isolated_atoms) == (1, 2)
    assert metal.electrode_atoms[0] == pytest.approx(96.0)
    assert metal.layer_atoms[0] == 16


def test_roughness_of_flat_and_stepped_surfaces():
    atoms, weights = slab_with([])
    assert measure_deposits(atoms, weights, ["Na"], 4.4, 2).roughness[0] == pytest.approx(
        0.0, abs=1e-12
    )
    # An island of one layer, 2.1 Å high, over some of the patches: between a flat surface and half covering.
    island = [[4.2 * x, 4.2 * y, 2.1] for x in range(2) for y in range(2)]
    atoms, weights = slab_with(island)
    weights[:] = 1.0
    assert 0.2 < measure_deposits(atoms, weights, ["Na"], 4.4, 2).roughness[0] <= 1.05
