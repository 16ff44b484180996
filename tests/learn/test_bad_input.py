"""What goes wrong around the loop: it says so, stops, and goes on afterwards with nothing lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.io import read, write

from qnep import random_model
from qnep.cli import main
from qnep.dft.pool import Pool
from qnep.learn import State, make_learner, read_configuration
from qnep.learn.state import read_decisions

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


def leave_out_model(path: Path) -> None:
    """Take what [model] says out of a configuration."""
    text = path.read_text()
    path.write_text(text[: text.index("elements = ")] + text[text.index("[training]") :])


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


def test_a_frame_over_the_limit_of_a_force(configuration, capsys):
    """It is an alarm; where every way leads over the limit, the run stops, says so, and goes on with another limit."""
    path = configuration(
        reference="force = 0.4",
        gates='uncertainty = "grade"\nthreshold = [1e-3, 1e-3, 1e-3]\nsimilarity = 1e-9\nenergy_jump = 1e9',
        options="n_steps = 10\nmax_returns = 2",
    )
    assert main(["learn", str(path)]) == 1
    assert "2 returns from step 5 and still: ! reference" in capsys.readouterr().out
    made = list(read_decisions(path.parent / "run"))
    assert [d["action"] for d in made] == ["return", "train", "return", "stop"]
    for decision in (made[0], made[2], made[3]):
        notes = [finding["note"] for finding in decision["findings"]]
        assert any("eV/Å, limit 0.4" in note for note in notes) and decision["failed_at"] == 5
    assert made[0]["step"] == 0
    assert main(["learn", str(path), "--explain"]) == 0
    text = capsys.readouterr().out
    assert "return - alarm: back to the last sound step" in text and "found at step 5" in text
    assert "stop - 2 returns" in text
    path.write_text(path.read_text().replace("force = 0.4", "force = 40.0"))
    assert main(["learn", str(path), "--resume"]) == 0
    assert "stop" not in [d["action"] for d in read_decisions(path.parent / "run")]


ALWAYS_ASK = (
    'uncertainty = "grade"\nthreshold = [1e-3, 1e-3, 1e-3]\nsimilarity = 1e-9\nenergy_jump = 1e9\n'
    "force_ceiling = 1e9"
)


@pytest.mark.parametrize(
    ("policy", "n_cursed", "first_actions"),
    [
        # The driven frame does not converge: the last sound one is labelled instead, and the run goes on from there.
        ("aofl", 1, ["return", "train"]),
        ("haml", 1, ["window"]),
        # Nor does the frame that it goes back to.
        ("aofl", 2, ["return", "label"]),
        ("haml", 2, ["return", "window"]),
    ],
)
def test_a_frame_that_never_converges_is_an_alarm(
    make_configuration, finished, monkeypatch, policy, n_cursed, first_actions
):
    """The run passes it by, where it would have stopped at it at every --resume."""
    options = {
        "aofl": "n_steps = 10",
        "haml": "n_steps = 10\nwindow = 2\nkeep_every = 1",
    }
    folder = finished("haml").parent / "run"
    path = make_configuration(
        policy,
        start=f'models = ["{folder / State.load(folder).models[0]}"]',
        gates=ALWAYS_ASK,
        options=options[policy],
        members=1,
        reference="settings = {options = {curse = 'CURSE', n_cursed = N}}",
    )
    text = path.read_text().replace("ase.calculators.emt:EMT", "moody:cursed_emt")
    text = text.replace("CURSE", str(path.parent / "curse")).replace("N}", f"{n_cursed}}}")
    path.write_text(text)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    assert main(["learn", str(path)]) == 0
    made = list(read_decisions(path.parent / "run"))
    assert [d["action"] for d in made][: len(first_actions)] == first_actions
    (note,) = [f["note"] for f in made[0]["findings"] if f["gate"] == "reference"]
    assert "NotConverged" in note and "no convergence after 100 iterations" in note
    assert ("not converge either" in made[0]["why"]) == (n_cursed == 2)
    assert State.load(path.parent / "run").is_done and n_labels(path) > 0


def test_a_reference_that_converges_nowhere_stops_the_run(configuration, monkeypatch, capsys):
    """It is not the frames, then; once the reference is well again the run ends."""
    path = configuration(gates=ALWAYS_ASK, reference="settings = {options = {refuse = 'REFUSE'}}")
    refuse = path.parent / "refuse"
    text = path.read_text().replace("ase.calculators.emt:EMT", "moody:moody_emt")
    path.write_text(text.replace("REFUSE", str(refuse)))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    refuse.write_text("diverge")
    for command in (["learn", str(path)], ["learn", str(path), "--resume"]):
        assert main(command) == 1
        out = capsys.readouterr().out
        assert "converged for none of 5 frames in a row" in out and "--resume tries again" in out
        assert n_labels(path) == 0
    refuse.unlink()
    assert main(["learn", str(path), "--resume"]) == 0
    assert State.load(path.parent / "run").is_done and n_labels(path) > 0


def test_structures_are_labelled_beside_given_models(finished, configuration):
    """The further structure is labelled and trained on at once, the start structure is not."""
    folder = finished("haml").parent / "run"
    model = folder / State.load(folder).models[0]
    path = configuration(start=f'models = ["{model}"]\nstructures = ["other.extxyz"]')
    other = read(path.parent / "start.extxyz")
    other.rattle(0.05, seed=5)
    write(path.parent / "other.extxyz", other)
    state = make_learner(read_configuration(path), resume=False).run()
    made = [decision["action"] for decision in read_decisions(path.parent / "run")]
    assert state.is_done and made[:2] == ["start", "train"] and state.training[0] == 1
    first = next(Pool(path.parent / "run" / "pool.db").frames())
    np.testing.assert_allclose(first.positions, other.positions, atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new"),
    [("n_max = [2, 2]", "n_max = [3, 3]"), ('elements = ["Al"]', 'elements = ["Al", "Au"]')],
)
def test_settings_that_contradict_given_models(configuration, capsys, old, new):
    path = configuration()
    path.write_text(path.read_text().replace(old, new))
    assert main(["learn", str(path)]) == 2
    assert f"[model]: {old.split()[0]} must be that of" in capsys.readouterr().err


def test_given_models_of_two_kinds(configuration, tmp_path, capsys):
    names = []
    for cutoff in (4.0, 5.0):
        names.append(str(tmp_path / f"{cutoff}.txt"))
        random_model("Al", radial_cutoff=cutoff, seed=1).write(names[-1])
    path = configuration(start=f"models = {names}")
    leave_out_model(path)
    assert main(["learn", str(path)]) == 2
    assert "5.0.txt is of another kind than" in capsys.readouterr().err


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


def test_a_model_of_other_elements_than_the_structure(configuration, tmp_path, capsys):
    model = tmp_path / "sodium.txt"
    random_model("Na", radial_cutoff=4.0, seed=1).write(str(model))
    path = configuration(start=f'models = ["{model}"]')
    leave_out_model(path)
    assert main(["learn", str(path)]) == 2
    error = capsys.readouterr().err
    assert "the model has the elements Na" in error and "start.extxyz holds Al too" in error
