"""Orders of tensor components."""

from __future__ import annotations

import numpy as np
from ase.stress import full_3x3_to_voigt_6_stress

from qnep.conventions import ASE_VOIGT, GPUMD_TRAINER_VOIGT, LAMMPS_VOIGT, from_voigt, to_voigt


def test_voigt_orders(generator):
    tensors = generator.normal(size=(4, 3, 3))
    tensors = tensors + np.swapaxes(tensors, 1, 2)
    expected = [full_3x3_to_voigt_6_stress(tensor) for tensor in tensors]
    np.testing.assert_array_equal(to_voigt(tensors), expected)
    for order in (ASE_VOIGT, LAMMPS_VOIGT, GPUMD_TRAINER_VOIGT):
        np.testing.assert_array_equal(from_voigt(to_voigt(tensors, order), order), tensors)


def test_the_symmetric_part_is_taken():
    np.testing.assert_array_equal(
        to_voigt(np.array([[1, 4, 0], [2, 5, 0], [0, 8, 9]])), [1, 5, 9, 4, 0, 3]
    )
