"""Reading of extended XYZ as GPUMD and others write it."""

from __future__ import annotations

import gzip

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from qnep.io import count_frames, normalise_comment, read_frames

GPUMD_FRAME = """2
Energy=-3.5 Note=a lattice="4 0 0 0 5 0 0 0 6" virial="12 1 2 1 24 3 2 3 36" properties=Species:S:1:Pos:R:3:Force:R:3
Na 0 0 0 0.1 0.2 0.3
F 2 2 2 -0.1 -0.2 -0.3
"""


def test_keys_in_lower_case(tmp_path):
    """By hand: stress = -virial / 120 Å³."""
    path = tmp_path / "train.xyz"
    path.write_text(GPUMD_FRAME * 2)
    frames = read_frames(path)
    assert count_frames(path) == len(frames) == 2
    atoms = frames[1]
    assert atoms.pbc.all()
    np.testing.assert_array_equal(atoms.cell.array, np.diag([4.0, 5.0, 6.0]))
    assert atoms.get_potential_energy() == -3.5
    np.testing.assert_array_equal(atoms.get_forces()[1], [-0.1, -0.2, -0.3])
    np.testing.assert_allclose(
        atoms.get_stress(), -np.array([12, 24, 36, 3, 2, 1]) / 120.0, rtol=1e-15
    )
    assert atoms.info == {"Note": "a"}


def test_the_virial_of_a_dump_gives_the_sign_of_the_stress(tmp_path):
    """GPUMD's dumps have a stress that is positive in compression; the virial has precedence."""
    path = tmp_path / "dump.xyz"
    wrong = 'virial="12 1 2 1 24 3 2 3 36" stress="0.1 0 0 0 0.2 0 0 0 0.3"'
    path.write_text(GPUMD_FRAME.replace('virial="12 1 2 1 24 3 2 3 36"', wrong))
    np.testing.assert_allclose(read_frames(path)[0].get_stress()[:3], [-0.1, -0.2, -0.3])


def test_a_quoted_value_is_not_a_key():
    line = 'Lattice = "1 0 0 0 1 0 0 0 1" note="lattice=2 force" energy=1'
    assert normalise_comment(line) == line


def test_what_ase_writes_is_read_back(tmp_path, generator):
    atoms = bulk("NaF", "rocksalt", a=4.6).repeat(2)
    atoms.rattle(0.1, rng=generator)
    for name in ("a.xyz", "a.extxyz", "a.traj", "a.cif"):
        ase.io.write(tmp_path / name, atoms)
        read = read_frames(tmp_path / name)[0]
        np.testing.assert_allclose(
            read.get_all_distances(mic=True), atoms.get_all_distances(mic=True), atol=1e-6
        )


def test_compressed_files(tmp_path):
    path = tmp_path / "train.xyz.gz"
    path.write_bytes(gzip.compress(GPUMD_FRAME.encode()))
    assert len(read_frames(path)) == 1


def test_ase_reads_the_dialect_by_name(tmp_path):
    path = tmp_path / "train.xyz"
    path.write_text(GPUMD_FRAME * 3)
    frames = ase.io.read(path, ":", format="gpumd-xyz")
    assert len(frames) == 3
    assert ase.io.read(path, format="gpumd-xyz").get_potential_energy() == -3.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GPUMD_FRAME + "2\n", "frame 1: wanted 2 atoms, the file ends after 0"),
        (GPUMD_FRAME.rsplit("\n", 2)[0] + "\n", "frame 0: wanted 2 atoms, the file ends after 1"),
        ("atoms\n" + GPUMD_FRAME, "frame 0: wanted the number of atoms, got 'atoms'"),
        (GPUMD_FRAME.replace("F 2", "F x"), "frame 0: not extended XYZ"),
        (GPUMD_FRAME.replace(" 36", ""), "frame 0: not extended XYZ: .* virial"),
        (GPUMD_FRAME.replace("F 2", "Xy 2"), "frame 0: not extended XYZ"),
        (GPUMD_FRAME + "\n" + GPUMD_FRAME, "train.xyz, frame 1: .* got an empty line with text"),
        (GPUMD_FRAME + " \n\n2\n", "train.xyz, frame 1: .* got an empty line with text"),
        ("\n" + GPUMD_FRAME, "train.xyz, frame 0: .* got an empty line with text"),
    ],
)
def test_broken_files_name_the_frame(tmp_path, text, message):
    path = tmp_path / "train.xyz"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_frames(path)


@pytest.mark.parametrize("end", ["", "\n", " \n\n\t"])
def test_an_empty_end_is_no_frame(tmp_path, end):
    path = tmp_path / "train.xyz"
    path.write_text(GPUMD_FRAME * 2 + end)
    assert len(read_frames(path)) == 2
    path.write_text(end)
    assert read_frames(path) == []
