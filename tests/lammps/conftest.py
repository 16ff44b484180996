"""Running real LAMMPS with the plugin, on one or several ranks, each with a time limit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

sys.path.insert(0, str(Path(__file__).parent))
from lammps_scripts import BAR_PER_EV, evaluation_script, write_data

from lammps_runs import LammpsRun, run_to_end, skip_without_plugin

TIME_LIMIT = 120  # s; a run takes about one, so this is a hang


@pytest.fixture(scope="session", autouse=True)
def _needs_lammps() -> None:
    skip_without_plugin()


@pytest.fixture
def run_lammps(tmp_path: Path) -> Callable[..., LammpsRun]:
    """Run a script in the test's folder; a run that does not end is a failure, and none is left behind."""
    from qnep.lammps.mpi import lammps_program, mpi_launcher

    def run(
        script: str,
        n_ranks: int = 1,
        n_threads: int = 1,
        variables: dict[str, object] | None = None,
    ) -> LammpsRun:
        (tmp_path / "in.test").write_text(script)
        command = [lammps_program(), "-in", "in.test", "-log", "none"]
        for variable, value in (variables or {}).items():
            command += ["-var", variable, str(value)]
        if n_ranks > 1:
            command = [mpi_launcher(), "-n", str(n_ranks), *command]
        environment = {"OMP_NUM_THREADS": str(n_threads)}
        status, screen = run_to_end(command, tmp_path, environment, TIME_LIMIT)
        return LammpsRun(status, screen, tmp_path)

    return run


@pytest.fixture
def evaluate(run_lammps: Callable[..., LammpsRun], tmp_path: Path) -> Callable[..., dict]:
    """One force evaluation of a structure; results in the frame of LAMMPS, units eV, Å, e."""

    def evaluate(
        atoms: Atoms,
        elements: str,
        style: str = "qnep",
        coefficients: str = "nep.txt",
        n_ranks: int = 1,
        n_threads: int = 1,
        before: str = "",
        after: str = "",
        boundary: str = "p p p",
        names: str | None = None,
    ) -> dict:
        write_data(tmp_path / "system.data", atoms, elements)
        script = evaluation_script(
            style, f"{coefficients} {names or elements}", before, after, boundary
        )
        run = run_lammps(script, n_ranks, n_threads)
        assert run.status == 0, run.screen
        rows = run.table()
        return {
            "energy": run.value("ENERGY")[0],
            "virial": run.value("VIRIAL"),  # xx yy zz xy xz yz
            "forces": rows[:, 0:3],
            "charges": rows[:, 3],
            "energies": rows[:, 4],
            "stress": -rows[:, 5:11] / BAR_PER_EV,  # per-atom virial xx yy zz xy xz yz
            "centroid": -rows[:, 11:20] / BAR_PER_EV,  # xx yy zz xy xz yz yx zx zy
            "screen": run.screen,
        }

    return evaluate


@pytest.fixture
def random_electrolyte() -> Callable[..., Atoms]:
    """Atoms at random places with a smallest distance, in a cell that may be sheared."""

    def build(
        n_atoms: int,
        symbols: str = "Na C O",
        lengths: tuple[float, float, float] = (11.0, 12.0, 13.0),
        tilt: float = 0.0,
        seed: int = 1,
    ) -> Atoms:
        random = np.random.default_rng(seed)
        cell = np.diag(lengths)
        cell[1, 0], cell[2, 0], cell[2, 1] = tilt, -0.7 * tilt, 0.5 * tilt
        positions: list[np.ndarray] = []
        atoms = Atoms(cell=cell, pbc=True)
        while len(positions) < n_atoms:
            candidate = random.random(3) @ cell
            trial = Atoms("X", positions=[candidate], cell=cell, pbc=True)
            if (
                len(atoms) == 0
                or (atoms + trial).get_distances(-1, range(len(atoms)), mic=True).min() > 1.6
            ):
                positions.append(candidate)
                atoms += trial
        kinds = symbols.split()
        atoms.set_chemical_symbols([kinds[k % len(kinds)] for k in range(n_atoms)])
        return atoms

    return build
