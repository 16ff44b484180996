"""The Kokkos style gives the numbers of the host style in the same LAMMPS."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from kokkos_systems import ELEMENTS, write_system

RESULTS = ["energy", "virial", "forces", "charges", "energies", "stresses", "centroid"]
# The sums are the same in another order: rounding, relative to the largest value.
ROUNDING = 1e-10


def assert_same(
    evaluate: Callable[..., dict],
    style: str,
    coefficients: str = f"nep.txt {ELEMENTS}",
    n_ranks: int = 1,
    rounding: float = ROUNDING,
    **options: str,
) -> dict:
    """Compare all results of both styles, relative to the largest of each kind."""
    wanted = evaluate(style, coefficients, kokkos=False, n_ranks=n_ranks, **options)
    found = evaluate(style, coefficients, kokkos=True, n_ranks=n_ranks, **options)
    for name in RESULTS:
        scale = np.abs(wanted[name]).max()
        np.testing.assert_allclose(
            found[name], wanted[name], rtol=0, atol=rounding * max(scale, 1e-30), err_msg=name
        )
    assert np.abs(wanted["forces"]).max() > 0.01
    return found


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 2])
@pytest.mark.parametrize("charge_mode", [0, 1, 2])
def test_all_results(charge_mode, n_ranks, evaluate, tmp_path):
    write_system(tmp_path, charge_mode=charge_mode)
    style = "qnep kspace direct" if charge_mode else "qnep"
    found = assert_same(evaluate, style, n_ranks=n_ranks)
    assert "pair qnep/kk, perpetual" in found["screen"]
    if charge_mode:
        assert np.abs(found["charges"]).max() > 0.05
        np.testing.assert_allclose(found["charges"].sum(), 0.0, atol=1e-10)


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 2])
@pytest.mark.parametrize("style", ["qnep kspace pppm 1e-6", "qnep kspace ewald 1e-8 charge 0.5"])
def test_solvers_of_lammps(style, n_ranks, evaluate, tmp_path):
    write_system(tmp_path, charge_mode=2)
    assert_same(evaluate, style, n_ranks=n_ranks)


@pytest.mark.parametrize("place", ["device", "host"])
def test_place_of_the_mesh(place, evaluate, tmp_path):
    """The keyword, which only the Kokkos style has; with per-atom virials, a total charge and on the device a shear."""
    write_system(tmp_path, charge_mode=1, tilt=0.0 if place == "host" else 2.5)
    style, coefficients = "qnep kspace pppm 1e-6 charge 0.5", f"nep.txt {ELEMENTS}"
    wanted = evaluate(style, coefficients, kokkos=False)
    found = evaluate(f"{style} kspace_on {place}", coefficients)
    assert ("PPPM Kokkos initialization" in found["screen"]) == (place == "device")
    assert "PPPM initialization" in wanted["screen"]
    for name in RESULTS:
        scale = np.abs(wanted[name]).max()
        np.testing.assert_allclose(
            found[name], wanted[name], rtol=0, atol=ROUNDING * scale, err_msg=name
        )
    assert found["charges"].sum() == pytest.approx(0.5, abs=1e-10)


def test_a_sheared_cell_with_its_mesh_on_the_host(run, evaluate, kokkos_build, tmp_path):
    """Works where host and device share their memory, and is refused where they do not."""
    write_system(tmp_path, charge_mode=1)
    style, coefficients = "qnep kspace pppm 1e-6 kspace_on host", f"nep.txt {ELEMENTS}"
    if not kokkos_build.has_device:
        wanted = evaluate("qnep kspace pppm 1e-6", coefficients, kokkos=False)["forces"]
        found = evaluate(style, coefficients)["forces"]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=ROUNDING * np.abs(wanted).max())
        return
    script = "units metal\natom_style charge\nread_data system.data\n"
    done = run(f"{script}pair_style {style}\npair_coeff * * {coefficients}\nrun 0\n")
    assert done.status != 0
    assert "wanted the mesh on the device" in " ".join(done.screen.split())


@pytest.mark.mpi
@pytest.mark.parametrize("place", ["device", "host", "no"])
def test_place_of_the_exchange(place, evaluate, tmp_path):
    """Charges of ghosts are packed on the device, for an MPI that knows of it, or by LAMMPS's plain exchange."""
    write_system(tmp_path, charge_mode=2)
    style, coefficients = "qnep kspace pppm 1e-6", f"nep.txt {ELEMENTS}"
    wanted = evaluate(style, coefficients, kokkos=False, n_ranks=2)
    found = evaluate(style, coefficients, n_ranks=2, before=f"package kokkos comm {place}")
    for name in RESULTS:
        scale = np.abs(wanted[name]).max()
        np.testing.assert_allclose(
            found[name], wanted[name], rtol=0, atol=ROUNDING * scale, err_msg=name
        )


def test_slab(evaluate, tmp_path):
    write_system(tmp_path, charge_mode=1, tilt=0.0)
    assert_same(evaluate, "qnep kspace pppm 1e-6 slab 3.0", boundary="p p f")


def test_options_of_the_means(evaluate, tmp_path):
    write_system(tmp_path, charge_mode=2)
    assert_same(evaluate, "qnep kspace pppm 1e-4 net_force keep mean_correction no")


SHAPES: dict[str, dict] = {
    "published sizes": {"n_max": (8, 8), "l_max": (4, 2, 0), "n_neurons": 50},
    "unequal sizes": {"n_max": (6, 3), "basis_size": (10, 5), "l_max": (3, 1, 0)},
    "five bodies": {"l_max": (4, 2, 1)},
    "l 1": {"l_max": (1, 0, 0)},
    "l 2": {"l_max": (2, 1, 0)},
    "l 8": {"l_max": (8, 2, 1), "n_max": (5, 6)},
    "cutoffs of elements": {
        "radial_cutoff": (5.0, 4.0, 6.0),
        "angular_cutoff": (4.0, 3.0, 3.5),
    },
    "equal cutoffs": {"radial_cutoff": 4.5, "angular_cutoff": 4.5},
    "flexible ZBL": {"zbl": (0, 0)},
    "typewise ZBL": {"zbl": (1.0, 2.2, 0.7)},
    "no ZBL": {"zbl": None},
    "version 5": {"version": 5},
    "many neurons": {"n_neurons": 100, "charge_mode": 2},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_models(shape, evaluate, tmp_path):
    write_system(tmp_path, **SHAPES[shape])
    assert_same(evaluate, "qnep")


def test_temperature_model(evaluate, tmp_path):
    write_system(tmp_path, has_temperature=True)
    assert_same(evaluate, "qnep temperature 450")


@pytest.mark.mpi
def test_types_without_a_model(evaluate, tmp_path):
    """Carbon belongs to another style; its atoms take no part in charges and means."""
    write_system(tmp_path, charge_mode=1)
    others = "".join(f"\npair_coeff {pair} lj/cut 0.001 1.5" for pair in ("1 2", "2 2", "2 3"))
    found = assert_same(
        evaluate,
        "hybrid/overlay qnep kspace pppm 1e-5 lj/cut 3.0",
        "qnep nep.txt Na NULL O" + others,
        n_ranks=2,
    )
    assert np.abs(found["charges"][1::3]).max() == 0.0
    assert np.abs(found["charges"][::3]).max() > 0.01


def test_units_real(evaluate, tmp_path):
    write_system(tmp_path, charge_mode=1)
    assert_same(evaluate, "qnep kspace pppm 1e-6", units="real")


@pytest.mark.parametrize("precision", ["mixed", "single"])
def test_mixed_precision(precision, evaluate, tmp_path):
    """Forces and energies of single-precision networks, charges and sums in double."""
    write_system(tmp_path, charge_mode=1, n_max=(8, 8))
    wanted = evaluate("qnep kspace direct", f"nep.txt {ELEMENTS}", kokkos=False)
    found = evaluate(f"qnep kspace direct precision {precision}", f"nep.txt {ELEMENTS}")
    difference = np.abs(found["forces"] - wanted["forces"]).max()
    assert 1e-9 < difference < 1e-4  # eV/Å; were it less, it would not be single precision
    np.testing.assert_allclose(found["energies"], wanted["energies"], atol=1e-5)
    np.testing.assert_allclose(found["charges"], wanted["charges"], atol=1e-5)
    np.testing.assert_allclose(found["charges"].sum(), 0.0, atol=1e-10)
