"""NaF as rigid ions in LAMMPS: the Fumi-Tosi potential, to have a crystal, a melt and surfaces that are not ours.

Parameters: Fumi and Tosi, J. Phys. Chem. Solids 25, 31 (1964); Sangster and Dixon, Adv. Phys. 25, 247 (1976):
b = 0.211 eV, rho = 0.330 Å, radii 1.170 and 1.179 Å, van der Waals terms of Mayer.
"""

from ase.calculators.calculator import Calculator, all_changes

from qnep.lammps.mpi import preload_mpi

POTENTIAL = (
    "pair_style born/coul/long 9.0",
    # type 1 Na, 2 F: A rho sigma C D
    "pair_coeff 1 1 0.26375 0.330 2.340 1.0486 0.4993",
    "pair_coeff 1 2 0.21100 0.330 2.349 2.8087 2.3718",
    "pair_coeff 2 2 0.15825 0.330 2.358 10.2987 12.4834",
    "kspace_style pppm 1e-5",
)
CHARGES = ("set type 1 charge 1.0", "set type 2 charge -1.0")


class RigidIons(Calculator):
    """ASE calculator of the potential, by LAMMPS in this process.

    ASE's own link to LAMMPS does not set charges anew when the number of atoms changes, so that every
    structure with other atoms gets a LAMMPS of its own.
    """

    implemented_properties = ("energy", "forces", "stress")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if getattr(self, "_numbers", None) != list(atoms.numbers):
            self._lammps, self._numbers = make_lammps(), list(atoms.numbers)
        copy = atoms.copy()
        copy.calc = self._lammps
        self.results = {
            "energy": copy.get_potential_energy(), "forces": copy.get_forces(), "stress": copy.get_stress(),
        }  # fmt: skip


def make_lammps():
    """ASE's link to LAMMPS, for one set of atoms."""
    preload_mpi()
    from ase.calculators.lammpslib import LAMMPSlib

    return LAMMPSlib(
        lmpcmds=[*POTENTIAL, *CHARGES],
        atom_types={"Na": 1, "F": 2},
        lammps_header=["units metal", "atom_style charge", "atom_modify map array sort 0 0"],
        keep_alive=True,
        log_file=None,
    )
