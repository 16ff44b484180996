"""Structures and scripts with which the tests of this folder feed LAMMPS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

N_ATOMS = 24
CELL = np.array([[9.0, 0.0, 0.0], [1.5, 8.5, 0.0], [-1.0, 0.8, 10.0]])  # Å, LAMMPS's orientation
MASSES = np.where(np.arange(N_ATOMS) % 2 == 0, 22.98977, 18.9984)
# Distances folded and not, centres with masses, angles, the cell itself, many atoms: all the ways forces, virial and
# charges go through.
STATIC_BIAS = """UNITS LENGTH=A ENERGY=eV TIME=ps
d: DISTANCE ATOMS=1,17
p: POSITION ATOM=5 NOPBC
c: COORDINATION GROUPA=1-6 GROUPB=7-24 R_0=3.0
a: ANGLE ATOMS=3,9,11
com: COM ATOMS=2-7
e: DISTANCE ATOMS=com,20 COMPONENTS
q: DIPOLE GROUP=1-12
v: VOLUME
RESTRAINT ARG=d,c,a,e.z AT=2.5,20.0,1.5,0.5 KAPPA=1.3,0.02,0.7,0.4 LABEL=r
RESTRAINT ARG=v,q,p.x AT=700.0,3.0,1.0 KAPPA=0.0001,0.3,0.2 LABEL=s
PRINT ARG=r.bias,s.bias FILE=COLVAR FMT=%.15g
"""
# One that acts on the potential energy as well, which scales every force and the virial of LAMMPS itself.
BIASED_ENERGY = STATIC_BIAS + "u: ENERGY\nRESTRAINT ARG=u AT=30.0 KAPPA=0.001 LABEL=t\n"

LJ = "pair_style lj/cut 4.5\npair_modify shift yes\npair_coeff * * 0.01 2.6"
DYNAMIC = """UNITS LENGTH=A ENERGY=eV TIME=ps
d: DISTANCE ATOMS=1,17
c: COORDINATION GROUPA=1-6 GROUPB=7-24 R_0=3.0
MOVINGRESTRAINT ...
  ARG=d AT0=3.0 STEP0=0 KAPPA0=0.5  # two points in time
  AT1=4.0 STEP1=60 LABEL=m
...
METAD ARG=c PACE=7 HEIGHT=0.02 SIGMA=0.4 FILE=HILLS LABEL=mt CALC_WORK TEMP=60 BIASFACTOR=8
PRINT ARG=d,c,m.bias,m.work,mt.bias,mt.work STRIDE=5 FILE=COLVAR FMT=%.12g
"""
NVE = "velocity all create 60 4711 loop all\nfix nve all nve\n"


def random_frame(seed: int) -> Atoms:
    generator = np.random.default_rng(seed)
    positions = generator.random((N_ATOMS, 3)) @ CELL
    charges = generator.uniform(-1, 1, N_ATOMS)
    symbols = ["Na", "F"] * (N_ATOMS // 2)
    atoms = Atoms(symbols, positions, cell=CELL, pbc=True, masses=MASSES)
    atoms.set_initial_charges(charges)
    return atoms


def lattice_frame() -> Atoms:
    """Atoms that do not touch, for a pair potential: a rattled lattice of 3 x 2 x 4 in a tilted cell."""
    fractions = np.stack(np.meshgrid(*(np.arange(n) / n for n in (3, 2, 4)), indexing="ij"), -1)
    atoms = random_frame(3)
    atoms.positions = fractions.reshape(-1, 3) @ CELL + np.random.default_rng(3).normal(
        0, 0.2, (N_ATOMS, 3)
    )
    return atoms


def write_data(path: Path, atoms: Atoms) -> None:
    """LAMMPS data file with 17 digits, atom_style charge, types by element."""
    cell = atoms.cell.array
    names = sorted(set(atoms.get_chemical_symbols()))
    types = [names.index(symbol) + 1 for symbol in atoms.get_chemical_symbols()]
    masses = dict(zip(types, atoms.get_masses(), strict=True))
    lines = [
        "data",
        f"{len(atoms)} atoms",
        f"{len(names)} atom types",
        *(f"0 {cell[k, k]:.17g} {axis}lo {axis}hi" for k, axis in enumerate("xyz")),
        f"{cell[1, 0]:.17g} {cell[2, 0]:.17g} {cell[2, 1]:.17g} xy xz yz",
        "\nMasses\n",
        *(f"{kind} {masses[kind]:.17g}" for kind in sorted(masses)),
        "\nAtoms # charge\n",
    ]
    rows = zip(types, atoms.get_initial_charges(), atoms.positions, strict=True)
    for number, (kind, charge, (x, y, z)) in enumerate(rows, start=1):
        lines.append(f"{number} {kind} {charge:.17g} {x:.17g} {y:.17g} {z:.17g}")
    path.write_text("\n".join(lines) + "\n")


def script(
    pair: str = "pair_style zero 5.0\npair_coeff * *",
    body: str = "run 0",
    fix: str = "fix p all plumed plumedfile plumed.dat outfile plumed.log",
    boundary: str = "p p p",
) -> str:
    """LAMMPS input that reads frame.data, adds fix plumed and dumps forces with all digits."""
    return f"""units metal
atom_style charge
boundary {boundary}
box tilt large
read_data frame.data
{pair}
neigh_modify delay 0 every 1 check yes
timestep 0.001
{fix}
thermo 10
thermo_style custom step pe etotal press pxx pyy pzz pxy pxz pyz vol f_p f_p[1] f_p[2] temp
thermo_modify format float %.15g
{body}
write_dump all custom final.dump id x y z fx fy fz modify format float %.15g
"""


def uninterrupted_run(folder: Path, run_lammps: Callable[..., Any]) -> list[np.ndarray]:
    """Columns of COLVAR and HILLS of 42 steps, both removed, with all input left for a run that stops and goes on.

    Without the work, which METAD counts from each start on.
    """
    write_data(folder / "frame.data", lattice_frame())
    (folder / "plumed.dat").write_text(DYNAMIC.replace(" CALC_WORK", "").replace(",mt.work", ""))
    run_lammps(script(LJ, NVE + "run 42"))
    files = [folder / "COLVAR", folder / "HILLS"]
    columns = [np.loadtxt(file) for file in files]
    for file in files:
        file.unlink()
    return columns
