"""The pool of labels on disk."""

from __future__ import annotations

import multiprocessing
import re
import resource
import shutil
import sqlite3

import numpy as np
import pytest
from ase import Atoms
from ase.db import connect
from ase.io import read

from qnep.dft import Label, Pool, PoolError
from qnep.dft.pool import Failure, is_same_geometry

LEVEL = "LJ"
TRAIN_NAME, TEST_NAME = "md0", "md1"  # sha256 begins with 0xac8f = 0.674 and 0x1f7f = 0.123 of 2¹⁶


def make_label(n_atoms: int, kpts: str = "1x1x1", energy: float = -1.0) -> Label:
    forces = np.arange(3.0 * n_atoms).reshape(n_atoms, 3)
    stress = np.array([1.0, 2, 3, 4, 5, 6]) * 1e-3
    return Label(energy, forces, stress, LEVEL, kpts, {"cpu_s": 1800.0})


@pytest.fixture
def frame(water: Atoms) -> Atoms:
    water.info.update(config_type="molecule_h2o", trajectory="md1")
    return water


def test_what_goes_in_comes_out(tmp_path, frame):
    pool = Pool(tmp_path / "pool.db")
    with pool:
        assert pool.add_label(frame, make_label(3))
    (stored,) = Pool(tmp_path / "pool.db").frames()
    assert stored.get_potential_energy() == -1.0
    assert np.array_equal(stored.get_forces(), np.arange(9.0).reshape(3, 3))
    assert np.allclose(stored.positions, frame.positions)
    assert stored.info["config_type"] == "molecule_h2o"
    assert (stored.info["level"], stored.info["kpts"]) == (LEVEL, "1x1x1")
    # Virial by hand: -V · stress = -343 · 1e-3 · (xx, xy, xz, ...) with ASE's order xx yy zz yz xz xy.
    assert stored.info["virial"] == pytest.approx(
        -0.343 * np.array([1, 6, 5, 6, 2, 4, 5, 4, 3]), rel=1e-12
    )
    assert pool.cpu_hours() == 0.5


def test_ase_db_reads_it(tmp_path, frame):
    pool = Pool(tmp_path / "pool.db")
    with pool:
        pool.add_label(frame, make_label(3))
    assert connect(tmp_path / "pool.db").get(status="accepted").energy == -1.0


@pytest.mark.parametrize("change", ["none", "wrapped", "rounded"])
def test_a_frame_is_stored_once(tmp_path, frame, change):
    pool = Pool(tmp_path / "pool.db")
    again = frame.copy()
    if change == "wrapped":
        again.positions[1] += again.cell[0] - again.cell[2]
    if change == "rounded":
        again.positions = np.round(again.positions, 4)
    with pool:
        assert pool.add_label(frame, make_label(3))
        assert not pool.add_label(again, make_label(3))
    assert len(pool) == len(Pool(tmp_path / "pool.db")) == 1


def test_other_frames_levels_and_grids_are_other_labels(tmp_path, frame):
    moved = frame.copy()
    moved.positions[2, 0] += 0.01
    pool = Pool(tmp_path / "pool.db")
    with pool:
        assert pool.add_label(frame, make_label(3))
        assert pool.add_label(moved, make_label(3))
        assert pool.add_label(frame, make_label(3, "2x2x1"))
        label = make_label(3)
        label.level = "LJ of another kind"
        assert pool.add_label(frame, label)
    assert len(pool) == 4


def test_other_periodic_directions_are_another_label(tmp_path, frame):
    """A molecule in a box is not the crystal of this box; also in a pool that is read again, and for failures."""
    isolated, slab = frame.copy(), frame.copy()
    isolated.pbc = False
    slab.pbc = (True, True, False)
    with Pool(tmp_path / "pool.db") as pool:
        assert pool.add_label(isolated, make_label(3, energy=-1.0))
        pool.add_failure(slab, LEVEL, "1x1x1", Failure("no convergence", "", 1))
    with Pool(tmp_path / "pool.db") as pool:
        assert pool.has_label(isolated, LEVEL, "1x1x1")
        assert not pool.has_label(frame, LEVEL, "1x1x1")
        assert not pool.is_set_aside(frame, LEVEL, "1x1x1")
        assert pool.add_label(frame, make_label(3, "2x2x2", energy=-2.0))
    assert [atoms.get_potential_energy() for atoms in pool.frames()] == [-1.0, -2.0]


def test_the_densest_grid_is_exported(tmp_path, frame):
    pool = Pool(tmp_path / "pool.db")
    with pool:
        pool.add_label(frame, make_label(3, "2x2x1", energy=-2.0))
        pool.add_label(frame, make_label(3, "1x1x1", energy=-1.0))
    assert pool.export(tmp_path / "all.extxyz") == 1
    assert read(tmp_path / "all.extxyz").get_potential_energy() == -2.0


@pytest.mark.parametrize("change", ["image", "text"])
def test_the_densest_grid_is_exported_also_of_a_copy(tmp_path, frame, change):
    """As of a file that was read again: another periodic image, or positions and cell with fewer digits."""
    frame.set_cell(frame.cell.array + 1e-7 / 3)
    frame.positions[0] = [1.00005, 2.00005, 3.00005]  # half way between numbers of four decimals
    copy = frame.copy()
    if change == "image":
        copy.positions += frame.cell[1]
    else:
        copy.positions -= 1e-9
        copy.set_cell(np.round(copy.cell.array, 6))
    pool = Pool(tmp_path / "pool.db")
    with pool:
        pool.add_label(frame, make_label(3, "1x1x1", energy=-1.0))
        pool.add_label(copy, make_label(3, "2x2x1", energy=-2.0))
    assert [atoms.get_potential_energy() for atoms in pool.frames()] == [-2.0]


def test_a_label_is_found_by_its_number(tmp_path, frame):
    pool = Pool(tmp_path / "pool.db")
    with pool:
        pool.add_failure(frame, LEVEL, "1x1x1", Failure("no convergence", "", 1))
        pool.add_label(frame, make_label(3))
        pool.add_label(frame, make_label(3, "2x2x1", energy=-2.0))
    for kpts, number in (("1x1x1", 2), ("2x2x1", 3), ("3x3x1", None)):
        assert pool.find_label(frame, LEVEL, kpts) == number
    assert pool.frame(3).get_potential_energy() == -2.0
    assert [number for number, _ in pool.numbered_frames()] == [2, 3]
    with pytest.raises(PoolError, match="has no label number 1"):
        pool.frame(1)


@pytest.mark.parametrize("split", [False, True])
def test_labels_of_all_levels_are_exported_with_a_warning(tmp_path, frame, caplog, split):
    other = make_label(3, energy=-2.0)
    other.level = "LJ #12345678"
    pool = Pool(tmp_path / "pool.db")
    with pool:
        for label, name in ((make_label(3), TRAIN_NAME), (other, TEST_NAME)):
            frame.info["trajectory"] = name
            pool.add_label(frame, label)
    n_written = sum(pool.export_split(tmp_path, 0.5)) if split else pool.export(tmp_path / "a.xyz")
    assert n_written == 2
    assert [atoms.get_potential_energy() for atoms in pool.frames()] == [-1.0, -2.0]
    assert "several levels of theory are written: 1 at 'LJ', 1 at 'LJ #12345678'" in caplog.text


def test_one_level_is_exported_without_a_warning(tmp_path, frame, caplog):
    pool = Pool(tmp_path / "pool.db")
    with pool:
        pool.add_label(frame, make_label(3))
    pool.export(tmp_path / "all.extxyz")
    assert not caplog.text


def test_a_pool_without_labels_is_not_exported(tmp_path, frame):
    pool = Pool(tmp_path / "pool.db")
    with pool:
        pool.add_failure(frame, LEVEL, "1x1x1", Failure("no convergence", "", 1))
    with pytest.raises(ValueError, match="holds no labels"):
        pool.export(tmp_path / "all.extxyz")
    with pytest.raises(ValueError, match="holds no labels"):
        pool.export_split(tmp_path / "split", 0.5)
    assert not (tmp_path / "all.extxyz").exists()
    assert not (tmp_path / "split").exists()


def test_compressed_export(tmp_path, frame):
    pool = Pool(tmp_path / "pool.db")
    with pool:
        pool.add_label(frame, make_label(3))
    pool.export(tmp_path / "all.extxyz.gz")
    exported = read(tmp_path / "all.extxyz.gz")
    assert exported.get_potential_energy() == -1.0
    assert np.size(exported.info["virial"]) == 9
    assert [file.name for file in tmp_path.glob("*all*")] == ["all.extxyz.gz"]


def test_trajectories_stay_on_one_side(tmp_path, frame):
    pool = Pool(tmp_path / "pool.db")
    with pool:
        for k in range(60):
            moved = frame.copy()
            moved.positions[0, 0] += 0.02 * k
            moved.info["trajectory"] = f"md{k // 3}"
            pool.add_label(moved, make_label(3))
    assert sum(pool.export_split(tmp_path, 0.3)) == 60
    train, test = (
        {atoms.info["trajectory"] for atoms in read(tmp_path / f"{side}.extxyz.gz", ":")}
        for side in ("train", "test")
    )
    assert not train & test
    assert train | test == {f"md{k}" for k in range(20)}
    assert 1 <= len(test) <= 12  # 20 trajectories at 0.3: 6 ± 2


@pytest.mark.parametrize(
    ("names", "share", "message"),
    [
        # md4 and md5 are at 0.411 and 0.245: half-way to the other name is 0.460 and 0.267.
        ([TRAIN_NAME, "md5"], 0.15, "test.extxyz.gz would be empty.* all 2 .* a share of 0.4596 "),
        ([TEST_NAME, "md4"], 0.8, "train.extxyz.gz would be empty.* all 2 .* a share of 0.2669 "),
        ([TRAIN_NAME], 0.15, "test.extxyz.gz would be empty.* the only one .* export one file"),
        ([None], 0.5, "test.extxyz.gz would be empty.* the only one"),
    ],
)
def test_a_split_with_an_empty_side_is_refused(tmp_path, frame, names, share, message):
    """The share that the message names divides them."""
    pool = Pool(tmp_path / "pool.db")
    with pool:
        for k, name in enumerate(names):
            moved = frame.copy()
            moved.positions[0, 0] += 0.1 * k
            moved.info = {"trajectory": name} if name else {}
            pool.add_label(moved, make_label(3))
    with pytest.raises(ValueError, match=message) as refusal:
        pool.export_split(tmp_path / "split", share)
    assert not (tmp_path / "split").exists()
    if len(names) == 2:
        better = float(re.search(r"a share of ([\d.]+)", str(refusal.value))[1])
        assert pool.export_split(tmp_path / "split", better) == (1, 1)


def test_bad_share(tmp_path):
    with pytest.raises(ValueError, match="must be between 0 and 1"):
        Pool(tmp_path / "pool.db").export_split(tmp_path, 1.5)


def test_failures_are_kept_until_forgotten(tmp_path, frame):
    pool = Pool(tmp_path / "pool.db")
    with pool:
        pool.add_failure(frame, LEVEL, "1x1x1", Failure("no convergence", "last line", 3))
    pool = Pool(tmp_path / "pool.db")
    assert pool.is_set_aside(frame, LEVEL, "1x1x1")
    assert (len(pool), pool.n_set_aside) == (0, 1)
    ((_, failure),) = pool.failures()
    assert failure == Failure("no convergence", "last line", 3)
    with pool:
        assert pool.forget_failures() == 1
    assert not pool.is_set_aside(frame, LEVEL, "1x1x1")


def test_one_writer_at_a_time(tmp_path, frame):
    first, second = Pool(tmp_path / "pool.db"), Pool(tmp_path / "pool.db")
    with first:
        with pytest.raises(PoolError, match="another run is writing"), second:
            pass
        first.add_label(frame, make_label(3))
    with second:  # free again
        pass


def test_the_lock_is_held_until_the_last_block_ends(tmp_path, frame):
    pool, other = Pool(tmp_path / "pool.db"), Pool(tmp_path / "pool.db")
    with pool:
        with pool:
            pool.add_label(frame, make_label(3))
        with pytest.raises(PoolError, match="another run is writing"), other:
            pass
        pool.add_label(frame, make_label(3, "2x2x1"))
    with pytest.raises(PoolError, match="before writing"):
        pool.add_label(frame, make_label(3, "2x2x2"))
    with other:
        assert len(other) == 2


def test_what_others_wrote_is_known_once_the_lock_is_taken(tmp_path, frame):
    moved = frame.copy()
    moved.positions[0, 0] += 0.1
    pool, other = Pool(tmp_path / "pool.db"), Pool(tmp_path / "pool.db")
    with other:
        other.add_label(frame, make_label(3))
        other.add_failure(moved, LEVEL, "1x1x1", Failure("no convergence", "", 1))
    with pool:
        assert not pool.add_label(frame, make_label(3))
        assert pool.is_set_aside(moved, LEVEL, "1x1x1")
    with other:
        other.forget_failures()
    with pool:
        assert not pool.is_set_aside(moved, LEVEL, "1x1x1")
    assert (len(pool), pool.n_set_aside) == (1, 0)


def test_the_index_is_read_again_only_where_others_wrote(tmp_path, frame, monkeypatch):
    pool = Pool(tmp_path / "pool.db")
    monkeypatch.setattr(Pool, "_load_index", lambda pool: pytest.fail("read again"))
    with pool:
        pool.add_failure(frame, LEVEL, "1x1x1", Failure("no convergence", "", 1))
        pool.forget_failures()
        pool.add_label(frame, make_label(3))
    with pool:
        assert len(pool) == 1


def test_same_geometry(frame):
    wrapped, exchanged, moved, strained, isolated = (frame.copy() for _ in range(5))
    wrapped.positions[1] += wrapped.cell[0]
    exchanged.numbers[:2] = exchanged.numbers[1::-1]
    moved.positions[2, 0] += 2e-3
    strained.set_cell(frame.cell * 1.001)
    isolated.pbc = False
    assert is_same_geometry(frame, wrapped)
    for other in (exchanged, moved, strained, isolated, frame[:2]):
        assert not is_same_geometry(frame, other)


def test_writing_needs_the_lock(tmp_path, frame):
    with pytest.raises(PoolError, match="before writing"):
        Pool(tmp_path / "pool.db").add_label(frame, make_label(3))
    with pytest.raises(PoolError, match="before writing"):
        Pool(tmp_path / "pool.db").forget_failures()


@pytest.mark.parametrize("content", [b"not a database at all, only text" * 40, None])
def test_a_file_that_is_no_pool(tmp_path, content):
    path = tmp_path / "pool.db"
    if content is None:
        with sqlite3.connect(path) as other:
            other.execute("create table systems (id integer)")
        other.close()
    else:
        path.write_bytes(content)
    with pytest.raises(PoolError, match="is not a pool of labels"):
        Pool(path)


def _fill_under_limit(path, frame, limit, results):
    """Add labels until the file may not grow: the kernel's own "no space" for this process."""
    pool = Pool(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    n_added = 0
    with pool:
        try:
            while True:
                moved = frame.copy()
                moved.positions[0, 0] += 0.01 * (n_added + 1)
                pool.add_label(moved, make_label(3))
                n_added += 1
        except PoolError as failure:
            results.put((n_added, str(failure)))


def test_full_disk_leaves_the_pool_readable(tmp_path, frame):
    path = tmp_path / "pool.db"
    with Pool(path) as pool:
        pool.add_label(frame, make_label(3))
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    limit = path.stat().st_size + 20_000
    process = context.Process(target=_fill_under_limit, args=(path, frame, limit, results))
    process.start()
    n_added, message = results.get()
    process.join()
    assert "cannot write" in message
    assert "The labels in it are safe" in message
    assert n_added > 3
    assert len(Pool(path)) == len(list(Pool(path).frames())) == n_added + 1


def _forget_under_limit(path, results):
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    with Pool(path) as pool:
        try:
            results.put((pool.forget_failures(), ""))
        except Exception as failure:
            results.put((type(failure).__name__, str(failure)))


def test_full_disk_keeps_the_frames_set_aside(tmp_path, frame):
    """Also removing them needs room, for the journal."""
    path = tmp_path / "pool.db"
    with Pool(path) as pool:
        pool.add_failure(frame, LEVEL, "1x1x1", Failure("no convergence", "", 1))
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    process = context.Process(target=_forget_under_limit, args=(path, results))
    process.start()
    kind, message = results.get()
    process.join()
    assert kind == "PoolError"
    assert "cannot write" in message and "make room and run again" in message
    assert Pool(path).n_set_aside == 1


def test_a_copy_taken_at_any_moment_is_a_pool(tmp_path, frame):
    """Labels are on disk when add_label returns, so a kill afterwards loses nothing."""
    path = tmp_path / "pool.db"
    with Pool(path) as pool:
        for k in range(5):
            moved = frame.copy()
            moved.positions[0, 0] += 0.1 * k
            pool.add_label(moved, make_label(3))
            shutil.copy(path, tmp_path / f"copy{k}.db")
            assert len(Pool(tmp_path / f"copy{k}.db")) == k + 1
