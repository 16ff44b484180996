"""fix plumed: what metadynamics adds to a step."""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path

from bench_engine import SODIUM_ELEMENTS, sodium_box, sodium_model
from harness import Timing, ratios, table

from qnep.deposit.engine import ForceField
from qnep.deposit.frame import Frame, write_data
from qnep.lammps.session import open_lammps

ROUNDS = 5
STEPS = {1_000: 100, 30_000: 5}  # of each turn
TIMESTEP_PS = 1e-6  # forces of a random model would soon blow the system up
CHARGE_MODE = 1  # a qNEP model, with its k-space sum
LIMITS = {1_000: "5 %", 30_000: "10 %"}


def plumed_input(n_atoms: int) -> str:
    """Two variables: a distance, and the coordination of one atom by a quarter of all others."""
    return f"""UNITS LENGTH=A ENERGY=eV TIME=ps
d: DISTANCE ATOMS=1,2
c: COORDINATION GROUPA=1 GROUPB=3-{n_atoms // 4} SWITCH={{RATIONAL R_0=3.5 D_MAX=6.0}} NLIST NL_CUTOFF=9.0 NL_STRIDE=20
METAD ARG=d,c SIGMA=0.1,0.2 HEIGHT=0.01 PACE=20 GRID_MIN=0,0 GRID_MAX=60,30 GRID_BIN=600,300 FILE=HILLS
PRINT ARG=d,c STRIDE=20 FILE=COLVAR
"""


def turns(folder: Path, n_atoms: int) -> tuple[Timing, Timing]:
    """CPU seconds per step without and with fix plumed, in turn within one LAMMPS.

    CPU time and not time on the clock: what other programs on the machine do hardly shows in it.
    """
    model = folder / "nep.txt"
    sodium_model(CHARGE_MODE).write(str(model))
    frame = Frame.from_atoms(sodium_box(n_atoms), 300.0, 1)
    forces = ForceField.from_model(model, SODIUM_ELEMENTS)
    write_data(folder / "start.data", frame, forces.elements)
    (folder / "plumed.dat").write_text(plumed_input(n_atoms))
    steps = STEPS[n_atoms]
    seconds: dict[bool, list[float]] = {False: [], True: []}
    with contextlib.chdir(folder), contextlib.closing(open_lammps()) as lammps:
        lammps.commands_string(f"""units metal
atom_style charge
read_data start.data
{forces.commands}
timestep {TIMESTEP_PS}
fix motion all nve
thermo 1000000
run {steps}""")
        for _ in range(ROUNDS):
            for biased in (False, True):
                if biased:
                    lammps.command("fix bias all plumed plumedfile plumed.dat outfile plumed.log")
                lammps.command("run 0")
                start = time.process_time()
                lammps.command(f"run {steps} pre no")
                seconds[biased].append((time.process_time() - start) / steps)
            lammps.command("unfix bias")
    return Timing(tuple(seconds[False])), Timing(tuple(seconds[True]))


def measure() -> str:
    """Return the table of step times without and with metadynamics."""
    rows = []
    for n_atoms in STEPS:
        with tempfile.TemporaryDirectory() as folder:
            without, biased = turns(Path(folder), n_atoms)
        share = 100 * (ratios(biased, without) - 1)
        rows.append(
            [n_atoms, 1e3 * without.median, 1e3 * biased.median, f"{share:.1f} %", LIMITS[n_atoms]]
        )
    head = ["atoms", "step without (CPU ms)", "step with (CPU ms)", "added", "wanted below"]
    return (
        "qNEP model of sodium (charge mode 1), one rank, serial PLUMED kernel; metadynamics on a "
        "distance and a coordination number on a grid, a hill every 20 steps.\n\n"
        + table(head, rows)
    )
