"""Cycling from the command line, its measures, and stopping and resuming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read, write
from electrode_cells import charged_model, induced, membership, two_electrodes

from qnep.cli import main
from qnep.electrode.cycling import Cycling, CyclingProtocol, read_cycling
from qnep.electrode.deposits import measure_deposits

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
    assert len(read(tmp_path / "trajectory.extxyz", ":")) == 5


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
