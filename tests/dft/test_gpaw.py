"""GPAW: lattice constants, a molecule and forces against differences. Minutes each, so only in the long set."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.eos import EquationOfState
from ase.optimize import BFGS

from qnep.build import make_molecule
from qnep.dft import get_backend
from qnep.dft.kpoints import kpoint_grid
from qnep.dft.label import compute_label

pytest.importorskip("gpaw")
pytestmark = [
    pytest.mark.long,
    pytest.mark.dft,
    pytest.mark.filterwarnings("default"),  # GPAW's own
]


def equilibrium_volume(unit: Atoms, scales: np.ndarray, folder, kpoint_spacing: float) -> float:
    """Fit a Birch-Murnaghan curve; scale 1 is the given cell. Pure PBE, so that literature compares.

    One grid for all volumes: where a spacing changes the grid on the way, the curve has a step.
    """
    kpts = kpoint_grid(unit.cell.array, kpoint_spacing)
    volumes, energies = [], []
    for scale in scales:
        atoms = unit.copy()
        atoms.set_cell(unit.cell * scale, scale_atoms=True)
        atoms.calc = get_backend("gpaw", folder, dispersion="none", pulay={}, kpts=kpts)
        volumes.append(atoms.get_volume())
        energies.append(atoms.get_potential_energy())
    return float(EquationOfState(volumes, energies, eos="birchmurnaghan").fit()[0])


def test_sodium_lattice_constant(tmp_path):
    """PBE: 4.196 Å (Haas, Tran and Blaha, Phys. Rev. B 79, 085104 (2009), doi:10.1103/PhysRevB.79.085104)."""
    unit = bulk("Na", "bcc", a=4.20)
    volume = equilibrium_volume(unit, np.linspace(0.96, 1.04, 5), tmp_path, kpoint_spacing=0.04)
    a = (2 * volume) ** (1 / 3)
    assert a == pytest.approx(4.196, abs=0.02)  # flat minimum: 1 meV is 0.03 Å


def test_sodium_fluoride_lattice_constant(tmp_path):
    """PBE: 4.707 Å (same source); the energy of an ionic crystal with fixed cutoff leaves about 0.01 Å of Pulay."""
    unit = bulk("NaF", "rocksalt", a=4.63)
    volume = equilibrium_volume(unit, np.linspace(0.98, 1.05, 5), tmp_path, kpoint_spacing=0.08)
    a = (4 * volume) ** (1 / 3)
    assert a == pytest.approx(4.707, abs=0.03)


@pytest.mark.parametrize(
    ("name", "bond", "length"),
    # PBE bond lengths lie 0.01 Å above the gas-phase values: C=O of EC 1.19-1.20 Å, C-C of DME 1.51 Å.
    [("EC", ("O", "C"), 1.195), ("DME", ("C", "C"), 1.515)],
)
def test_molecular_geometry(tmp_path, name, bond, length):
    atoms = make_molecule(name)
    atoms.center(vacuum=3.5)
    atoms.pbc = True
    atoms.calc = get_backend("gpaw", tmp_path, kpts=(1, 1, 1))
    BFGS(atoms, logfile=None).run(fmax=0.05, steps=40)
    symbols = np.array(atoms.get_chemical_symbols())
    distances = atoms.get_all_distances()[np.ix_(symbols == bond[0], symbols == bond[1])]
    assert distances[distances > 0.5].min() == pytest.approx(length, abs=0.02)


def test_forces_are_the_gradient(tmp_path):
    """Na2F2 off its minimum, PBE + D3 with the preset: central differences of 0.02 Å to 5 meV/Å."""
    atoms = Atoms("Na2F2", [[0, 0, 0], [2.3, 2.1, 0.2], [2.2, 0, 0.1], [0, 2.2, 0]])
    atoms.center(vacuum=3.0)
    atoms.pbc = True
    atoms.calc = get_backend("gpaw", tmp_path, kpts=(1, 1, 1))
    force = atoms.get_forces()[1, 0]
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.calc = get_backend("gpaw", tmp_path, kpts=(1, 1, 1))
        moved.positions[1, 0] += sign * 0.02
        energies.append(moved.get_potential_energy())
    assert force == pytest.approx((energies[1] - energies[0]) / 0.04, abs=0.005)


def test_the_moment_of_a_triplet_is_kept(tmp_path):
    """Smearing of 2 eV would let the moment drift off; it stays where orbitals go on to the next step too."""
    small = {"cutoff_eV": 200, "dispersion": "none", "pulay": {}, "kpts": (1, 1, 1)}
    calculator = get_backend("gpaw", tmp_path, **small, n_unpaired=2, smearing_eV=2.0)
    for length in (0.8, 0.85):
        atoms = Atoms("H2", [[0, 0, 0], [0, 0, length]], cell=[5, 5, 5.5], pbc=True)
        assert calculator.continues(atoms) == (length > 0.8)
        compute_label(atoms, calculator)
        assert calculator._code.get_magnetic_moment() == pytest.approx(2.0, abs=1e-3)
