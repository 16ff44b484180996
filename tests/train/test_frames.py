from dataclasses import replace

import numpy as np
import pytest

from qnep.io import read_frames
from qnep.train.frames import FrameError, FrameReader, hash_frames, require_labels

GPUMD_FRAME = """2
lattice="4 0 0 0 5 0 0 0 6" Energy=-3.5 VIRIAL="1 2 3 2 4 5 3 5 6" charge=1 weight=2 energy_weight=0 \
properties=species:S:1:pos:R:3:force:R:3:bec:R:9
O 0 0 0 0.1 0.2 0.3 1 2 3 4 5 6 7 8 9
H 1 1 1 -0.1 -0.2 -0.3 -1 -2 -3 -4 -5 -6 -7 -8 -9
"""


def test_gpumd_keys_in_any_case(tmp_path):
    path = tmp_path / "train.xyz"
    path.write_text(GPUMD_FRAME)
    frame = FrameReader(("H", "O")).read(read_frames(path)[0], "a frame")
    assert (frame.energy, frame.total_charge, frame.weight, frame.energy_weight) == (-3.5, 1, 2, 0)
    np.testing.assert_array_equal(frame.types, [1, 0])
    np.testing.assert_allclose(frame.virial, [[1, 2, 3], [2, 4, 5], [3, 5, 6]])
    np.testing.assert_allclose(frame.born_charges[0], np.arange(1, 10).reshape(3, 3))


def test_stress_of_ase_becomes_the_virial(make_atoms):
    """Virial = -stress times volume; ASE's Voigt order xx yy zz yz xz xy."""
    atoms = make_atoms(0)
    frame = FrameReader(("O", "H")).read(atoms, "a frame")
    np.testing.assert_allclose(frame.virial, -atoms.get_stress(voigt=False) * atoms.get_volume())


def test_bad_frames_are_named(make_atoms):
    reader = FrameReader(("O", "H"))
    with pytest.raises(FrameError, match="frame 7: element N is not among"):
        reader.read(make_atoms(0, symbols="NOH"), "frame 7")
    atoms = make_atoms(0)
    atoms.cell = np.zeros((3, 3))
    with pytest.raises(FrameError, match="frame 7: no cell"):
        reader.read(atoms, "frame 7")
    atoms = make_atoms(0)
    atoms.calc.results["forces"][3, 1] = np.nan
    with pytest.raises(FrameError, match="frame 7: forces holds numbers that are not finite"):
        reader.read(atoms, "frame 7")
    atoms = make_atoms(0, virial=np.ones(9))
    with pytest.raises(FrameError, match="differ"):
        reader.read(atoms, "frame 7")
    with pytest.raises(FrameError, match="frame 7: weight must be between"):
        reader.read(make_atoms(0, weight=1000), "frame 7")


@pytest.mark.parametrize("name", ["positions", "cell"])
def test_numbers_that_are_none_are_named(make_atoms, name):
    atoms = make_atoms(0)
    getattr(atoms, name)[1, 2] = np.nan
    with pytest.raises(FrameError, match=f"frame 7: {name} holds numbers that are not finite"):
        FrameReader(("O", "H")).read(atoms, "frame 7")


def test_frames_without_atoms_are_named(make_atoms):
    with pytest.raises(FrameError, match="frame 7: no atoms"):
        FrameReader(("O", "H")).read(make_atoms(0)[:0], "frame 7")


@pytest.mark.parametrize(
    "info, words",
    [
        ({"charge": "abc"}, "frame 7: charge must be a number, got 'abc'"),
        ({"total_charge": np.nan}, "frame 7: total_charge must be a number, got nan"),
        ({"weight": "heavy"}, "frame 7: weight must be a number, got 'heavy'"),
        ({"dipole": "0 0 x"}, "frame 7: dipole must be numbers, got '0 0 x'"),
        ({"stress": "none"}, "frame 7: stress must be numbers, got 'none'"),
    ],
)
def test_words_in_place_of_numbers_are_named(make_atoms, info, words):
    with pytest.raises(FrameError, match=words):
        FrameReader(("O", "H")).read(make_atoms(0, **info), "frame 7")


@pytest.mark.parametrize("pbc", [False, (True, True, False)])
def test_open_directions_are_read_and_refused_with_charges(make_atoms, pbc):
    """The calculator refuses them as well: an Ewald sum repeats the cell in all directions."""
    atoms = make_atoms(0)
    atoms.pbc = pbc
    assert FrameReader(("O", "H")).read(atoms, "frame 7").pbc == tuple(atoms.pbc)
    words = 'frame 7: a model with charges needs a cell .* got pbc="[TF] [TF] F"; write pbc="T T T"'
    with pytest.raises(FrameError, match=words):
        FrameReader(("O", "H"), with_charges=True).read(atoms, "frame 7")


def test_vacuum_of_open_directions(make_frames):
    """Two atoms 2 Å apart along z in a box 9 Å high, slanted so that its faces are 9 Å apart."""
    (frame,) = make_frames(1)
    cell = np.array([[5.0, 0, 0], [0, 6.0, 0], [3.0, 0, 9.0]])
    pair = replace(frame, positions=np.array([[0, 0, 0], [0.5, 0.5, 2.0]]), cell=cell)
    assert pair.vacuum == np.inf
    assert replace(pair, pbc=(True, True, False)).vacuum == pytest.approx(7.0)
    assert replace(pair, pbc=(True, False, False)).vacuum == pytest.approx(5.5)


def test_dipole_of_a_charged_cell_is_refused(make_atoms):
    dipole = np.array([0.1, 0.2, 0.3])
    reader = FrameReader(("O", "H"))
    with pytest.raises(FrameError, match="frame 7: the dipole of a cell with charge -1 depends on"):
        reader.read(make_atoms(0, dipole=dipole, charge=-1), "frame 7")
    neutral = reader.read(make_atoms(0, dipole=dipole, charge=0), "frame 7")
    np.testing.assert_array_equal(neutral.dipole, dipole)


@pytest.mark.parametrize("info", [{"total_charge": -2}, {"Charge": -2, "total_charge": "-2.0"}])
def test_the_total_charge_has_two_names(make_atoms, info):
    reader = FrameReader(("O", "H"))
    assert reader.read(make_atoms(0, **info), "frame 7").total_charge == -2
    words = "frame 7: charge and total_charge are two words for one thing, got charge=1 and total_charge=-2"
    with pytest.raises(FrameError, match=words):
        reader.read(make_atoms(0, charge=1, total_charge=-2), "frame 7")


def test_missing_labels_are_named(make_atoms):
    atoms = make_atoms(0)
    del atoms.calc.results["forces"]
    frame = FrameReader(("O", "H")).read(atoms, "frame 7")
    with pytest.raises(FrameError, match="frame 7: no forces"):
        require_labels([frame])


def test_fingerprint_tells_labels_apart(make_frames):
    frames = make_frames(2)
    assert hash_frames(frames) == hash_frames(make_frames(2))
    assert hash_frames(frames) != hash_frames(frames[::-1])
    dipoles = [replace(frames[0], dipole=np.array([x, 0.0, 0.0])) for x in (0.0, 1.0)]
    open_frame = replace(frames[0], pbc=(True, True, False))
    assert len({hash_frames([frame]) for frame in [frames[0], open_frame, *dipoles]}) == 4
