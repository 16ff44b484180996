"""Stretches of dynamics that LAMMPS drives; their frames are handed to the gates one by one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.lammps import Prism
from ase.constraints import FixAtoms
from ase.io.lammpsdata import write_lammps_data

from qnep.deposit.engine import LammpsError, LammpsProgram
from qnep.lammps.md_input import elements_in_order
from qnep.learn.dynamics import Dynamics, Snapshot

FOLDER = "exploration"
DATA_FILE = "system.data"
FRAMES_FILE = "frames.lammpstrj"
HEADER_LINES = 9
PICOSECOND = 1000 * units.fs  # in ASE's unit of time
LARGEST_SEED = 900_000_000  # that fix langevin takes
MEASURES = {"deviation": "deviations", "grade": "grades"}
"""What `compute qnep/atom` calls the measure of each gate -> its name in the results of an observation."""


class ExplorationFailed(RuntimeError):
    """LAMMPS cannot be started with this input, or its output is not whole."""


class Unphysical(ValueError):
    """LAMMPS refused to go on from a structure that its dynamics led to."""


@dataclass(frozen=True)
class LammpsSettings:
    """How LAMMPS is run.

    Parameters
    ----------
    command : that starts it, with ranks as the user likes them: ``"mpirun -n 4 lmp"``.
    stretch_steps : most steps of one call.
    kspace : keyword of ``pair_style qnep``.
    n_threads : of each rank.

    Raises
    ------
    ValueError : counts below one.
    FileNotFoundError : no such program.
    """

    command: str = "lmp"
    stretch_steps: int = 1000
    kspace: str = "pppm 1e-5"
    n_threads: int = 1

    def __post_init__(self) -> None:
        for name in ("stretch_steps", "n_threads"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} of the exploration must be at least 1, got {getattr(self, name)}"
                )
        LammpsProgram.find(self.command)

    @property
    def program(self) -> LammpsProgram:
        found = LammpsProgram.find(self.command)
        return replace(found, environment={"OMP_NUM_THREADS": str(self.n_threads)})


@dataclass(frozen=True)
class Langevin:
    """The dynamics: K, fs, 1/fs; `interval` steps between two frames."""

    temperature: float
    timestep_fs: float
    friction: float
    interval: int


@dataclass
class Stretch:
    """A call of LAMMPS, by everything that decides its frames; plain types.

    start : `Snapshot.as_dict` of where it begins.
    seed : of its noise.
    n_steps : of the call.
    limit : of the uncertainty, at which it breaks off; None: it does not.
    n_used : frames that the gates have seen.
    """

    start: dict[str, Any]
    seed: int
    n_steps: int
    limit: float | None
    n_used: int = 0


@dataclass(frozen=True)
class Frame:
    """A moment of a stretch: Å, ASE's momenta, and what ``pair_style qnep`` calculated there."""

    step: int
    positions: np.ndarray  # [n_atoms, 3]
    momenta: np.ndarray  # [n_atoms, 3]
    results: dict[str, Any]


class LammpsExploration:
    """Machine-learned dynamics in LAMMPS, ``pair_style qnep`` with the measure of the uncertainty.

    A stretch begins where the atoms are, with noise of a seed of its own that is drawn from the generator of the run,
    and breaks off where the measure exceeds the threshold. It is repeated to the same frames from what `memory` holds.
    One that follows on such a frame, when the policy saw no need to act on it, does not break off: else it would at
    every look.

    Parameters
    ----------
    settings : how LAMMPS is run.
    langevin : the dynamics.
    measure : ``"deviation"`` or ``"grade"``.
    folder : of the run of learning.
    atoms : structure that will be run.
    total_charge : of the cell, e.

    Raises
    ------
    ValueError : a structure that is not periodic in all directions, constraints other than fixed atoms, or a stretch
        shorter than the interval of the looks.
    """

    def __init__(
        self,
        settings: LammpsSettings,
        langevin: Langevin,
        measure: str,
        folder: Path,
        atoms: Atoms,
        total_charge: float = 0.0,
    ) -> None:
        if not atoms.pbc.all():
            raise ValueError(
                f"exploration by LAMMPS needs a structure periodic in x, y and z, got pbc = {atoms.pbc.tolist()}"
            )
        others = [c for c in atoms.constraints if not isinstance(c, FixAtoms)]
        if others:
            raise ValueError(
                f"exploration by LAMMPS knows fixed atoms and no other constraint, got {type(others[0]).__name__}"
            )
        if settings.stretch_steps < langevin.interval:
            raise ValueError(
                f"stretch_steps must be at least check_interval = {langevin.interval}, got {settings.stretch_steps}"
            )
        self.settings = settings
        self.langevin = langevin
        self.measure = measure
        self.total_charge = total_charge
        self._root = folder / FOLDER
        self._models: list[Path] = []
        self._active_set = Path()
        self._stretch: Stretch | None = None
        self._frames: list[Frame] | None = None
        self._failure = ""

    def use_models(self, models: Sequence[Path], active_set: Path) -> None:
        """Run with these from now on; the active set is used where the measure is the grade."""
        self._models = [path.resolve() for path in models]
        self._active_set = active_set.resolve()

    @property
    def memory(self) -> dict[str, Any] | None:
        """What `restore` needs to go on in the middle of a stretch; None where none has begun."""
        return None if self._stretch is None else asdict(self._stretch)

    def restore(self, memory: dict[str, Any] | None) -> None:
        """Go on where `memory` was taken; LAMMPS repeats the stretch."""
        self._frames = None
        self._stretch = None if memory is None else Stretch(**memory)

    def forget(self) -> None:
        """Drop the rest of a stretch, as when the atoms were put somewhere else."""
        self.restore(None)

    def next_frame(self, dynamics: Dynamics, limit: float, most_steps: int) -> Frame:
        """Return the next frame, one interval on.

        Parameters
        ----------
        dynamics : where a new stretch begins.
        limit : of the measure, at which a new stretch breaks off.
        most_steps : that a new stretch should take, rounded up to whole intervals.

        Raises
        ------
        Unphysical : LAMMPS could not go on from the frame before.
        ExplorationFailed : it could not even begin, or wrote less than it should have.
        """
        stretch = self._stretch
        if stretch is None or self._is_used_up(stretch, dynamics.atoms):
            stretch = self._new_stretch(dynamics, limit, most_steps)
        frames = self._frames_of(stretch, dynamics.atoms)
        if stretch.n_used == len(frames):
            raise Unphysical(self._failure)
        stretch.n_used += 1
        return frames[stretch.n_used - 1]

    def _is_used_up(self, stretch: Stretch, atoms: Atoms) -> bool:
        """Whether the gates have seen all frames, and no failure comes after them."""
        return stretch.n_used == len(self._frames_of(stretch, atoms)) and not self._failure

    def _frames_of(self, stretch: Stretch, atoms: Atoms) -> list[Frame]:
        """Return the frames of a stretch, which is run if it has not been."""
        if self._frames is None:
            self._frames = self._run(stretch, atoms)
        return self._frames

    def _new_stretch(self, dynamics: Dynamics, limit: float, most_steps: int) -> Stretch:
        interval = self.langevin.interval
        n_looks = max(1, min(-(-most_steps // interval), self.settings.stretch_steps // interval))
        goes_on = self._stretch is not None and self._breaks_off(self._stretch, self._frames)
        seed = dynamics.draw_seed(LARGEST_SEED)
        self._frames = None
        self._stretch = Stretch(
            dynamics.snapshot().as_dict(), seed, n_looks * interval, None if goes_on else limit
        )
        return self._stretch

    def _breaks_off(self, stretch: Stretch, frames: Sequence[Frame] | None) -> bool:
        """Whether the frames end where the measure exceeds the limit of the stretch."""
        if stretch.limit is None or not frames:
            return False
        return bool(frames[-1].results[MEASURES[self.measure]].max() > stretch.limit)

    def _run(self, stretch: Stretch, atoms: Atoms) -> list[Frame]:
        """Let LAMMPS do a stretch and return its frames; leaves in `_failure` what ended it early."""
        start = Snapshot.from_dict(stretch.start)
        atoms = atoms.copy()
        atoms.positions = start.positions
        atoms.set_momenta(start.momenta, apply_constraint=False)
        prism = Prism(atoms.cell.array)
        folder = self._new_folder()
        elements = elements_in_order(atoms.get_chemical_symbols())
        write_lammps_data(
            folder / DATA_FILE,
            atoms,
            specorder=list(elements),
            masses=True,
            velocities=True,
            atom_style="charge",
            units="metal",
            prismobj=prism,
        )
        self._failure = ""
        try:
            self.settings.program.run(self._script(stretch, atoms, elements), folder)
        except LammpsError as failure:
            self._failure = " ".join(str(failure).split())
        tables = read_tables(folder / FRAMES_FILE, len(atoms))
        if not tables:
            raise ExplorationFailed(self._failure or f"LAMMPS wrote no frame in {folder}")
        sound = [bool(np.isfinite(table[:, :10]).all()) for _, table in tables]
        if not all(sound):
            tables = tables[: sound.index(False)]
            self._failure = self._failure or "positions, forces or energies are not numbers"
        frames = [
            self._frame(step + start.step, table, prism, atoms.get_masses())
            for step, table in tables[1:]
        ]
        n_wanted = stretch.n_steps // self.langevin.interval
        is_short = len(frames) < n_wanted and not self._breaks_off(stretch, frames)
        if is_short and not self._failure:
            raise ExplorationFailed(
                f"LAMMPS wrote {len(frames)} of {n_wanted} frames in {folder}: is the disk full?"
            )
        return frames

    def _new_folder(self) -> Path:
        """Return an empty folder. Older ones go; a LAMMPS that outlived a killed run may still write to its own."""
        shutil.rmtree(self._root, ignore_errors=True)
        self._root.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=self._root))

    def _frame(self, step: int, table: np.ndarray, prism: Prism, masses: np.ndarray) -> Frame:
        positions, velocities, forces = (
            prism.vector_to_ase(table[:, k : k + 3]) for k in (0, 3, 6)
        )
        results = {
            "energy": float(table[:, 9].sum()),
            "forces": forces,
            MEASURES[self.measure]: table[:, 10],
        }
        return Frame(step, positions, velocities / PICOSECOND * masses[:, None], results)

    def _script(self, stretch: Stretch, atoms: Atoms, elements: Sequence[str]) -> str:
        interval, langevin = self.langevin.interval, self.langevin
        style = f"pair_style qnep kspace {self.settings.kspace}"
        if self.total_charge:
            style += f" charge {self.total_charge:.17g}"
        if self.measure == "grade":
            style += f' grade "{self._active_set}" grade.txt {interval}'
        files = " ".join(f'"{path}"' for path in self._models)
        fixed = sorted({int(i) + 1 for c in atoms.constraints for i in c.index})
        mobile = f"group fixed id {' '.join(map(str, fixed))}\ngroup mobile subtract all fixed"
        temperature = f"{langevin.temperature:.17g}"
        # The forces are stored before the thermostat adds its own.
        lines = [
            "units metal\natom_style charge\nboundary p p p",
            f"read_data {DATA_FILE}",
            style,
            f"pair_coeff * * {files} {' '.join(elements)}",
            "neighbor 1.0 bin\nneigh_modify every 1 delay 0 check yes",
            mobile if fixed else "group mobile union all",
            f"timestep {1e-3 * langevin.timestep_fs:.17g}",
            "fix forces all store/force\nfix motion mobile nve",
            f"fix bath mobile langevin {temperature} {temperature} {1e-3 / langevin.friction:.17g} {stretch.seed}",
            f"compute energies all pe/atom\ncompute measures all qnep/atom {self.measure}",
            f"dump frames all custom {interval} {FRAMES_FILE} id xu yu zu vx vy vz "
            "f_forces[1] f_forces[2] f_forces[3] c_energies c_measures",
            "dump_modify frames sort id format float %.17g flush yes",
            f"thermo {interval}",
        ]
        if stretch.limit is not None:
            lines += [
                "compute worst all reduce max c_measures\nvariable worst equal c_worst",
                f"fix stop all halt {interval} v_worst > {stretch.limit:.17g} error soft message no",
            ]
        return "\n".join([*lines, f"run {stretch.n_steps}", ""])


def read_tables(path: Path, n_atoms: int) -> list[tuple[int, np.ndarray]]:
    """Return step and numbers (n_atoms, n_columns), without the id, of the whole frames of a sorted dump.

    A frame that was cut off ends the list.
    """
    if not path.is_file():
        return []
    lines = path.read_text().splitlines(keepends=True)
    frames = []
    n_lines = HEADER_LINES + n_atoms
    for start in range(0, len(lines) - n_lines + 1, n_lines):
        rows = lines[start + HEADER_LINES : start + n_lines]
        if not rows[-1].endswith("\n"):
            break
        table = np.array([row.split()[1:] for row in rows], float)
        frames.append((int(lines[start + 1]), table))
    return frames
