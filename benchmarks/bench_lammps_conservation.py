"""Conservation of energy in LAMMPS: sodium and electrolyte, 1,000 atoms, 20 ps.

The interface of lammps_inputs/ twice along x, with the shipped model and the default mesh; 0.5 fs; about ten minutes.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from harness import table

from qnep.lammps.mpi import lammps_program

ROOT = Path(__file__).resolve().parents[1]
N_ATOMS = 1000
TIMESTEP = 0.0005  # ps
SCRIPT = f"""units metal
atom_style charge
read_data {ROOT}/lammps_inputs/data/interface.data
replicate 2 1 1
pair_style qnep timing yes
pair_coeff * * {ROOT}/models/na-sei-seed/nep.txt C F H Na O P
neighbor 1.0 bin
timestep {TIMESTEP}
min_modify dmax 0.05
minimize 0 1.0e-2 200 1000
reset_timestep 0
velocity all create 600 7741 mom yes dist gaussian
fix d all nvt temp 300 300 0.05
thermo_style custom step temp etotal
thermo 500
run 1000
unfix d
velocity all zero linear
reset_timestep 0
fix d all nve
compute f all reduce sum fx fy fz
variable p equal vcm(all,x)
thermo_style custom step temp etotal c_f[1] c_f[2] c_f[3] v_p
thermo_modify format float %.12g flush yes
thermo 200
run 40000
"""


def summary(screen: str) -> str:
    """Drift, fluctuation and net force from the rows of the constant-energy run."""
    lines = re.findall(r"^ +(\d+(?: +[-\d.e+]+){6}) *$", screen, re.MULTILINE)
    rows = np.array([line.split() for line in lines], dtype=float)
    time = rows[:, 0] * TIMESTEP
    energy = rows[:, 2] / N_ATOMS
    values = [
        ("length (ps)", float(time[-1])),
        ("drift of the total energy (eV/atom/ps)", float(np.polyfit(time, energy, 1)[0])),
        ("fluctuation of the total energy (eV/atom, rms)", float(energy.std())),
        ("largest net force on the system (eV/Å)", float(np.abs(rows[:, 3:6]).max())),
        ("temperature, first and last (K)", f"{rows[0, 1]:.0f}, {rows[-1, 1]:.0f}"),
    ]
    return table(("quantity", "value"), values) + (
        "\n\nThe net force of the mesh is subtracted from all atoms in equal parts (keyword `net_force remove`). "
        "The system heats up because the packed interface reacts with this first model."
    )


def measure() -> str:
    with tempfile.TemporaryDirectory(prefix="qnep-bench-") as folder:
        (Path(folder) / "in.nve").write_text(SCRIPT)
        done = subprocess.run(
            [lammps_program(), "-in", "in.nve", "-log", "none"],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise RuntimeError(done.stdout[-2000:])
    return summary(done.stdout)
