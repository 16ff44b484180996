"""What goes wrong around the loop: it says so, stops, and goes on afterwards with nothing lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ase.io import read, write

from qnep import random_model
from qnep.cli import main
from qnep.dft.pool import Pool
from qnep.learn import State, make_learner, read_configuration

OPEN_GATES = (
    'uncertainty = "grade"\nthreshold = [1e9, 1e9, 1e9]\nsimilarity = 1e9\nenergy_jump = 1e9\n'
    "force_ceiling = 1e9"
)


@pytest.fixture
def configuration(finished, make_configuration):
    """Return the maker of a run of ten steps with the models of another run: one label, no training."""

    def make(**tables: str) -> Path:
        folder = finished("haml").parent / "run"
        values = {
            "start": f'models = ["{folder / State.load(folder).models[0]}"]',
            "gates": OPEN_GATES,
            "options": "n_steps = 10",
            "members": 1,
            **tables,
        }
        return make_configuration("aofl", **values)

    return make


def n_labels(path: Path) -> int:
    return len(list(Pool(path.parent / "run" / "pool.db").frames()))


@pytest.mark.parametrize(
    ("mood", "message"),
    [
        ("refuse", "not in the mood"),
        ("hang", "no result after 5 s, killed"),
        ("nonsense", "energy or forces are not finite"),
    ],
)
def test_a_reference_that_misbehaves(configuration, monkeypatch, capsys, mood, message):
    """The run stops and says why; once the reference is well again it ends."""
    path = configuration(reference='settings = {options = {refuse = "refuse"}}')
    refuse = path.parent / "refuse"
    text = path.read_text().replace("ase.calculators.emt:EMT", "moody:moody_emt")
    text = text.replace('"refuse"', f'"{refuse}"')
    limit = 5 if mood == "hang" else 3600
    path.write_text(text.replace("[reference]", f"[reference]\ntime_limit_s = {limit}"))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    refuse.write_text(mood)
    assert main(["learn", str(path)]) == 1
    out = capsys.readouterr().out
    assert message in out and "--resume tries again" in out
    assert n_labels(path) == 0
    refuse.unlink()
    path.write_text(path.read_text().replace("time_limit_s = 5", "time_limit_s = 3600"))
    assert main(["learn", str(path), "--resume"]) == 0
    assert State.load(path.parent / "run").is_done and n_labels(path) == 1


@pytest.mark.parametrize("file", ["decisions.jsonl", "trajectory.extxyz"])
@pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="needs /dev/full, the full disk of Linux"
)
def test_a_full_disk_under_the_files_of_the_run(configuration, capsys, file):
    path = configuration()
    path.write_text(path.read_text().replace("write_interval = 20", "write_interval = 5"))
    (path.parent / "run").mkdir()
    (path.parent / "run" / file).symlink_to("/dev/full")
    assert main(["learn", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("qnep: error:") and "No space left on device" in error
    (path.parent / "run" / file).unlink()
    assert main(["learn", str(path), "--resume"]) == 0
    assert State.load(path.parent / "run").is_done and n_labels(path) == 1


def test_a_full_disk_under_the_pool(configuration):
    """A limit on the size of files, in a process of its own, stands for the disk; an empty pool is larger already."""
    path = configuration()
    make_learner(read_configuration(path), resume=False).close()
    limit = 20_000
    assert (path.parent / "run" / "pool.db").stat().st_size > limit
    program = (
        "import resource, sys; from qnep.cli import main; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "learn", str(path), "--resume"]
    stopped = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert stopped.returncode == 2
    assert "cannot write" in stopped.stderr and "pool.db" in stopped.stderr, stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert main(["learn", str(path), "--resume"]) == 0
    assert State.load(path.parent / "run").is_done and n_labels(path) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("closest_pair = 0.0", "closest_pair must be positive, got 0"),
        ("closest_pair = 2.0", "closest_pair must be below 1.3, got 2"),
        ("temperature_excess = -1.0", "temperature_excess must be positive, got -1"),
        ("energy_jump = nan", "energy_jump must be positive, got nan"),
        ("bond_jump = -1", "bond_jump must be positive, got -1"),
        ("force_ceiling = inf", "force_ceiling must be positive, got inf"),
        ("tolerated_error = 0.0", "tolerated force error must be positive, got 0"),
        ("threshold = [0.1, 0.01, inf]", "0 < lower <= initial <= upper"),
        ("threshold = [nan, 0.01, 1.0]", "0 < lower <= initial <= upper"),
    ],
)
def test_thresholds_out_of_range(make_configuration, capsys, line, message):
    key = line.split(" =")[0]
    path = make_configuration("aofl", gates=f"{line}")
    text = path.read_text()
    if text.count(f"{key} =") > 1:  # the one of the tests goes
        path.write_text(text.replace("tolerated_error = 0.1\n", ""))
    assert main(["learn", str(path)]) == 2
    assert message in capsys.readouterr().err


def test_a_model_of_other_elements_than_structure_or_pool(configuration, tmp_path, capsys):
    model = tmp_path / "sodium.txt"
    random_model("Na", radial_cutoff=4.0, seed=1).write(str(model))
    path = configuration(start=f'models = ["{model}"]')
    assert main(["learn", str(path)]) == 2
    assert "the model knows Na, the structure holds Al too" in capsys.readouterr().err


def test_a_model_that_does_not_know_the_pool(configuration, capsys):
    """[model] has gold too, and so has the pool; the model that is given has aluminium only."""
    path = configuration()
    path.write_text(path.read_text().replace('elements = ["Al"]', 'elements = ["Al", "Au"]'))
    learner = make_learner(read_configuration(path), resume=False)
    gold = read(path.parent / "start.extxyz")
    gold.symbols[:] = "Au"
    write(path.parent / "gold.extxyz", gold)
    learner.reference.label(gold, "test", "test")
    learner.close()
    assert main(["learn", str(path), "--resume"]) == 2
    assert "the model knows Al, the pool holds Au too" in capsys.readouterr().err
