"""Constant-rate deposition of sodium: one ion per interval is carried to the anode and released.

Each interval runs in a folder of its own and counts only when the state file says so: a run that is killed at any
moment loses at most the interval it was in, and does it again with the same noise.
"""

from __future__ import annotations

import csv
import io
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from qnep.deposit.census import (
    find_molecules,
    find_residents,
    sodium_places,
    take_census,
)
from qnep.deposit.dynamics import END_FRAME, START_DATA, TRAJECTORY
from qnep.deposit.engine import ForceField, LammpsProgram
from qnep.deposit.figure import draw_deposition
from qnep.deposit.frame import Frame, read_frame, write_data, write_frame
from qnep.deposit.interval import OUTCOME, Carrying, Protocol, lammps_text, plumed_text
from qnep.deposit.ion_choice import (
    NoSodiumLeft,
    choose_ion,
    coordination_numbers,
    insert_sodium,
    shell_atoms,
)
from qnep.deposit.regions import Regions, draw_regions, region_table
from qnep.deposit.state import STATE_FILE, State

logger = logging.getLogger(__name__)

START_FRAME, TABLE, FIGURE = "start.dump", "deposition.csv", "deposition.png"
REGIONS_PICTURE, REGIONS_TABLE = "regions.png", "regions.txt"


class Deposition:
    """A deposition run in a folder."""

    def __init__(self, folder: Path, state: State):
        self.folder = folder
        self.state = state

    @classmethod
    def start(
        cls, folder: str | Path, atoms: Atoms, regions: Regions, force_field: ForceField, protocol: Protocol,
        program: LammpsProgram, selections: Mapping[str, str] | None = None,
    ) -> Deposition:  # fmt: skip
        """Set up a new run: checks everything that can be checked before a step is run, and shows the regions.

        `selections` are kept with the state, see `State`.

        Raises
        ------
        FileExistsError : the folder holds a run.
        NoSodiumLeft : there is no ion to carry.
        ValueError : elements the force field does not know; LAMMPS without fix plumed; a PLUMED input it refuses.
        """
        folder = Path(folder)
        if (folder / STATE_FILE).exists():
            raise FileExistsError(
                f"{folder} holds a deposition run: resume it (--resume) or choose another folder"
            )
        frame = Frame.from_atoms(atoms, protocol.temperature, protocol.seed)
        unknown = sorted(set(frame.symbols) - set(force_field.elements))
        if unknown:
            raise ValueError(
                f"the force field has the elements {' '.join(force_field.elements)}, not {' '.join(unknown)}"
            )
        carriers = [i for i in regions.electrolyte if frame.symbols[i] == "Na"]
        if protocol.source == "electrolyte":
            choose_ion(
                frame,
                regions,
                carriers,
                protocol.arrival_height,
                "nearest",
                np.random.default_rng(0),
            )
        elif "Na" not in force_field.elements:
            raise ValueError("the force field has no Na to bring in")
        molecules = find_molecules(atoms, regions.electrolyte)
        residents = list(find_residents(frame, regions, protocol.arrival_height))
        state = State(
            protocol, force_field, program, regions, molecules, carriers, residents,
            selections=dict(selections or {}),
        )  # fmt: skip
        run = cls(folder, state)
        folder.mkdir(parents=True, exist_ok=True)
        run._rehearse(frame)
        write_frame(folder / START_FRAME, frame)
        (folder / REGIONS_TABLE).write_text(region_table(atoms, regions) + "\n")
        draw_regions(atoms, regions, folder / REGIONS_PICTURE, carriers)
        run.state.save(folder)
        return run

    @classmethod
    def resume(cls, folder: str | Path) -> Deposition:
        """Take up a run after its last finished interval.

        Raises
        ------
        StateError : no run, or a state file that cannot be read.
        """
        return cls(Path(folder), State.load(Path(folder)))

    def run(
        self, n_intervals: int, report: Callable[[dict[str, Any]], None] = lambda row: None
    ) -> None:
        """Run until `n_intervals` ions have been carried; ends early, and says so in the log, when none is left.

        Parameters
        ----------
        n_intervals : of the whole run, those of before a resume included.
        report : called with each new row of the table.
        """
        while len(self.state.rows) <= n_intervals:
            try:
                report(self.run_interval())
            except NoSodiumLeft as reason:
                logger.warning("%s", reason)
                return

    def run_interval(self) -> dict[str, Any]:
        """Run one interval (the first: equilibration), write table, figure and state, and return its row."""
        state = self.state
        number = len(state.rows)
        generator = np.random.default_rng([state.protocol.seed, number])
        frame = self.frame()
        carriers = list(state.carriers)
        carrying = None
        if number:
            if state.protocol.source == "reservoir":
                frame = insert_sodium(
                    frame, self._regions(frame), state.protocol.temperature, generator
                )
                carriers.append(len(frame.symbols) - 1)
            carrying = self._choose(frame, carriers, generator)
        folder = self._fresh_folder(number)
        self._write_inputs(folder, frame, carrying, number)
        state.program.run((folder / "in.lammps").read_text(), folder)
        end = read_frame(folder / END_FRAME)
        state.carriers = carriers
        state.step = end.step
        state.rows.append(self._row(folder, end, carrying))
        self._append_trajectory(folder / TRAJECTORY)
        state.save(self.folder)
        self.write_results()
        return state.rows[-1]

    def frame(self) -> Frame:
        """The frame after the last finished interval."""
        number = len(self.state.rows) - 1
        path = (
            self.folder / START_FRAME if number < 0 else self._interval_folder(number) / END_FRAME
        )
        return read_frame(path)

    def write_results(self) -> None:
        """Write table and figure from the state."""
        (self.folder / TABLE).write_text(table_text(self.state.rows))
        draw_deposition(self.state.rows, self.folder / FIGURE)

    def _choose(
        self, frame: Frame, carriers: list[int], generator: np.random.Generator
    ) -> Carrying:
        protocol, regions = self.state.protocol, self._regions(frame)
        ion = choose_ion(
            frame, regions, carriers, protocol.arrival_height, protocol.choice, generator
        )
        shell = shell_atoms(frame, regions)
        if "coordination" in protocol.variables and not shell:
            raise ValueError("the coordination cannot be biased: no O, F or N in the electrolyte")
        surface, side = regions.face_below(frame.positions, ion)
        return Carrying(
            ion,
            float(regions.heights(frame.positions)[ion]),
            float(coordination_numbers(frame, [ion], shell)[0]),
            shell,
            surface,
            side,
            0.5 * regions.gap(frame.positions) if regions.back else None,
        )

    def _regions(self, frame: Frame) -> Regions:
        """Regions with the surface of the moment: that of a metal melts, and grows by what was deposited."""
        regions = self.state.regions
        if not any(frame.symbols[i] == "Na" for i in regions.anode):
            return regions
        return regions.with_surface_of(frame.positions, frame.cell, self.state.deposited)

    def _write_inputs(
        self, folder: Path, frame: Frame, carrying: Carrying | None, number: int
    ) -> None:
        state = self.state
        write_data(folder / START_DATA, frame, state.force_field.elements)
        text = lammps_text(
            state.protocol, state.force_field, frame.pbc, number, state.step, carrying is not None
        )
        (folder / "in.lammps").write_text(text)
        if carrying is not None:
            (folder / "plumed.dat").write_text(
                plumed_text(state.protocol, state.regions, carrying, state.step)
            )

    def _rehearse(self, frame: Frame) -> None:
        """One evaluation of all that the first interval needs, so that a mistake shows before any step."""
        folder = self.folder / "check"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        generator = np.random.default_rng(0)
        state = self.state
        carriers = list(state.carriers)
        if state.protocol.source == "reservoir":
            frame = insert_sodium(frame, state.regions, state.protocol.temperature, generator)
            carriers.append(len(frame.symbols) - 1)
        self._write_inputs(folder, frame, self._choose(frame, carriers, generator), 1)
        text = (folder / "in.lammps").read_text()
        head, _, _ = text.partition("\nrun ")
        state.program.run(head + "\nrun 0\n", folder)
        shutil.rmtree(folder)

    def _row(self, folder: Path, end: Frame, carrying: Carrying | None) -> dict[str, Any]:
        state = self.state
        arrival_ps, work = None, 0.0
        if carrying is not None:
            step, work_text = (folder / OUTCOME).read_text().split()
            work = float(work_text)
            if int(step) < end.step:
                arrival_ps = int(step) * state.protocol.timestep_fs / 1000
        regions = self._regions(end)
        height = state.protocol.arrival_height
        census = take_census(
            end,
            regions,
            state.molecules,
            state.carriers,
            state.residents,
            height,
        )
        places = sodium_places(end, regions, state.residents, height)
        state.deposited = [i for i in state.carriers if places[i] == "deposited"]
        before = state.rows[-1]["total_bias_work_eV"] if state.rows else 0.0
        return {
            "interval": len(state.rows),
            "time_ps": end.step * state.protocol.timestep_fs / 1000,
            "ion": carrying.ion if carrying else None,
            "arrival_ps": arrival_ps,
            **asdict(census),
            "bias_work_eV": work,
            "total_bias_work_eV": before + work,
        }

    def _interval_folder(self, number: int) -> Path:
        return self.folder / f"interval_{number:04d}"

    def _fresh_folder(self, number: int) -> Path:
        """An empty folder for an interval; what a killed run left there is moved aside."""
        folder = self._interval_folder(number)
        if folder.exists():
            tries = 1
            while (aside := folder.with_name(f"{folder.name}.interrupted-{tries}")).exists():
                tries += 1
            folder.rename(aside)
            logger.warning("interval %d was interrupted: its files are in %s", number, aside.name)
        folder.mkdir()
        return folder

    def _append_trajectory(self, part: Path) -> None:
        """Append an interval's frames; what a killed run appended after its last saved state is cut off."""
        whole = self.folder / TRAJECTORY
        whole.touch()
        with whole.open("r+b") as file:
            file.truncate(self.state.trajectory_bytes)
            file.seek(0, io.SEEK_END)
            with part.open("rb") as frames:
                shutil.copyfileobj(frames, file)
            self.state.trajectory_bytes = file.tell()


def table_text(rows: list[dict[str, Any]]) -> str:
    """The table as CSV; units are in the names of the columns, counts have none."""
    output = io.StringIO()
    writer = csv.DictWriter(output, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {
                key: f"{value:.6g}" if isinstance(value, float) else value
                for key, value in row.items()
            }
        )
    return output.getvalue()
