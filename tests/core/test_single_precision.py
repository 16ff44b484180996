"""Single precision against double: every instruction set, places far from the origin, electrostatics."""

from __future__ import annotations

import numpy as np
import pytest
from systems import CELLS, ELEMENTS, System, random_system

from qnep import _core
from qnep.model import random_model

NINE_ELEMENTS = (*ELEMENTS, "S", "Cl", "Li")


def evaluate(model, types, positions, cell, **options):
    system = System(model, types, positions, cell, precision="single", **options)
    exact = System(model, types, positions, cell)
    return system(positions), exact(positions)


def largest_error(found, wanted):
    """Of the forces, relative to the largest one; random models amplify rounding more than fitted ones."""
    return np.abs(found["forces"] - wanted["forces"]).max() / np.abs(wanted["forces"]).max()


@pytest.mark.parametrize("simd", _core.available_simd())
@pytest.mark.parametrize("n_types", [1, 2, 6, 8, 9])
def test_close_to_double(simd, n_types):
    """Types by vector, by lane (2 to 8 types, where that saves vectors) and more than a lane can choose of."""
    random = np.random.default_rng(n_types)
    model = random_model(
        ("Na", *NINE_ELEMENTS[: n_types - 1]) if n_types < 3 else (*NINE_ELEMENTS, "N")[:n_types],
        radial_cutoff=5.0,
        angular_cutoff=3.6,
        n_max=(6, 6 if n_types == 2 else 8),
        basis_size=(7, 8),
        l_max=(4, 2, 1),
        n_neurons=21,
        seed=n_types,
    )
    types, positions = random_system(CELLS["triclinic"], 20, n_types, random)
    found, wanted = evaluate(model, types, positions, CELLS["triclinic"], simd=simd)
    assert 0.0 < largest_error(found, wanted) < 1e-5
    assert found["energy"] == pytest.approx(wanted["energy"], abs=1e-6 * len(types))
    np.testing.assert_allclose(
        found["virial"], wanted["virial"], atol=1e-5 * np.abs(wanted["virial"]).max()
    )
    np.testing.assert_allclose(found["forces"].sum(axis=0), 0.0, atol=1e-12 * len(types))


@pytest.mark.parametrize("offset", [0.0, 511.9, 1024.0, -3.1e5])
def test_far_from_the_origin(offset):
    """Coordinates modulo 1024 Å: neither where the system stands nor how long it is matters."""
    random = np.random.default_rng(1)
    model = random_model(ELEMENTS[:3], radial_cutoff=4.2, angular_cutoff=3.4, n_neurons=7, seed=2)
    cell = np.diag([8.0, 8.0, 2060.0])
    z = np.arange(0.0, 2060.0, 2.06)
    positions = np.stack([4.0 + 0 * z, 4.0 + 0 * z, z], axis=1) + random.normal(
        scale=0.2, size=(len(z), 3)
    )
    types = random.integers(3, size=len(z)).astype(np.int32)
    found, wanted = evaluate(model, types, positions + offset, cell)
    assert largest_error(found, wanted) < 1e-5


@pytest.mark.parametrize("kspace", ["ewald", "pppm"])
@pytest.mark.parametrize("charge_mode", [1, 2])
def test_charges(kspace, charge_mode):
    """Structure factors and mesh in single precision: errors as those of the rest."""
    random = np.random.default_rng(3)
    model = random_model(
        ELEMENTS[:3],
        charge_mode=charge_mode,
        radial_cutoff=5.0,
        angular_cutoff=3.5,
        n_neurons=9,
        seed=4,
    )
    types, positions = random_system(CELLS["triclinic"], 24, 3, random)
    single = System(model, types, positions, CELLS["triclinic"], precision="single")
    double = System(model, types, positions, CELLS["triclinic"])
    found, wanted = (
        system(positions, kspace=kspace, accuracy=1e-6, born=True, virials=True)
        for system in (single, double)
    )
    assert 0.0 < largest_error(found, wanted) < 1e-5
    assert "single precision" in single.evaluator.describe_kspace()
    assert "single precision" not in double.evaluator.describe_kspace()
    assert found["energy"] == pytest.approx(wanted["energy"], abs=1e-6 * len(types))
    for name in ("charges", "potentials", "born_charges", "virial", "virials"):
        np.testing.assert_allclose(
            found[name], wanted[name], atol=1e-5 * np.abs(wanted[name]).max(), err_msg=name
        )


@pytest.mark.parametrize("simd", _core.available_simd())
@pytest.mark.parametrize("precision", ["single", "double"])
def test_atoms_at_one_place(simd, precision):
    model = random_model("Na F", radial_cutoff=4.0, angular_cutoff=3.0, n_neurons=5)
    positions = np.array([[1.0, 1.0, 1.0], [3.0, 1.0, 1.0], [3.0, 3.0, 1.0]])
    system = System(
        model, np.array([0, 1, 1]), positions, np.diag([9.0] * 3), precision=precision, simd=simd
    )
    with pytest.raises(ValueError, match="atoms 1 and 2 are at the same place"):
        system(positions[[0, 1, 1]] + 700.3)
