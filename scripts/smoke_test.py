"""Does an installation work? Evaluates a made-up qNEP and compares forces with central differences."""

from __future__ import annotations

import numpy as np
from ase.build import bulk
from ase.calculators.fd import calculate_numerical_forces

from qnep import QNEP, random_model


def main() -> None:
    """Raise if forces are not the gradient of the energy."""
    atoms = bulk("NaF", "rocksalt", a=4.7, cubic=True)
    atoms.rattle(0.1, seed=0)
    atoms.calc = QNEP(random_model("Na F", charge_mode=2, seed=1))
    numerical = calculate_numerical_forces(atoms, eps=1e-4, iatoms=[0])
    np.testing.assert_allclose(atoms.get_forces()[:1], numerical, atol=1e-6)
    print(f"energy {atoms.get_potential_energy():.6f} eV, forces are its gradient")


if __name__ == "__main__":
    main()
