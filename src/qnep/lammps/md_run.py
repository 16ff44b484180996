"""Running molecular dynamics in a folder: start, progress, resume after a kill."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from ase import Atoms
from ase.io.lammpsdata import write_lammps_data

from qnep.files import take_lock, write_atomically
from qnep.lammps.md_input import (
    DATA_FILE,
    DEVIATION_FILE,
    FINAL_FILE,
    RESTART_PREFIX,
    TRAJECTORY_FILE,
    MDSettings,
    md_input,
)
from qnep.lammps.mpi import lammps_program, mpi_launcher

logger = logging.getLogger(__name__)

SETTINGS_FILE = "md.json"
INPUT_FILE = "in.md"
LOG_FILE = "log.lammps"
SCREEN_FILE = "screen.txt"
RESUMED_INPUT_FILE = "in.md.resumed"
LOCK_FILE = "run.lock"
RESTART_MARK_LENGTH = 16  # bytes; LAMMPS begins and ends a restart file with the same mark
POLL_SECONDS = 0.2


class MDFailure(RuntimeError):
    """LAMMPS stopped with an error; the text holds what it said."""


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Hold the lock of a folder, which is made where it is absent, and give its descriptor.

    Raises
    ------
    BlockingIOError : another process works in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = take_lock(folder / LOCK_FILE)
    if lock is None:
        raise BlockingIOError(
            f"another process works in {folder} (a `qnep md`, or a LAMMPS that outlived one): "
            "wait for its end or stop it"
        )
    try:
        yield lock
    finally:
        os.close(lock)


def check_folder(folder: Path, settings: MDSettings) -> None:
    """Look whether a new run can be written into a folder, and write nothing.

    Raises
    ------
    FileExistsError : the folder holds a run already, or a file that this one would replace. A run that failed before
        its first step, or a model that is in its place already, is no obstacle.
    """
    is_ours = (folder / SETTINGS_FILE).exists()
    if is_ours and not _failed_at_once(folder):
        raise FileExistsError(
            f"{folder} holds a run already: resume it (--resume) or choose another folder"
        )
    written = (DATA_FILE, INPUT_FILE, TRAJECTORY_FILE, FINAL_FILE, DEVIATION_FILE)
    obstacles = [folder / name for name in written if not is_ours and (folder / name).exists()]
    obstacles += folder.glob(f"{RESTART_PREFIX}*")
    for name, content in _contents(settings).items():
        path = folder / name
        if path.exists() and path.read_bytes() != content:
            obstacles.append(path)
    if obstacles:
        raise FileExistsError(
            f"{', '.join(map(str, obstacles))}: the run would replace what is there, choose another --folder or move it"
        )


def _failed_at_once(folder: Path) -> bool:
    """Whether LAMMPS was started in the folder of a run and left neither a frame nor a restart file."""
    trajectory = folder / TRAJECTORY_FILE
    has_frames = trajectory.exists() and trajectory.stat().st_size > 0
    has_restarts = any(folder.glob(f"{RESTART_PREFIX}*"))
    was_started = (folder / LOG_FILE).exists() or (folder / SCREEN_FILE).exists()
    return was_started and not has_frames and not has_restarts


def _contents(settings: MDSettings) -> dict[str, bytes]:
    """The models, by the names that they have inside the folder."""
    return {
        name: Path(source).read_bytes()
        for source, name in zip(settings.models, local_models(settings).models)
    }


def prepare_folder(folder: Path, atoms: Atoms, settings: MDSettings) -> None:
    """Write structure, input and settings of a new run into a folder whose lock is held.

    Models are copied into the folder, so that it can be moved to another machine as a whole. The input of a run that
    failed is kept under another name, since people may have changed it.

    Raises
    ------
    FileExistsError : see `check_folder`.
    """
    check_folder(folder, settings)
    if (folder / INPUT_FILE).exists():
        (folder / INPUT_FILE).rename(_unused(folder, INPUT_FILE))
    for name, content in _contents(settings).items():
        if not (folder / name).exists():
            (folder / name).write_bytes(content)
    settings = local_models(settings)
    write_lammps_data(
        folder / DATA_FILE,
        atoms,
        specorder=list(settings.elements),
        masses=True,
        velocities=settings.keeps_velocities,
        atom_style="charge",
        units="metal",
    )
    _write_settings(folder, settings)


def _write_settings(folder: Path, settings: MDSettings) -> None:
    """Write the input and then the settings, which say that there is a run in the folder."""
    write_atomically(folder / INPUT_FILE, md_input(settings))
    write_atomically(folder / SETTINGS_FILE, json.dumps(asdict(settings), indent=2) + "\n")


def local_models(settings: MDSettings) -> MDSettings:
    """Return the settings with the names that the models have inside the folder."""
    names = tuple(
        "nep.txt" if index == 0 else f"nep{index + 1}.txt" for index in range(len(settings.models))
    )
    return MDSettings(**{**asdict(settings), "models": names})


def read_settings(folder: Path) -> MDSettings:
    """Read the settings of a run.

    Raises
    ------
    FileNotFoundError : there is no run in the folder.
    ValueError : what is there are not the settings of a run.
    """
    path = folder / SETTINGS_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no run to resume in this folder")
    try:
        values = json.loads(path.read_text())
        # JSON knows no tuples.
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return MDSettings(**{**values, **lists})
    except (TypeError, AttributeError, ValueError) as failure:
        raise ValueError(
            f"{path}: wanted the settings of a run of this qnep: {failure}"
        ) from failure


def complete_restarts(folder: Path) -> list[int]:
    """Return the steps of the restart files that were written to their end, in ascending order."""
    steps = []
    for path in folder.glob(f"{RESTART_PREFIX}*"):
        step = path.name.removeprefix(RESTART_PREFIX)
        if step.isdigit() and _is_complete(path):
            steps.append(int(step))
    return sorted(steps)


def _is_complete(path: Path) -> bool:
    content = path.read_bytes()
    mark = content[:RESTART_MARK_LENGTH]
    return len(content) > 2 * RESTART_MARK_LENGTH and content.endswith(mark)


def prepare_resume(folder: Path, n_steps: int | None = None) -> tuple[MDSettings, int | None]:
    """Write the input that goes on from the last complete restart file, unless the run has reached its end.

    What the killed run wrote after that step is cut off the trajectory and the deviation file.

    Parameters
    ----------
    n_steps : of the whole run, which may be longer now; None: as many as before.

    Returns
    -------
    The settings, and the step to go on from, which may be the last one (`is_finished`); None if there is no restart
    file and the run starts anew.

    Raises
    ------
    FileNotFoundError : there is no run in the folder.
    ValueError : fewer steps than before, or more for a run with a temperature ramp.
    """
    settings = read_settings(folder)
    if n_steps not in (None, settings.n_steps):
        settings = _extend(folder, settings, n_steps)
    steps = complete_restarts(folder)
    if not steps:
        return settings, None
    step = steps[-1]
    if is_finished(folder, settings, step):
        return settings, step
    (folder / FINAL_FILE).unlink(missing_ok=True)  # of a run that was shorter
    cut_trajectory(folder / TRAJECTORY_FILE, step)
    cut_table(folder / DEVIATION_FILE, step)
    (folder / RESUMED_INPUT_FILE).write_text(md_input(settings, restart_step=step))
    return settings, step


def is_finished(folder: Path, settings: MDSettings, step: int) -> bool:
    """Whether a run whose last restart file is of this step has nothing left to do, the final structure included."""
    return step >= settings.n_steps and (folder / FINAL_FILE).exists()


def _extend(folder: Path, settings: MDSettings, n_steps: int) -> MDSettings:
    if n_steps < settings.n_steps:
        raise ValueError(
            f"--steps: the run in {folder} has {settings.n_steps}, more are possible, got {n_steps}"
        )
    if settings.has_ramp:
        raise ValueError(
            f"--steps: the run in {folder} changes its temperature over {settings.n_steps} steps, another number "
            f"would change the ramp that it has begun, got {n_steps}"
        )
    settings = replace(settings, n_steps=n_steps)
    _write_settings(folder, settings)
    return settings


def cut_trajectory(path: Path, step: int) -> None:
    """Drop the frames of a LAMMPS dump from `step` on, and a last frame that is not whole."""
    if path.is_file():
        _truncate(path, _end_of_frames(path, step))


def _end_of_frames(path: Path, step: int) -> int:
    """Byte after the last whole frame that is older than `step`."""
    end = 0
    with path.open("rb") as file:
        while (line := file.readline()).startswith(b"ITEM: TIMESTEP"):
            if int(file.readline() or step) >= step:
                return end
            file.readline()
            n_lines = int(file.readline() or 0) + 5  # bounds: 4 lines, head of the atoms: 1
            for _ in range(n_lines):
                line = file.readline()
            if not line.endswith(b"\n"):
                return end
            end = file.tell()
    return end


def cut_table(path: Path, step: int) -> None:
    """Drop the rows from `step` on of a table whose first column is the step."""
    if not path.is_file():
        return
    end = 0
    with path.open("rb") as file:
        for line in file:
            is_older = line.startswith(b"#") or int(line.split()[0]) < step
            if not is_older or not line.endswith(b"\n"):
                break
            end += len(line)
    _truncate(path, end)


def _truncate(path: Path, size: int) -> None:
    with path.open("rb+") as file:
        file.truncate(size)


def run_lammps(
    folder: Path,
    input_file: str,
    n_ranks: int,
    n_threads: int,
    on_step: Callable[[int], None],
    lock: int,
) -> None:
    """Run LAMMPS in a folder and report the steps that its log shows.

    Parameters
    ----------
    lock : descriptor of the folder's lock, which LAMMPS holds too: it may outlive this process.

    Raises
    ------
    MDFailure : LAMMPS failed.
    """
    program = [lammps_program(), "-in", input_file, "-log", LOG_FILE]
    if n_ranks > 1:
        program = [mpi_launcher(), "-n", str(n_ranks), *program]
    environment = {**os.environ, "OMP_NUM_THREADS": str(n_threads)}
    log = folder / LOG_FILE
    if log.exists():
        log.rename(_unused(folder, LOG_FILE))
    with (folder / SCREEN_FILE).open("w") as screen:
        process = subprocess.Popen(
            program,
            cwd=folder,
            env=environment,
            stdout=screen,
            stderr=subprocess.STDOUT,
            pass_fds=[lock],
        )
        try:
            _follow(process, log, on_step)
        finally:
            _stop(process)
    if process.returncode != 0:
        raise MDFailure(_reason(folder, process.returncode))


def _unused(folder: Path, name: str) -> Path:
    number = 1
    while (folder / f"{name}.{number}").exists():
        number += 1
    return folder / f"{name}.{number}"


def _follow(process: subprocess.Popen[bytes], log: Path, on_step: Callable[[int], None]) -> None:
    steps = _steps_of(log)
    while True:
        is_done = process.poll() is not None
        for step in steps:
            if step is None:
                break
            on_step(step)
        if is_done:
            return
        time.sleep(POLL_SECONDS)


def _steps_of(log: Path) -> Iterator[int | None]:
    """The steps in the thermo output of a growing log; None whenever there is nothing new."""
    is_table = False
    while not log.exists():
        yield None
    with log.open() as file:
        while True:
            line = file.readline()
            if not line.endswith("\n"):
                file.seek(file.tell() - len(line))
                yield None
                continue
            words = line.split()
            if words[:2] == ["Step", "Time"]:
                is_table = True
            elif is_table and words and words[0].isdigit():
                yield int(words[0])
            else:
                is_table = is_table and not line.startswith("Loop time")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _reason(folder: Path, status: int) -> str:
    screen = (folder / SCREEN_FILE).read_text(errors="replace").splitlines()
    errors = [line for line in screen if line.startswith("ERROR")] or screen[-5:]
    return f"LAMMPS failed with status {status} in {folder}: {' '.join(errors)}"
