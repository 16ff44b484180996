"""Structures and scripts with which the tests of this folder feed LAMMPS."""

from __future__ import annotations

from pathlib import Path

from ase import Atoms


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
