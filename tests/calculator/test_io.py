"""Reading of extended XYZ as GPUMD and others write it."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import threading

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from qnep import QNEP, random_model
from qnep.io import count_frames, normalise_comment, read_frames, write_frames

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


@pytest.mark.parametrize(
    ("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_damaged_compressed_files(tmp_path, suffix, pack):
    """Cut off, or with other bytes in the middle: a sentence that names the file."""
    path = tmp_path / f"train.xyz{suffix}"
    whole = pack(GPUMD_FRAME.encode() * 100)
    middle = len(whole) // 2
    for content in (whole[:middle], whole[:middle] + b"abcd" + whole[middle + 4 :], b"abcd"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"train.xyz{suffix}"):
            read_frames(path)


def test_a_byte_order_mark_and_other_encodings(tmp_path):
    path = tmp_path / "train.xyz"
    path.write_text(GPUMD_FRAME * 2, encoding="utf-8-sig")
    assert count_frames(path) == len(read_frames(path)) == 2
    path.write_text(GPUMD_FRAME.replace("Note=a", "Note=é"), encoding="latin-1")
    with pytest.raises(ValueError, match=r"train\.xyz: wanted text in UTF-8, got the byte 0xe9"):
        read_frames(path)


@pytest.mark.parametrize("name", ["pipe", "pipe.xyz"])
def test_a_pipe_is_read_once(tmp_path, name):
    path = tmp_path / name
    os.mkfifo(path)
    assert count_frames(path) is None
    writer = threading.Thread(target=path.write_text, args=(GPUMD_FRAME * 3,))
    writer.start()
    assert len(read_frames(path)) == 3
    writer.join()


def test_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(GPUMD_FRAME * 2))
    assert len(read_frames("-")) == 2


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz"])
def test_what_is_written_is_read_back(tmp_path, generator, suffix):
    """With Born charges, which ASE's writer cannot write. Eight decimals of columns."""
    path = tmp_path / f"out.xyz{suffix}"
    atoms = bulk("NaF", "rocksalt", a=4.7, cubic=True)
    atoms.rattle(0.1, rng=generator)
    calculator = QNEP(random_model("Na F", charge_mode=2, seed=1))
    born, virials = calculator.get_born_effective_charges(atoms), calculator.get_virials(atoms)
    assert virials.shape == (8, 3, 3)
    results = {name: calculator.results[name] for name in ("energy", "forces", "charges", "stress")}
    single = atoms.copy()
    single.calc = SinglePointCalculator(single, **results, born_effective_charges=born)
    atoms.calc = calculator
    assert write_frames(path, [single, atoms]) == 2
    for frame in read_frames(path):
        np.testing.assert_allclose(frame.calc.results["born_effective_charges"], born, atol=1e-7)
        for name, expected in results.items():
            np.testing.assert_allclose(frame.calc.results[name], expected, atol=1e-7)
    assert "bec" not in single.arrays
    assert list(tmp_path.iterdir()) == [path]
    packed = {"": b"8\n", ".gz": b"\x1f\x8b", ".bz2": b"BZh", ".xz": b"\xfd7zXZ"}
    assert path.read_bytes().startswith(packed[suffix])


def test_frames_are_not_asked_for_in_vain(tmp_path):
    """What cannot be written is refused before the first frame is made."""

    def frames():
        raise AssertionError("a frame was made")
        yield Atoms()

    for name, text in (
        ("out.traj", "wanted a name of extended XYZ"),
        ("out", "wanted a name of extended XYZ"),
        ("no/out.xyz", "there is no folder"),
        (".", "wanted a name of extended XYZ"),
    ):
        with pytest.raises(ValueError, match=text):
            write_frames(tmp_path / name, frames())


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
        (GPUMD_FRAME.replace("F 2", "Xy 2"), "frame 0: not extended XYZ: unknown name 'Xy'"),
        (
            GPUMD_FRAME.replace("-3.5", "abc"),
            "train.xyz, frame 0: energy must be a number, got 'abc'",
        ),
        (GPUMD_FRAME.replace("-3.5", '"1 2"'), "frame 0: energy must be a number, got shape .2,"),
        (
            GPUMD_FRAME.replace("Force", "bec"),
            r"train.xyz, frame 0: born_effective_charges must be numbers of shape \(2, 9\), got shape",
        ),
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
