"""Input scripts and data files of the tests."""

from __future__ import annotations

from pathlib import Path

from ase import Atoms
from ase.io.lammpsdata import write_lammps_data

BAR_PER_EV = 1.6021765e6
"""bar Å³ per eV, with the digits of LAMMPS (nktv2p of units metal)."""


def write_data(path: Path, atoms: Atoms, elements: str, atom_style: str = "charge") -> None:
    """LAMMPS data file with one type for each of the elements, in their order."""
    write_lammps_data(
        path, atoms, specorder=elements.split(), masses=True, atom_style=atom_style, units="metal"
    )


def evaluation_script(
    style: str, coefficients: str, before: str = "", after: str = "", boundary: str = "p p p"
) -> str:
    """A script that prints ENERGY and VIRIAL (eV) and dumps forces, charges, per-atom energies and virials (eV)."""
    return f"""
units metal
atom_style charge
boundary {boundary}
{before}
read_data system.data
pair_style {style}
pair_coeff * * {coefficients}
{after}
compute energies all pe/atom
compute virials all stress/atom NULL virial
compute centroid all centroid/stress/atom NULL virial
compute virial all pressure NULL virial
variable to_ev equal vol/{BAR_PER_EV:.17g}
thermo_style custom step pe c_virial[1]
dump atoms all custom 1 atoms.dump id fx fy fz q c_energies c_virials[*] c_centroid[*]
dump_modify atoms sort id format float %.17g
run 0
variable w1 equal c_virial[1]*v_to_ev
variable w2 equal c_virial[2]*v_to_ev
variable w3 equal c_virial[3]*v_to_ev
variable w4 equal c_virial[4]*v_to_ev
variable w5 equal c_virial[5]*v_to_ev
variable w6 equal c_virial[6]*v_to_ev
print "ENERGY: $(pe:%.17g)"
print "VIRIAL: $(v_w1:%.17g) $(v_w2:%.17g) $(v_w3:%.17g) $(v_w4:%.17g) $(v_w5:%.17g) $(v_w6:%.17g)"
"""
