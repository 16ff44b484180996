"""LAMMPS as a program that deposition and barrier runs start, and the force field they hand it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qnep.lammps.mpi import lammps_program, mpi_launcher
from qnep.model import Model


class LammpsError(ValueError):
    """LAMMPS is absent or stopped with an error; the text holds its own message."""


@dataclass(frozen=True)
class ForceField:
    """What turns positions into forces: lines of a LAMMPS input after the box is there.

    Attributes
    ----------
    commands : pair_style, pair_coeff, kspace_style ... in metal units; one atom type per element.
    elements : of the atom types 1, 2, ...
    """

    commands: str
    elements: tuple[str, ...]

    @classmethod
    def from_model(
        cls, model: str | Path, elements: Sequence[str], temperature: float | None = None
    ) -> ForceField:
        """Return the force field of a model file for atom types of these elements.

        Parameters
        ----------
        temperature : K, of the run; a model of the free energy is evaluated at it, others do not ask.

        Raises
        ------
        LammpsError : there is no such file; a model of the free energy without a temperature.
        ModelError : the file holds no model.
        """
        path = Path(model).resolve()
        if not path.is_file():
            raise LammpsError(f"model file {model} not found")
        style = "pair_style qnep"
        if Model.read(str(path)).has_temperature:
            if temperature is None:
                raise LammpsError(
                    f"{model} is a model of the free energy: wanted a temperature in K, got none"
                )
            style += f" temperature {temperature:.15g}"
        return cls(f"{style}\npair_coeff * * {path} {' '.join(elements)}", tuple(elements))

    @classmethod
    def from_file(cls, path: str | Path, elements: Sequence[str]) -> ForceField:
        """Return a force field written as LAMMPS lines whose atom types have these elements, in this order."""
        try:
            return cls(Path(path).read_text(), tuple(elements))
        except OSError as failure:
            raise LammpsError(f"cannot read the force field {path}: {failure}") from failure


@dataclass(frozen=True)
class LammpsProgram:
    """The command that starts LAMMPS, with ranks and accelerator options as the user likes them."""

    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def find(cls, command: str | None = None) -> LammpsProgram:
        """Take a command line, as ``"mpirun -n 4 lmp"``, or look for ``lmp`` beside Python and on the PATH.

        Raises
        ------
        FileNotFoundError : its first word is no program.
        """
        words = shlex.split(command or "lmp")
        ours = {"lmp": lammps_program, "mpirun": mpi_launcher}  # those of this Python environment
        words = [ours[word]() if word in ours else word for word in words]
        if shutil.which(words[0]) is None:
            raise FileNotFoundError(f"LAMMPS cannot be started: no program {words[0]!r}")
        return cls(tuple(words))

    def run(self, script: str, folder: str | Path, name: str = "in.lammps") -> str:
        """Run an input script in a folder and return the log.

        Raises
        ------
        LammpsError : with LAMMPS's own message, and PLUMED's where it is PLUMED's.
        """
        folder = Path(folder)
        (folder / name).write_text(script)
        screen = folder / f"{name}.screen"
        with screen.open("w") as output:
            finished = subprocess.run(
                [*self.command, "-in", name, "-log", f"{name}.log"],
                cwd=folder,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        text = screen.read_text(errors="replace")
        if finished.returncode != 0:
            raise LammpsError(f"LAMMPS stopped in {folder / name}:\n{_complaint(text)}")
        return (folder / f"{name}.log").read_text(errors="replace")

    def fix_styles(self) -> set[str]:
        """Names of the fix styles that it knows, those of plugins included."""
        with tempfile.TemporaryDirectory() as folder:
            log = self.run("info out log styles fix\n", folder)
        listed = log.partition("Fix styles:")[2]
        return set(listed.split())


def _complaint(text: str) -> str:
    lines = text.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith("ERROR")), None)
    return "\n".join(lines[-15:] if first is None else lines[first : first + 12])
