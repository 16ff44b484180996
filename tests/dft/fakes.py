"""Calculators that fail on purpose, for tests of the labelling engine; loaded by import path in worker processes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from ase import Atoms
from ase.calculators.lj import LennardJones


def lennard_jones(**options: float) -> LennardJones:
    """Return a Lennard-Jones calculator that never fails."""
    return LennardJones(epsilon=0.01, sigma=2.5, rc=4.0)


class Treacherous(LennardJones):
    """Lennard-Jones that raises, hangs or kills its process, by what the first atom's x asks for.

    100 x is the number of the frame; each `period`-th one raises, hangs or kills, in turn. With
    `marks` a fault strikes once: the file made then lets the next attempt pass.
    """

    def __init__(self, period: int, marks: str | None = None) -> None:
        super().__init__(epsilon=0.01, sigma=2.5, rc=4.0)
        self.period = period
        self.marks = marks

    def calculate(self, atoms: Atoms | None = None, *arguments: object) -> None:
        assert atoms is not None
        number = round(100 * atoms.positions[0, 0])
        if number % self.period == 0 and not self._has_struck(number):
            self._strike(number // self.period % 3)
        super().calculate(atoms, *arguments)

    def _has_struck(self, number: int) -> bool:
        if self.marks is None:
            return False
        mark = Path(self.marks, str(number))
        if mark.exists():
            return True
        mark.touch()
        return False

    @staticmethod
    def _strike(fault: int) -> None:
        if fault == 0:
            print("density did not settle after 100 steps", flush=True)
            raise RuntimeError("SCF did not converge")
        if fault == 1:
            time.sleep(3600)
        os.kill(os.getpid(), signal.SIGKILL)


def treacherous(period: int = 20, marks: str | None = None) -> Treacherous:
    """Return a calculator that fails for every `period`-th frame."""
    return Treacherous(period, marks)


class Tiring(LennardJones):
    """Lennard-Jones that notes in a file when it is made, and fails in its calculation number `n_good` + 1.

    `push` is a net force along x, eV/Å.
    """

    def __init__(self, made: str, n_good: int, push: float) -> None:
        super().__init__(epsilon=0.01, sigma=2.5, rc=4.0)
        self.n_left = n_good
        self.push = push
        with Path(made).open("a") as file:
            file.write("made\n")

    def calculate(self, atoms: Atoms | None = None, *arguments: object) -> None:
        self.n_left -= 1
        if self.n_left < 0:
            raise RuntimeError("SCF did not converge")
        super().calculate(atoms, *arguments)
        self.results["forces"][0, 0] += self.push


def tiring(made: str, n_good: int = 1000, push: float = 0.0) -> Tiring:
    """Return a calculator that fails when it has been used too often."""
    return Tiring(made, n_good, push)


class Sleeping(LennardJones):
    """Lennard-Jones that notes its process and folder in a file and then needs an hour."""

    def __init__(self, begun: str) -> None:
        super().__init__(epsilon=0.01, sigma=2.5, rc=4.0)
        self.begun = Path(begun)

    def calculate(self, atoms: Atoms | None = None, *arguments: object) -> None:
        note(self.begun, os.getpid())
        time.sleep(3600)


def sleeping(begun: str) -> Sleeping:
    """Return a calculator that does not come to an end."""
    return Sleeping(begun)


class Deserting(LennardJones):
    """Lennard-Jones that starts a program, notes its process and folder in a file, and kills itself."""

    def __init__(self, begun: str) -> None:
        super().__init__(epsilon=0.01, sigma=2.5, rc=4.0)
        self.begun = Path(begun)

    def calculate(self, atoms: Atoms | None = None, *arguments: object) -> None:
        program = subprocess.Popen(["sleep", "3600"])
        note(self.begun, program.pid)
        os.kill(os.getpid(), signal.SIGKILL)


def deserting(begun: str) -> Deserting:
    """Return a calculator that crashes and leaves a program behind."""
    return Deserting(begun)


def note(file: Path, process_id: int) -> None:
    """Write a process and the working folder into a file, which is whole when it is seen."""
    beside = file.with_suffix(".part")
    beside.write_text(f"{process_id} {Path.cwd()}")
    beside.rename(file)
