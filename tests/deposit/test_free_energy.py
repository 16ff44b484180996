"""Profiles and barriers against closed forms: samples drawn by numpy, and a double well run in LAMMPS with PLUMED."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units

from qnep import random_model
from qnep.cli import main
from qnep.deposit.barrier import BarrierError, BarrierRun, bias_temperature, find_columns
from qnep.deposit.dynamics import Dynamics
from qnep.deposit.engine import ForceField
from qnep.deposit.frame import Frame
from qnep.deposit.free_energy import (
    Profile,
    Samples,
    find_barrier,
    hill_variables,
    read_colvar,
    read_samples,
    reweighted_profile,
    summed_hills,
)
from qnep.deposit.kernel import PlumedError

TEMPERATURE = 300.0
KT = units.kB * TEMPERATURE
HEIGHT, HALF_WIDTH, CENTRE = (
    0.2,
    1.0,
    5.0,
)  # eV, Å, Å: the double well V = HEIGHT (((x - CENTRE) / HALF_WIDTH)^2 - 1)^2


def double_well(x: np.ndarray) -> np.ndarray:
    return HEIGHT * (((x - CENTRE) / HALF_WIDTH) ** 2 - 1) ** 2


def test_reweighting_undoes_a_known_bias():
    """Samples of exp(-(V + B) / kT) with B = -V + x/50: weighted by exp(B / kT) they give V back within the errors."""
    generator = np.random.default_rng(1)
    trials = generator.uniform(3.7, 6.3, 100_000)
    kept = trials[generator.random(len(trials)) < np.exp(-0.02 * (trials - 3.5) / KT)]
    bias = -double_well(kept) + 0.02 * kept
    run = Samples(np.arange(len(kept), dtype=float), kept, bias)
    profile = reweighted_profile([run], "x", TEMPERATURE, n_blocks=8, n_bins=40, discard=0.0)
    exact = double_well(profile.grid)
    inside = (profile.grid > 3.8) & (profile.grid < 6.2)
    deviation = profile.free_energy - exact
    deviation -= deviation[inside].mean()
    assert np.abs(deviation[inside]).max() < 0.02 * HEIGHT + 5 * profile.error[inside].max()
    assert np.sqrt(np.mean((deviation[inside] / profile.error[inside]) ** 2)) < 3.0


def test_barrier_of_a_profile_with_blocks():
    """Samples of the double well itself at 900 K, where the top is visited often enough without a bias."""
    trials = np.random.default_rng(4).uniform(3.4, 6.6, 300_000)
    keep = np.random.default_rng(5).random(len(trials)) < np.exp(-double_well(trials) / (3 * KT))
    values = trials[keep]
    run = Samples(np.arange(len(values), dtype=float), values, np.zeros(len(values)))
    profile = reweighted_profile([run], "x", 3 * TEMPERATURE, n_blocks=5, n_bins=33, discard=0.0)
    barrier = find_barrier(profile)
    assert barrier.reactant == pytest.approx(4.0, abs=0.25)
    assert barrier.product == pytest.approx(6.0, abs=0.25)
    assert abs(barrier.forward - HEIGHT) < 4 * barrier.forward_error
    assert barrier.forward_error < 0.05 * HEIGHT
    given = find_barrier(profile, reactant=(5.5, 6.4), product=(3.6, 4.5))
    assert given.reactant == barrier.product
    with pytest.raises(ValueError, match="was never visited"):
        find_barrier(profile, (8.0, 9.0), (3.6, 4.5))


def profile_with(free_energy: np.ndarray) -> Profile:
    """A profile from 0.5 to n - 0.5 in bins of 1; two blocks like the whole."""
    grid = np.arange(len(free_energy)) + 0.5
    blocks = np.stack((free_energy, free_energy))
    return Profile("d", grid, free_energy, np.zeros(len(grid)), blocks)


def two_wells_with_nothing_between() -> Samples:
    values = np.random.default_rng(7).normal(4.0, 0.1, 20_000)
    values[10_000:] += 2.0
    values = np.random.default_rng(8).permutation(values)
    return Samples(np.arange(20_000.0), values, np.zeros(20_000))


@pytest.mark.parametrize("ranges", [{}, {"reactant": (3.5, 4.5), "product": (5.5, 6.5)}])
def test_top_that_was_never_visited_is_no_barrier(ranges):
    """Two wells, and between them nothing: the height of the way is not known, not even as not less than."""
    profile = reweighted_profile([two_wells_with_nothing_between()], "d", TEMPERATURE)
    with pytest.raises(ValueError, match=r"d was never visited between 4\.\d+ and [45]\.\d+, so"):
        find_barrier(profile, **ranges)


def test_first_gap_of_the_way_is_named():
    nan = np.nan
    profile = profile_with(np.array([nan, 0.0, 0.1, nan, nan, 0.3, nan, 0.2, 0.1, nan, 0.5]))
    with pytest.raises(ValueError, match=r"between 3\.000 and 5\.000, .* from 1\.500 to 8\.500"):
        find_barrier(profile, (1.0, 2.0), (8.0, 9.0))
    beside = find_barrier(profile, (1.0, 2.0), (2.0, 3.0))  # gaps elsewhere do not matter
    assert beside.reaction == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("ranges", "reactant", "top", "product"),
    [
        ({}, 1.5, 3.5, 5.5),
        ({"product": (8.0, 11.0)}, 1.5, 3.5, 9.5),
        ({"reactant": (8.0, 11.0)}, 9.5, 3.5, 1.5),
        ({"product": (0.0, 3.0)}, 5.5, 3.5, 1.5),
        ({"reactant": (5.0, 6.0), "product": (8.0, 11.0)}, 5.5, 7.5, 9.5),
    ],
)
def test_one_range_is_kept_and_the_other_state_searched_for(ranges, reactant, top, product):
    """Three wells of 0, 0.05 and 0.1 eV behind tops of 0.6 and 0.3 eV."""
    energies = [0.4, 0.0, 0.3, 0.6, 0.2, 0.05, 0.2, 0.3, 0.2, 0.1, 0.4]
    barrier = find_barrier(profile_with(np.array(energies)), **ranges)
    assert (barrier.reactant, barrier.top, barrier.product) == (reactant, top, product)
    forward = energies[int(top)] - energies[int(reactant)]
    assert barrier.forward == pytest.approx(forward)
    assert barrier.reaction == pytest.approx(energies[int(product)] - energies[int(reactant)])


def _probabilities(energies: np.ndarray) -> np.ndarray:
    weights = np.exp(-energies / KT)
    return weights / weights.sum()


def test_colvar_of_a_restarted_run(tmp_path):
    path = tmp_path / "COLVAR"
    path.write_text("#! FIELDS time d\n 0.0 1\n 0.1 2\n#! FIELDS time d\n 0.1 3\n 0.2 4\n")
    assert read_colvar(path)["d"].tolist() == [1.0, 3.0, 4.0]
    with pytest.raises(ValueError, match=r"no column 'x'.*time, d"):
        read_samples(path, "d", "x")
    path.write_text("#! FIELDS time d\n 0.0 1\n 0.1\n")
    with pytest.raises(ValueError, match="line 3: 2 columns expected, 1 found"):
        read_colvar(path)
    path.write_text("")
    with pytest.raises(ValueError, match="no lines"):
        read_colvar(path)


PLUMED = f"""UNITS LENGTH=A ENERGY=eV TIME=ps
place: POSITION ATOM=1 NOPBC
well: CUSTOM ARG=place.x VAR=x FUNC={HEIGHT}*(((x-{CENTRE})/{HALF_WIDTH})^2-1)^2 PERIODIC=NO
landscape: BIASVALUE ARG=well
hills: METAD ARG=place.x SIGMA=0.1 HEIGHT=0.01 PACE=50 TEMP={TEMPERATURE} BIASFACTOR=8 GRID_MIN=2 GRID_MAX=8 ...
  GRID_SPACING=0.02 CALC_RCT FILE=HILLS
...
lid: UPPER_WALLS ARG=place.x AT=7.0 KAPPA=1.0
PRINT ARG=place.x,hills.bias,hills.rbias,lid.bias STRIDE=10 FILE=COLVAR
"""
FREE = ForceField("pair_style zero 3.0\npair_coeff * *", ("Na",))
DYNAMICS = Dynamics(temperature=TEMPERATURE, timestep_fs=4.0, dump_ps=20.0, seed=3)


def particle() -> Atoms:
    """One atom in the well on the left; the other one is there because LAMMPS wants a density."""
    return Atoms("Na2", [[4.0, 5, 5], [8, 8, 8]], cell=[10, 10, 10], pbc=True)


def start(folder, program, plumed=PLUMED, dump_ps=DYNAMICS.dump_ps, **changes) -> BarrierRun:
    (folder / "well.dat").write_text(plumed)
    dynamics = replace(DYNAMICS, dump_ps=dump_ps)
    options = {"walkers": 2, "pieces": 2, "time_ps": 60.0, **changes}
    frame = Frame.from_atoms(particle(), TEMPERATURE, 1)
    return BarrierRun.start(
        folder / "run", frame, folder / "well.dat", FREE, dynamics, program, **options
    )


def profile_of(run, n_blocks=5):
    """Profile and barrier from what counts of a run."""
    columns = find_columns(run.folder / "walker_0" / "plumed.dat")
    samples = [
        read_samples(path, columns.variable, columns.bias, columns.walls, run.static_from_ps)
        for path in run.colvars
    ]
    profile = reweighted_profile(
        samples, columns.variable, TEMPERATURE, n_blocks=n_blocks, n_bins=60, discard=0.0
    )
    return profile, find_barrier(profile, (3.5, 4.5), (5.5, 6.5))


def test_barrier_comes_back_within_its_bar(tmp_path, lammps_program):
    """One walker, always the same noise: the barrier is HEIGHT and the wells equally deep, to within two errors."""
    run = start(tmp_path, lammps_program, walkers=1, time_ps=480.0)
    run.run()
    assert run.static_from_ps == 240.0
    _, barrier = profile_of(run)
    assert abs(barrier.forward - HEIGHT) < 2 * barrier.forward_error
    assert abs(barrier.reaction) < 2 * barrier.reaction_error
    assert barrier.forward_error < 0.1 * HEIGHT


def test_walkers_share_their_hills(tmp_path, lammps_program):
    """Two walkers: which reads the other's hills when is up to the machine, so no two runs are alike."""
    run = start(tmp_path, lammps_program, time_ps=240.0)
    run.run()
    assert find_columns(tmp_path / "well.dat") == find_columns(
        run.folder / "walker_1" / "plumed.dat"
    )
    profile, barrier = profile_of(run)
    assert abs(barrier.forward - HEIGHT) < 0.15 * HEIGHT
    assert abs(barrier.reaction) < 0.15 * HEIGHT
    assert 0.0 < barrier.forward_error < 0.15 * HEIGHT
    assert len(run.hills) == 2
    added = [read_colvar(path)["time"] for path in run.hills]
    assert all(times.max() <= 120.0 for times in added)  # then the bias stays as it is
    summed = summed_hills(run.hills, profile.variable, profile.grid, TEMPERATURE, tmp_path)
    between = (profile.grid > 3.8) & (profile.grid < 6.2)
    difference = (summed - profile.free_energy)[between]
    assert np.ptp(difference) < 0.3 * HEIGHT  # hills of 0.01 eV were still being added


def test_errors_from_blocks_are_the_scatter_of_repeated_runs():
    """Overdamped particles in the double well under a static bias: 60 runs, each with its own error."""
    generator = np.random.default_rng(8)
    n_runs, n_steps, stride, step = 60, 60_000, 10, 0.1  # step: times the mobility, Å²/eV
    x = np.full(n_runs, CENTRE - HALF_WIDTH)
    paths = []
    for k in range(n_steps):
        u = (x - CENTRE) / HALF_WIDTH
        force = -0.2 * HEIGHT * 4 * u * (u**2 - 1) / HALF_WIDTH  # 0.8 of it is biased away
        x = x + step * force + np.sqrt(2 * step * KT) * generator.normal(size=n_runs)
        if k % stride == 0:
            paths.append(x.copy())
    values = np.array(paths).T
    barriers = []
    for one in values:
        samples = Samples(np.arange(len(one)), one, -0.8 * double_well(one))
        profile = reweighted_profile([samples], "x", TEMPERATURE, n_bins=40, discard=0.1)
        barriers.append(find_barrier(profile, (3.5, 4.5), (5.5, 6.5)))
    scatter = np.std([one.forward for one in barriers])
    stated = np.sqrt(np.mean([one.forward_error**2 for one in barriers]))
    print(scatter, stated, np.mean([one.forward for one in barriers]))
    assert 0.7 < scatter / stated < 1.4
    assert np.mean([one.forward for one in barriers]) == pytest.approx(HEIGHT, abs=stated)


def test_the_command_runs_what_python_runs(tmp_path, lammps_program):
    whole = start(tmp_path, lammps_program, walkers=1, time_ps=40.0)
    whole.run()
    particle().write(tmp_path / "particle.extxyz")
    (tmp_path / "free.in").write_text("pair_style zero 3.0\npair_coeff * *\n")
    words = f"--temperature {TEMPERATURE} --timestep-fs 4 --dump-ps 20 --seed 3 --walkers 1 --pieces 2 --time-ps 40"
    files = ["--plumed", str(tmp_path / "well.dat"), "--force-field", str(tmp_path / "free.in")]
    command = ["barrier", str(tmp_path / "particle.extxyz"), *files, "--elements", "Na"]
    main([*command, *words.split(), "--folder", str(tmp_path / "by_command")])
    made = BarrierRun(tmp_path / "by_command")
    assert made.state["dynamics"] == whole.state["dynamics"]
    assert [len(path.read_text().splitlines()) for path in made.colvars] == [
        len(path.read_text().splitlines()) for path in whole.colvars
    ]


def test_torn_piece_is_done_again(tmp_path, lammps_program, capsys):
    """Files that a killed piece left longer are cut: the end is that of an uninterrupted run."""
    whole = start(tmp_path, lammps_program, walkers=1, time_ps=8.0)
    whole.run()
    expected = [path.read_text() for path in (*whole.colvars, *whole.hills)]
    other = tmp_path / "other"
    other.mkdir()
    cut = start(other, lammps_program, walkers=1, time_ps=8.0)

    class Killed(Exception):
        pass

    def kill(done: int, pieces: int) -> None:
        raise Killed

    with pytest.raises(Killed):
        cut.run(kill)
    for path in (*cut.colvars, *cut.hills):
        with path.open("a") as file:
            file.write(" 99.0 1.0 half a li")
    for option, message in (
        (["--walkers", "3"], "--walkers: a resumed run keeps its settings, wanted 1"),
        (["--seed", "9"], "--seed: a resumed run keeps its settings, wanted 3"),
    ):
        assert main(["barrier", "--resume", "--folder", str(other / "run"), *option]) == 2
        assert message in capsys.readouterr().err
    resumed = BarrierRun(other / "run")
    resumed.run()
    assert [path.read_text() for path in (*resumed.colvars, *resumed.hills)] == expected


@pytest.fixture
def files(tmp_path, monkeypatch) -> list[str]:
    """A particle, its PLUMED file at 450 K and its forces; returns the words of a short run with them."""
    monkeypatch.chdir(tmp_path)
    particle().write("particle.extxyz")
    Path("well.dat").write_text(PLUMED.replace("TEMP=300.0", "TEMP=450"))
    Path("free.in").write_text(FREE.commands)
    words = "--plumed well.dat --force-field free.in --elements Na --timestep-fs 4 --time-ps 4 --pieces 2"
    return ["barrier", "particle.extxyz", *words.split(), "--folder", "run"]


def state_of_new_run(command: list[str]) -> dict:
    """Whether so short a run gives a profile is of no interest here."""
    main(command)
    return BarrierRun("run").state


def test_the_temperature_is_that_of_the_bias(files, lammps_program):
    assert state_of_new_run(files)["dynamics"]["temperature"] == 450.0
    bath = Path("run/walker_0/in.lammps").read_text()
    assert "langevin 450.0 450.0" in bath


@pytest.mark.parametrize("given", [["--temperature", "300"], ["--temperature", "450.5"]])
def test_another_temperature_than_that_of_the_bias_is_refused(given, files, lammps_program, capsys):
    assert main([*files, *given]) == 2
    message = f"must be that of the bias, 450 K (TEMP in well.dat), got {given[1]} K"
    assert message in capsys.readouterr().err
    assert not Path("run").exists()


def test_finished_files_have_the_temperature_of_their_bias(files, capsys):
    generator = np.random.default_rng(3)
    rows = "".join(f"{k} {x:.6f} 0.0 0.0\n" for k, x in enumerate(generator.normal(5, 0.5, 2000)))
    Path("COLVAR").write_text("#! FIELDS time place.x hills.rbias lid.bias\n" + rows)
    command = ["barrier", "--colvar", "COLVAR", "--plumed", "well.dat", "--folder", "out"]
    for given, temperature in (([], 450.0), (["--temperature", "450"], 450.0)):
        main([*command, *given])  # one well has no barrier, its profile is written before that
        samples = [read_samples(Path("COLVAR"), "place.x", "hills.rbias")]
        wanted = reweighted_profile(samples, "place.x", temperature, discard=0.2).free_energy
        np.testing.assert_allclose(np.loadtxt("out/free_energy.dat")[:, 1], wanted, atol=1e-7)
    capsys.readouterr()
    assert main([*command, "--temperature", "300"]) == 2
    assert "must be that of the bias, 450 K" in capsys.readouterr().err


def test_two_temperatures_of_a_bias_are_refused(files, tmp_path):
    Path("well.dat").write_text(PLUMED.replace("ARG=place.x AT", "TEMP=500 ARG=place.x AT"))
    with pytest.raises(BarrierError, match=r"got TEMP=300.0 in line 5, TEMP=500 in line 8"):
        bias_temperature("well.dat")
    Path("well.dat").write_text(PLUMED.replace("TEMP=300.0", "TEMP=warm"))
    with pytest.raises(BarrierError, match=r"wanted a number of K, got TEMP=warm in line 5"):
        bias_temperature("well.dat")
    shipped = Path(__file__).parents[2] / "plumed_inputs"
    assert bias_temperature(shipped / "ec_ring_opening.dat") == 450.0
    assert bias_temperature(shipped / "walls.dat") is None


def test_a_resumed_run_keeps_its_settings(files, lammps_program, capsys):
    """Other values are named with those of the run, also a default that the run does not have; nothing is written."""
    state_of_new_run([*files, "--seed", "3", "--frozen", "indices=1", "--production", "0"])
    Path("other.dat").write_text(Path("well.dat").read_text().replace("HEIGHT=0.01", "HEIGHT=0.02"))
    Path("other.in").write_text("pair_style zero 4.0\npair_coeff * *\n")
    random_model("Na", seed=1).write("nep.txt")
    texts = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    capsys.readouterr()
    for given, message in {
        "--temperature 300": "--temperature: .* wanted 450.0 as in run/barrier.json, got 300.0",
        "--seed 1": "--seed: .* wanted 3 .* got 1",
        "--timestep-fs 0.5": "--timestep-fs: .* wanted 4.0 .* got 0.5",
        "--walkers 2": "--walkers: .* wanted 1 .* got 2",
        "--pieces 10": "--pieces: .* wanted 2 .* got 10",
        "--production 0.5": "--production: .* wanted 0.0 .* got 0.5",
        "--frozen none": "--frozen: .* wanted indices=1 .* got none",
        "--plumed other.dat": "--plumed: .* wanted .*HEIGHT=0.01 .*walker_0/plumed.dat, got .*=0.02",
        "--force-field other.in": "--force-field: .* wanted pair_style zero 3.0; .* got .*zero 4.0",
        "--model nep.txt": "--model: .* wanted pair_style zero 3.0; .* got pair_style qnep; .*nep.txt",
        "--elements C": "--elements: .* wanted Na as in run/barrier.json, got C",
        "other.extxyz": "structure: .* wanted .*/particle.extxyz .* got .*/other.extxyz",
        "--time-ps 3": "--time-ps: the run in run has 4 ps, more are possible, got 3",
        "--time-ps nan": "--time-ps: .* got nan",
        "--colvar COLVAR --plumed well.dat": "--colvar .* leave out --resume",
        "--hills HILLS": "--hills: wanted with --colvar",
    }.items():
        assert main(["barrier", "--resume", "--folder", "run", *given.split()]) == 2
        assert re.search(message, capsys.readouterr().err), given
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == texts
    main(
        [*files, "--resume", "--lammps", "lmp", "--frozen", "indices=1"]
    )  # the same may be said again
    assert "a resumed run keeps" not in capsys.readouterr().err


@pytest.mark.parametrize(("production", "has_more_hills"), [("0.5", False), ("0", True)])
def test_a_longer_time_extends_a_finished_run(production, has_more_hills, files, lammps_program):
    """From 4 to 7 ps in pieces of 2 ps: two more, to 8 ps; hills only where the whole run adds them."""
    hills = Path("run/walker_0/HILLS")
    start = state_of_new_run([*files, "--production", production])
    times, n_hills = read_colvar("run/walker_0/COLVAR")["time"], len(read_colvar(hills)["time"])
    for _ in range(2):  # said again it changes nothing
        main([*files, "--resume", "--production", production, "--time-ps", "7"])
        state = BarrierRun("run").state
        assert (start["done"], state["done"], state["steps"]) == (2, 4, start["steps"])
        longer = read_colvar("run/walker_0/COLVAR")["time"]
        assert (times[-1], longer[-1]) == (pytest.approx(4.0), pytest.approx(8.0))
        assert len(longer) == 2 * len(times) - 1
        assert (len(read_colvar(hills)["time"]) > n_hills) == has_more_hills
        assert BarrierRun("run").static_from_ps == (0.0 if has_more_hills else 2.0)


def test_a_model_of_the_free_energy_has_the_temperature_of_the_bias(files, lammps_program):
    random_model("Na", has_temperature=True, energy_scale=0.01, seed=1).write("nep.txt")
    words = " ".join(files).replace("--force-field free.in", "--model nep.txt").split()
    state_of_new_run(words)
    text = Path("run/walker_0/in.lammps").read_text()
    assert "pair_style qnep temperature 450\n" in text
    assert BarrierRun("run").state["done"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--time-ps -4", "time_ps must be positive, got -4.0"),
        ("--time-ps inf", "time_ps must be positive, got inf"),
        ("--timestep-fs 0", "timestep_fs must be positive, got 0.0"),
        ("--temperature -5", "temperature must be positive, got -5.0"),
        ("--seed -1", "seed must be 0 or more, got -1"),
        ("--walkers 0", "at least one walker and one piece, got 0 and 2"),
        ("--blocks 1", "--blocks: wanted 2 or more, got 1"),
        ("--discard 1", "--discard: wanted a part from 0 to below 1, got 1.0"),
        ("--product 3 2", "--product: wanted LOW below HIGH, got 3 2"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(words, message, files, lammps_program, capsys):
    assert main([*files, *words.split()]) == 2
    assert message in capsys.readouterr().err
    assert not Path("run").exists()


def frame_steps(run: BarrierRun) -> list[int]:
    """Steps of the frames of the first walker's trajectory."""
    lines = (run.colvars[0].parent / "trajectory.dump").read_text().splitlines()
    return [
        int(step) for title, step in itertools.pairwise(lines) if title.startswith("ITEM: TIMESTEP")
    ]


def test_frames_and_logs_of_all_pieces_stay(tmp_path, lammps_program):
    """Four pieces of 2 ps with a frame every ps (250 steps), killed after two: each frame once, and four logs."""
    run = start(tmp_path, lammps_program, dump_ps=1.0, walkers=2, pieces=4, time_ps=8.0)

    def kill(done: int, pieces: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.run(kill)
    trajectory = run.colvars[0].parent / "trajectory.dump"
    half = trajectory.read_text()
    assert frame_steps(run) == [0, 250, 500, 750, 1000]
    with trajectory.open("a") as file:  # what the third piece wrote before it was killed
        file.write("ITEM: TIMESTEP\n1250\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOU")
    resumed = BarrierRun(run.folder)
    resumed.run()
    assert frame_steps(resumed) == list(range(0, 2001, 250))
    assert trajectory.read_text().startswith(half)
    for walker in ("walker_0", "walker_1"):
        logs = sorted(path.name for path in (run.folder / walker).glob("*.lammps.log"))
        assert logs == [f"piece_{k:03d}.lammps.log" for k in range(4)]


def test_lammps_that_outlives_its_parent_writes_elsewhere(tmp_path, lammps_program):
    """A file that is cut is a new one: who has the old one open does not write into it."""
    run = start(tmp_path, lammps_program, walkers=1, time_ps=4.0)
    run.run()
    expected = run.colvars[0].read_text()
    with run.colvars[0].open("a") as orphan:
        orphan.write(" 98.0 1.0 of a piece that\n")
        orphan.flush()
        run._undo_torn_piece()
        orphan.write(" 99.0 1.0 was killed\n")
    assert run.colvars[0].read_text() == expected


@pytest.mark.parametrize(
    ("units", "found"),
    [
        ("", "LENGTH=nm ENERGY=kj/mol TIME=ps"),
        ("# UNITS LENGTH=A ENERGY=eV TIME=ps\n", "LENGTH=nm ENERGY=kj/mol TIME=ps"),
        ("UNITS LENGTH=A\n", "LENGTH=A ENERGY=kj/mol TIME=ps"),
        ("UNITS ENERGY=eV TIME=ps\n", "LENGTH=nm ENERGY=eV TIME=ps"),
        ("UNITS LENGTH=A ENERGY=eV TIME=fs\n", "LENGTH=A ENERGY=eV TIME=fs"),
        ("UNITS ...\n LENGTH=A # Å\n ENERGY=kcal/mol\n...\n", "LENGTH=A ENERGY=kcal/mol TIME=ps"),
    ],
)
def test_other_units_are_refused(tmp_path, units, found):
    """A profile in kJ/mol would be given out as one in eV."""
    path = tmp_path / "well.dat"
    rest = PLUMED.partition("\n")[2]
    path.write_text(units + rest)
    with pytest.raises(
        BarrierError, match=f"needs 'UNITS LENGTH=A ENERGY=eV TIME=ps', got {found}"
    ):
        find_columns(path)
    path.write_text("UNITS ...\n  LENGTH=A # Å\n  ENERGY=eV\n... UNITS\n" + rest)
    assert find_columns(path).bias == "hills.rbias"


@pytest.mark.parametrize("clock", [False, True], ids=["one walker", "several walkers"])
@pytest.mark.parametrize("n_variables", [1, 2])
def test_summed_hills_of_one_and_two_variables(tmp_path, n_variables, clock):
    """Against the closed form: hills in d and e, the profile along d with e integrated out."""
    pytest.importorskip("plumed", reason="no PLUMED kernel: pip install --no-deps hillclimber")
    centres = [(1.0, 2.0, 0.5), (1.6, 2.3, 0.3), (2.2, 1.8, 0.45)]  # d, e, height in eV
    names, width = ["d", "e"][:n_variables], 0.2
    fields = ["time", *names, *(f"sigma_{name}" for name in names), "height", "biasf"]
    rows = [
        [k + 1.0, *places[:n_variables], *[width] * n_variables, height, -1.0]
        for k, (*places, height) in enumerate(centres)
    ]
    if clock:
        fields.append("clock")
        rows = [[*row, 12345.0] for row in rows]
    header = [
        f"#! FIELDS {' '.join(fields)}",
        "#! SET multivariate false",
        "#! SET kerneltype gaussian",
    ]
    lines = [" ".join(f"{number:.8f}" for number in row) for row in rows]
    (tmp_path / "HILLS").write_text("\n".join([*header, *lines, ""]))
    assert hill_variables(tmp_path / "HILLS") == names
    grid = np.linspace(0.9, 2.3, 29)
    free_energy = summed_hills([tmp_path / "HILLS"], "d", grid, TEMPERATURE, tmp_path)
    e = np.linspace(0.8, 3.4, 1301)
    bias = sum(
        height
        * np.exp(-((grid[:, None] - d) ** 2) / (2 * width**2))
        * (np.exp(-((e[None] - at) ** 2) / (2 * width**2)) if n_variables == 2 else 1.0)
        for d, at, height in centres
    )
    exact = -KT * np.log(np.exp(bias / KT).sum(axis=1))
    # PLUMED cuts its Gaussians off at 2.5 widths and sums the projection over a coarse grid.
    assert np.abs(free_energy - (exact - exact.min())).max() < 0.01


def test_refusals(tmp_path, lammps_program):
    start(tmp_path, lammps_program)
    with pytest.raises(FileExistsError, match="--resume"):
        start(tmp_path, lammps_program)
    with pytest.raises(BarrierError, match="no barrier run"):
        BarrierRun(tmp_path / "nowhere")
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(PlumedError, match="line 2:"):
        start(other, lammps_program, plumed=PLUMED.replace("ATOM=1", "ATOM=7"))
    with pytest.raises(
        BarrierError, match=r"production must be a part of the run, 0 to 1, got 1\.0"
    ):
        start(other, lammps_program, production=1.0)
    with pytest.raises(BarrierError, match="needs a labelled METAD"):
        start(other, lammps_program, plumed="d: DISTANCE ATOMS=1,2\n")
    with pytest.raises(BarrierError, match=r"must hold place\.x"):
        start(other, lammps_program, plumed=PLUMED.replace("PRINT ARG=place.x,", "PRINT ARG="))
    assert not (other / "run").exists()


def test_command_analyses_finished_files(tmp_path, capsys):
    """COLVAR made here, without LAMMPS: prints numbers in both units, writes table and figure."""
    generator = np.random.default_rng(2)
    grid = np.linspace(3.3, 6.7, 400)
    values = generator.choice(
        grid, 30_000, p=_probabilities(double_well(grid) / 2)
    )  # half of it is biased away
    bias = -double_well(values) / 2
    rows = "".join(
        f"{k * 0.1:.1f} {x:.6f} {b:.6f}\n"
        for k, (x, b) in enumerate(zip(values, bias, strict=True))
    )
    (tmp_path / "COLVAR").write_text("#! FIELDS time place.x hills.bias\n" + rows)
    plumed = "hills: METAD ARG=place.x SIGMA=0.1 HEIGHT=0.1 PACE=1\nPRINT ARG=place.x,hills.bias FILE=COLVAR\n"
    (tmp_path / "made.dat").write_text("UNITS LENGTH=A ENERGY=eV TIME=ps\n" + plumed)
    command = [
        "barrier",
        "--colvar",
        str(tmp_path / "COLVAR"),
        "--plumed",
        str(tmp_path / "made.dat"),
    ]
    assert main([*command, "--folder", str(tmp_path / "out"), "--temperature", "300"]) == 0
    printed = capsys.readouterr().out
    assert "kJ/mol" in printed
    assert float(printed.split("barrier")[1].split()[0]) == pytest.approx(HEIGHT, rel=0.1)
    assert np.loadtxt(tmp_path / "out" / "free_energy.dat").shape == (100, 3)
    assert (tmp_path / "out" / "free_energy.png").stat().st_size > 5000


def test_command_tells_of_a_gap_and_keeps_the_profile(tmp_path, capsys):
    run = two_wells_with_nothing_between()
    rows = "".join(f"{k} {x:.6f} 0.0\n" for k, x in zip(run.time, run.values, strict=True))
    (tmp_path / "COLVAR").write_text("#! FIELDS time place.x hills.bias\n" + rows)
    (tmp_path / "made.dat").write_text(
        "UNITS LENGTH=A ENERGY=eV TIME=ps\nhills: METAD ARG=place.x SIGMA=0.1 HEIGHT=0.1 PACE=1\n"
        "PRINT ARG=place.x,hills.bias FILE=COLVAR\n"
    )
    folder = tmp_path / "out"
    files = ["--colvar", str(tmp_path / "COLVAR"), "--plumed", str(tmp_path / "made.dat")]
    ranges = ["--product", "5.5", "6.5"]
    assert main(["barrier", *files, *ranges, "--folder", str(folder)]) == 2
    captured = capsys.readouterr()
    assert "place.x was never visited between" in captured.err
    assert "barrier " not in captured.out
    assert np.isnan(np.loadtxt(folder / "free_energy.dat")[50, 1])
