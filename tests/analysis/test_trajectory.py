"""Reading: every format gives the atoms that were written, and says what is wrong with a file."""

import gzip
import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from qnep.analysis import TrajectoryError, open_trajectory
from qnep.analysis.pipeline import Pipeline, PipelineSettings, run_pipeline
from qnep.analysis.text_source import TextSource

CELL = np.array([[9.0, 0.0, 0.0], [2.0, 8.0, 0.0], [-1.0, 1.5, 7.0]])
SYMBOLS = "NaCOFH"
N_FRAMES = 4


def make_images(n_frames=N_FRAMES):
    """A triclinic box that grows, with five atoms at random places."""
    rng = np.random.default_rng(3)
    images = []
    for k in range(n_frames):
        atoms = Atoms(
            SYMBOLS, scaled_positions=rng.random((5, 3)), cell=CELL * (1 + 0.01 * k), pbc=True
        )
        atoms.set_initial_charges(rng.normal(size=5))
        images.append(atoms)
    return images


def dump_text(images, columns="id element x y z q"):
    """What LAMMPS writes (manual, Howto triclinic): bounds of the box around the tilted one."""
    rng = np.random.default_rng(5)
    text = ""
    for k, atoms in enumerate(images):
        (lx, _, _), (xy, ly, _), (xz, yz, lz) = np.asarray(atoms.cell)
        low, high = np.array([0.5, -1.0, 2.0]), np.array([0.5 + lx, ly - 1.0, lz + 2.0])
        bounds = [
            (low[0] + min(0, xy, xz, xy + xz), high[0] + max(0, xy, xz, xy + xz), xy),
            (low[1] + min(0, yz), high[1] + max(0, yz), xz),
            (low[2], high[2], yz),
        ]
        text += f"ITEM: TIMESTEP\n{100 * k}\nITEM: NUMBER OF ATOMS\n{len(atoms)}\n"
        text += "ITEM: BOX BOUNDS xy xz yz pp pp ff\n"
        text += "".join(f"{low:.15g} {high:.15g} {tilt:.15g}\n" for low, high, tilt in bounds)
        text += f"ITEM: ATOMS {columns}\n"
        scaled = atoms.get_scaled_positions(wrap=False)
        for i in rng.permutation(len(atoms)):
            x, y, z = atoms.positions[i] + low
            xs, ys, zs = scaled[i]
            known = {
                "id": i + 1,
                "type": i + 1,
                "element": atoms[i].symbol,
                "x": x,
                "y": y,
                "z": z,
                "xs": xs,
                "ys": ys,
                "zs": zs,
                "q": atoms[i].charge,
            }
            text += " ".join(str(known[name]) for name in columns.split()) + "\n"
    return text


def check(frames, images, shift=0.0, tolerance=1e-8):
    """Same elements, cells and places; the tolerance is that of the digits in the file."""
    assert len(frames) == len(images)
    for frame, atoms in zip(frames, images):
        assert list(frame.numbers) == list(atoms.numbers)
        assert np.allclose(frame.cell, atoms.cell, atol=tolerance)
        assert np.allclose(frame.positions, atoms.positions + shift, atol=tolerance)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_extxyz(tmp_path, suffix):
    images = make_images()
    for k, atoms in enumerate(images):
        atoms.info["Time"] = 2.5 * k
    write(tmp_path / "run.xyz", images, format="extxyz")
    path = tmp_path / ("run.xyz" + suffix)
    if suffix:
        path.write_bytes(gzip.compress((tmp_path / "run.xyz").read_bytes()))
    frames = list(open_trajectory(path))
    check(frames, images)
    assert [frame.time_fs for frame in frames] == [0.0, 2.5, 5.0, 7.5]
    assert np.allclose(frames[2].charges, images[2].get_initial_charges(), atol=1e-8)


@pytest.mark.parametrize(
    "columns", ["id element x y z q", "type id x y z", "id type xs ys zs q", "element x y z id"]
)
@pytest.mark.parametrize("suffix", [".lammpstrj", ".lammpstrj.gz"])
def test_lammps_dump(tmp_path, columns, suffix):
    images = make_images()
    text = dump_text(images, columns).encode()
    path = tmp_path / ("run" + suffix)
    path.write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    frames = list(open_trajectory(path, elements=["Na", "C", "O", "F", "H"], timestep_fs=0.5))
    check(frames, images, shift=[0.5, -1.0, 2.0])
    assert [frame.step for frame in frames] == [0, 100, 200, 300]
    assert frames[3].time_fs == 150.0
    assert list(frames[0].pbc) == [True, True, False]


def test_dump_of_many_gzip_members(tmp_path):
    """A restarted run appends to its gzip file."""
    images = make_images()
    parts = [
        gzip.compress(dump_text(images[:2]).encode()),
        gzip.compress(dump_text(images[2:]).encode()),
    ]
    path = tmp_path / "run.dump.gz"
    path.write_bytes(b"".join(parts))
    check(list(open_trajectory(path)), images, shift=[0.5, -1.0, 2.0])


@pytest.mark.parametrize("extension", ["dcd", "xtc"])
def test_binary_formats_need_a_topology(tmp_path, extension):
    mda = pytest.importorskip("MDAnalysis")
    images = make_images()
    universe = mda.Universe.empty(5, trajectory=True)
    path = tmp_path / f"run.{extension}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MDAnalysis speaks of missing attributes
        with mda.Writer(str(path), n_atoms=5) as writer:
            for k, atoms in enumerate(images):
                # both formats know boxes by lengths and angles: turn the atoms into that frame
                universe.atoms.positions = atoms.positions
                universe.dimensions = atoms.cell.cellpar()
                universe.trajectory.ts.frame = k
                universe.trajectory.ts.time = 0.5 * k
                writer.write(universe.atoms)
    write(tmp_path / "first.xyz", images[0], format="extxyz")
    frames = list(open_trajectory(path, topology=tmp_path / "first.xyz", frame_interval_fs=10.0))
    check(frames, images, tolerance=1e-2 if extension == "xtc" else 1e-4)  # XTC keeps 0.01 Å
    assert [frame.time_fs for frame in frames] == [0.0, 10.0, 20.0, 30.0]
    with pytest.raises(TrajectoryError, match="needs a topology"):
        open_trajectory(path)


def test_cut_xtc_gives_whole_frames(tmp_path):
    mda = pytest.importorskip("MDAnalysis")
    rng = np.random.default_rng(0)
    universe = mda.Universe.empty(100, trajectory=True)
    universe.dimensions = [30, 30, 30, 90, 90, 90]
    path = tmp_path / "run.xtc"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with mda.Writer(str(path), n_atoms=100) as writer:
            for k in range(3):
                universe.atoms.positions = 30 * rng.random((100, 3))
                universe.trajectory.ts.time = float(k)
                writer.write(universe.atoms)
    path.write_bytes(path.read_bytes()[:-100])
    write(tmp_path / "first.xyz", Atoms("O100", cell=[30] * 3, pbc=True), format="extxyz")
    trajectory = open_trajectory(path, topology=tmp_path / "first.xyz")
    assert len(list(trajectory)) == 2
    assert "frame 2" in trajectory.truncated


def test_gpumd_dump(shared_data):
    """GPUMD's own file: time, forces and a cell that is not orthogonal."""
    (frame,) = open_trajectory(shared_data / "gpumd_static_qnep" / "dump.xyz")
    assert frame.n_atoms == 250
    assert frame.time_fs == 0.0
    assert frame.volume == pytest.approx(2 * 16.42598**3)  # fcc vectors (0, a, a) ...
    assert frame.energy == pytest.approx(-930.79387274384499)


@pytest.mark.parametrize("kind", ["xyz", "lammpstrj"])
@pytest.mark.parametrize("is_gzipped", [False, True])
@pytest.mark.parametrize("n_missing", [1, 7, 60, 200])
def test_truncated_last_frame_is_left_out(tmp_path, kind, is_gzipped, n_missing, caplog):
    images = make_images()
    if kind == "xyz":
        write(tmp_path / "whole.xyz", images, format="extxyz")
        text = (tmp_path / "whole.xyz").read_bytes()
    else:
        text = dump_text(images).encode()
    path = tmp_path / f"run.{kind}"
    path.write_bytes(gzip.compress(text[:-n_missing]) if is_gzipped else text[:-n_missing])
    trajectory = open_trajectory(path)
    assert len(list(trajectory)) == N_FRAMES - 1
    assert (
        trajectory.truncated
        == f"frame {N_FRAMES - 1} is cut off at the end of the file and was left out"
    )
    assert "cut off" in caplog.text


def test_gzip_without_its_end_gives_the_whole_frames(tmp_path):
    text = dump_text(make_images(40)).encode()
    path = tmp_path / "run.lammpstrj.gz"
    packed = gzip.compress(text)
    path.write_bytes(packed[: len(packed) // 2])
    trajectory = open_trajectory(path)
    assert 10 < len(list(trajectory)) < 30
    assert trajectory.truncated is not None


def test_slice_of_frames(tmp_path):
    images = make_images(7)
    write(tmp_path / "run.xyz", images, format="extxyz")
    frames = list(open_trajectory(tmp_path / "run.xyz", start=1, stop=6, stride=2))
    assert [frame.index for frame in frames] == [1, 3, 5]
    check(frames, images[1:6:2])


def write_text(path, text):
    path.write_text(text)
    return path


ONE_ATOM = '1\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3 pbc="T T T"\n'


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.xyz", "1\nProperties=species:S:1:pos:R:3\nH 0 0 0\n", "no box: wanted Lattice"),
        ("a.xyz", ONE_ATOM + "H 0 0 inf\n", "atom 0 is not finite"),
        ("a.xyz", ONE_ATOM + "Q 0 0 0\n", "'Q' is not the symbol"),
        ("a.xyz", ONE_ATOM + "H 0 0\n", "expected 4 and found 3"),
        ("a.xyz", ONE_ATOM + "H 0 0 x\n", "cannot read the atom lines"),
        ("a.xyz", ONE_ATOM + "H 0 0 0\n2\n" + ONE_ATOM[2:] + "H 0 0 0\nH 1 1 1\n", "come and go"),
        ("a.xyz", ONE_ATOM + "H 0 0 0\n" + ONE_ATOM + "O 0 0 0\n", "another element"),
        ("a.xyz", "hello\n", "wanted the number of atoms"),
        ("a.xyz", "", "no whole frame"),
        (
            "a.dump",
            "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n1\nITEM: ATOMS id x y z\n1 0 0 0\n",
            "BOX BOUNDS",
        ),
        (
            "a.dump",
            dump_text(make_images(), "id type x y z"),
            "no elements: wanted a column 'element'",
        ),
        ("a.dump", dump_text(make_images(), "id element q"), "no positions among the columns"),
        (
            "a.dump",
            dump_text(make_images()).replace("ITEM: TIMESTEP\n0\n", "ITEM: TIMESTEP\nx\n"),
            "line 2",
        ),
        ("a.bin", "neither\n", "needs a topology"),
    ],
)
def test_bad_files_are_named(tmp_path, name, text, message):
    with pytest.raises(TrajectoryError, match=message):
        list(open_trajectory(write_text(tmp_path / name, text)))


def test_too_few_elements(tmp_path):
    path = write_text(tmp_path / "a.dump", dump_text(make_images(), "id type x y z"))
    with pytest.raises(TrajectoryError, match="2 types were given, but the dump has types 1 to 5"):
        list(open_trajectory(path, elements=["Na", "C"]))


def test_elements_that_are_not_needed_are_named(tmp_path, caplog):
    """A file with symbols keeps them; it is said, once, that those given are not used."""
    images = make_images()
    (tmp_path / "run.dump").write_text(dump_text(images, "id element x y z"))
    write(tmp_path / "run.xyz", images, format="extxyz")
    for name in ("run.dump", "run.xyz"):
        caplog.clear()
        frames = list(open_trajectory(tmp_path / name, elements=["Na", "F"]))
        assert (frames[0].numbers == images[0].numbers).all()
        assert caplog.text.count("those given (--elements) are not used") == 1


def test_progress_of_a_file_that_the_reading_thread_closes(tmp_path):
    """Between the look whether it is closed and the question how far it is read."""

    class Closing:
        closed = False

        def tell(self):
            raise OSError(9, "Bad file descriptor")

    (tmp_path / "run.xyz").write_text("1\n\nNa 0 0 0\n")
    source = TextSource(tmp_path / "run.xyz")
    source.close()
    source._raw = Closing()
    assert source.fraction_read == 1.0


def test_molecule_without_a_box(tmp_path):
    path = write_text(tmp_path / "a.xyz", '1\npbc="F F F"\nH 0 0 0\n')
    (frame,) = open_trajectory(path)
    assert not frame.pbc.any()
    assert frame.volume == 0.0


def set_steps(text, steps):
    """Give the frames of a dump other steps than 0, 100, 200, ..."""
    frames = text.split("ITEM: TIMESTEP\n")[1:]
    return "".join(
        f"ITEM: TIMESTEP\n{step}\n{frame.partition(chr(10))[2]}"
        for step, frame in zip(steps, frames, strict=True)
    )


@pytest.mark.parametrize("steps", [[0, 100, 0, 100], [0, 100, 100, 200]])
def test_time_that_does_not_increase_ends_the_trajectory(tmp_path, steps):
    """Steps set back to 0, and two different frames at one step: the frames before are kept."""
    path = write_text(tmp_path / "a.dump", set_steps(dump_text(make_images()), steps))
    frames = iter(open_trajectory(path, timestep_fs=0.5))
    assert [next(frames).time_fs for _ in range(2)] == [0.0, 50.0]
    with pytest.raises(TrajectoryError, match=rf"frame 2: its time, {steps[2] // 2} fs, does not"):
        next(frames)


def test_frames_without_times_and_with_an_interval_need_no_order(tmp_path):
    path = write_text(tmp_path / "a.dump", set_steps(dump_text(make_images()), [0, 100, 0, 100]))
    assert [frame.time_fs for frame in open_trajectory(path)] == [None] * 4
    frames = open_trajectory(path, timestep_fs=0.5, frame_interval_fs=2.0)
    assert [frame.time_fs for frame in frames] == [0.0, 2.0, 4.0, 6.0]


def test_frame_that_a_restart_repeats_is_left_out(tmp_path):
    """The last frame of one run and the first of the next, in which LAMMPS wrapped the atoms."""
    images = make_images(3)
    again = images[1].copy()
    again.positions[0] += images[1].cell[0] - images[1].cell[1]
    text = dump_text([images[0], images[1], again, images[2]])
    path = write_text(tmp_path / "a.dump", set_steps(text, [0, 100, 100, 200]))
    frames = list(open_trajectory(path, timestep_fs=0.5))
    assert [frame.time_fs for frame in frames] == [0.0, 50.0, 100.0]
    check(frames, images, shift=[0.5, -1.0, 2.0])


def test_some_frames_without_time(tmp_path):
    """Frame numbers would be taken for femtoseconds."""
    with_time = ONE_ATOM.replace("pbc", "Time=50 pbc")
    path = write_text(tmp_path / "a.xyz", with_time + "H 0 0 0\n" + ONE_ATOM + "H 0 0 0\n")
    with pytest.raises(TrajectoryError, match="no time: give the time between frames"):
        list(open_trajectory(path))


def test_reading_goes_on_after_a_frame(tmp_path):
    """What comes is compared with the frame before; nothing more to come is no error then."""
    images = make_images()
    path = write_text(tmp_path / "a.dump", dump_text(images))
    before = list(open_trajectory(path, timestep_fs=0.5))
    for start in (2, N_FRAMES):
        rest = open_trajectory(path, timestep_fs=0.5, start=start, previous=before[start - 1])
        assert [frame.index for frame in rest] == list(range(start, N_FRAMES))
    late = open_trajectory(path, timestep_fs=0.5, start=1, previous=before[3])
    with pytest.raises(TrajectoryError, match="does not come after the 150 fs of frame 3"):
        list(late)


def test_dcd_of_lammps_has_steps_but_no_times(tmp_path, caplog):
    """LAMMPS writes its own dt (0.0005 ps, every 100 steps), which MDAnalysis reads in AKMA units: 2.444 fs."""
    mda = pytest.importorskip("MDAnalysis")
    from MDAnalysis.lib.formats.libdcd import DCDFile

    (tmp_path / "first.xyz").write_text(ONE_ATOM + "Na 0 0 0\n")
    with DCDFile(str(tmp_path / "run.dcd"), "w") as file:
        file.write_header(
            remarks="Written by LAMMPS",
            natoms=1,
            istart=200,
            nsavc=100,
            delta=0.0005,
            is_periodic=1,
        )
        for k in range(3):
            file.write(np.full((1, 3), 0.1 * k), [9.0, 90.0, 9.0, 90.0, 90.0, 9.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MDAnalysis speaks of coming changes
        universe = mda.Universe.empty(1, trajectory=True)
        universe.load_new(str(tmp_path / "run.dcd"))
        assert universe.trajectory.dt == pytest.approx(0.002444, rel=1e-3)  # ps: the trap is there

    def read(**settings):
        return list(open_trajectory(tmp_path / "run.dcd", tmp_path / "first.xyz", **settings))

    frames = read()
    assert [frame.time_fs for frame in frames] == [None] * 3
    assert "no times" in caplog.text
    assert "--timestep FS" in caplog.text
    assert [frame.step for frame in frames] == [200, 300, 400]
    assert [frame.time_fs for frame in read(timestep_fs=0.5)] == [100.0, 150.0, 200.0]
    assert [frame.time_fs for frame in read(frame_interval_fs=50.0)] == [0.0, 50.0, 100.0]


def test_models_of_a_pdb_have_no_times(tmp_path):
    """MDAnalysis would tell 0, 1, 2 ps."""
    pytest.importorskip("MDAnalysis")
    images = [Atoms("Na", [[k, 0, 0]], cell=[9.0] * 3, pbc=True) for k in range(3)]
    write(tmp_path / "run.pdb", images)
    (tmp_path / "first.xyz").write_text(ONE_ATOM + "Na 0 0 0\n")
    frames = list(open_trajectory(tmp_path / "run.pdb", tmp_path / "first.xyz"))
    assert [frame.time_fs for frame in frames] == [None] * 3
    assert [frame.step for frame in frames] == [None] * 3
    timed = open_trajectory(tmp_path / "run.pdb", tmp_path / "first.xyz", frame_interval_fs=2.0)
    assert [frame.time_fs for frame in timed] == [0.0, 2.0, 4.0]


def test_times_of_an_xtc_are_in_ps(tmp_path):
    mda = pytest.importorskip("MDAnalysis")
    from MDAnalysis.lib.formats.libmdaxdr import XTCFile

    assert mda
    (tmp_path / "first.xyz").write_text(ONE_ATOM + "Na 0 0 0\n")
    with XTCFile(str(tmp_path / "run.xtc"), "w") as file:
        for k in range(3):
            position = np.full((1, 3), 0.01 * k, dtype=np.float32)
            file.write(position, 0.9 * np.eye(3, dtype=np.float32), 100 * k, 0.05 * k, 1000)

    def times(**settings):
        frames = open_trajectory(tmp_path / "run.xtc", tmp_path / "first.xyz", **settings)
        return [frame.time_fs for frame in frames]

    assert times() == pytest.approx([0.0, 50.0, 100.0], rel=1e-6)
    assert times(timestep_fs=2.0) == [0.0, 200.0, 400.0]


def lammps_extxyz(n_frames=3):
    """What LAMMPS 2025-07-22 writes for `dump extxyz` with `dump_modify vel yes time yes` in metal units, dt 0.5 fs."""
    return "".join(
        f'1\nTimestep={100 * k} Time={0.05 * k:.6f} pbc="T T T" Lattice="9 0 0 0 9 0 0 0 9" '
        "Potential_energy=-18.2376710373926 Temperature=300.0 "
        f"Properties=species:S:1:pos:R:3:vel:R:3\nNa {k} 0 0 -5.55426 -4.54303 3.17422\n"
        for k in range(n_frames)
    )


def test_times_and_velocities_of_a_lammps_extxyz_have_no_units(tmp_path, caplog):
    path = write_text(tmp_path / "a.xyz", lammps_extxyz())
    frames = list(open_trajectory(path))
    assert [frame.time_fs for frame in frames] == [None] * 3
    assert [frame.velocities for frame in frames] == [None] * 3
    assert "that of LAMMPS, without units" in caplog.text
    frames = list(open_trajectory(path, timestep_fs=0.5))
    assert [frame.time_fs for frame in frames] == [0.0, 50.0, 100.0]


def test_velocities_of_another_extxyz_are_kept(tmp_path):
    text = ONE_ATOM.replace("pos:R:3", "pos:R:3:vel:R:3").replace("pbc", "Time=2 pbc")
    (frame,) = open_trajectory(write_text(tmp_path / "a.xyz", text + "H 0 0 0 1 2 3\n"))
    assert frame.velocities.tolist() == [[1.0, 2.0, 3.0]]
    assert frame.time_fs == 2.0


def test_time_step_is_refused_where_no_steps_are_counted(tmp_path):
    path = write_text(tmp_path / "a.xyz", ONE_ATOM.replace("pbc", "Time=2 pbc") + "H 0 0 0\n")
    with pytest.raises(TrajectoryError, match="does not count steps, so that a time step gives no"):
        list(open_trajectory(path, timestep_fs=0.5))
    (frame,) = open_trajectory(path, timestep_fs=0.5, frame_interval_fs=3.0)
    assert frame.time_fs == 0.0


def timed_dump(units):
    """A dump with `time yes`, and with `units yes` where units are named (once, at the top)."""
    frame = (
        "ITEM: TIME\n{time}\nITEM: TIMESTEP\n{step}\nITEM: NUMBER OF ATOMS\n1\nITEM: BOX BOUNDS pp pp pp\n"
        "0 9\n0 9\n0 9\nITEM: ATOMS id element x y z vx vy vz\n1 Na {step} 1 1 2 0 0\n"
    )
    text = "".join(frame.format(time=0.05 * k, step=100 * k) for k in range(2))
    return (f"ITEM: UNITS\n{units}\n" if units else "") + text


@pytest.mark.parametrize(
    ("units", "times", "speed"),
    [
        ("metal", [0.0, 50.0], 0.002),
        ("real", [0.0, 0.05], 2.0),
        ("lj", [None, None], None),
        (None, [None, None], None),
    ],
)
def test_times_and_velocities_of_a_dump_need_its_units(tmp_path, caplog, units, times, speed):
    path = write_text(tmp_path / "a.dump", timed_dump(units))
    frames = list(open_trajectory(path))
    assert [frame.time_fs for frame in frames] == times
    for frame in frames:
        velocities = None if frame.velocities is None else frame.velocities.tolist()
        assert velocities == (None if speed is None else [[speed, 0.0, 0.0]])
    assert ("no ITEM: TIME with ITEM: UNITS" in caplog.text) == (speed is None)
    (_, last) = open_trajectory(path, timestep_fs=0.25)
    assert last.time_fs == 25.0


def test_units_of_a_dump_that_names_none(tmp_path):
    path = write_text(tmp_path / "a.dump", timed_dump(None))
    (_, last) = open_trajectory(path, units="metal")
    assert last.time_fs == 50.0
    assert last.velocities.tolist() == [[0.002, 0.0, 0.0]]
    named = write_text(tmp_path / "b.dump", timed_dump("real"))
    (_, last) = open_trajectory(named, units="metal")
    assert last.velocities.tolist() == [[2.0, 0.0, 0.0]]  # the file knows better
    with pytest.raises(TrajectoryError, match=r"units must be one of real, metal, .*got nano"):
        open_trajectory(path, units="nano")


def test_other_atom_ids_end_the_trajectory(tmp_path):
    """Atom 1 left and atom 7 came: as many atoms, and the same elements in the order of the ids."""

    def frame(step, ids):
        lines = "".join(f"{i} Na {2 * i} 1 1\n" for i in ids)
        head = f"ITEM: TIMESTEP\n{step}\nITEM: NUMBER OF ATOMS\n4\nITEM: BOX BOUNDS pp pp pp\n"
        return head + "0 20\n0 20\n0 20\nITEM: ATOMS id element x y z\n" + lines

    text = frame(0, [1, 2, 3, 4]) + frame(100, [4, 2, 3, 1]) + frame(200, [2, 3, 4, 7])
    path = write_text(tmp_path / "a.dump", text)
    frames = iter(open_trajectory(path, timestep_fs=0.5))
    assert [next(frames).ids.tolist() for _ in range(2)] == [[1, 2, 3, 4]] * 2
    with pytest.raises(TrajectoryError, match="frame 2: the atom with id 7 is not in frame 0"):
        next(frames)
    findings = run_pipeline(
        Pipeline(PipelineSettings(only=("species",))), open_trajectory(path, timestep_fs=0.5)
    )
    assert findings.about["frames analysed"] == 2
    assert any("ends early" in note and "come and go" in note for note in findings.notes)
