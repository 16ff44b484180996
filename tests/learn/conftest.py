"""A whole loop in miniature: four atoms of aluminium, ASE's EMT as the reference, a NEP of a hundred parameters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write

CONFIGURATION = """\
policy = "{policy}"
structure = "start.extxyz"
output = "run"
seed = 3

[dynamics]
temperature = 800.0
timestep_fs = 2.0
friction = 0.02
check_interval = 5
write_interval = 20

[exploration]
{exploration}

[start]
n_perturbed = 5
amplitude = 0.05
{start}

[reference]
backend = "ase.calculators.emt:EMT"
{reference}

[gates]
tolerated_error = 0.1
{gates}

[options]
{options}

[model]
elements = ["Al"]
cutoff = [4.0, 3.5]
n_max = [2, 2]
basis_size = [3, 3]
l_max = [2]
neurons = 4

[training]
members = {members}
epochs = 10
batch_size = 4
warm_up_steps = 5

[trainer]
fine_tune_epochs = 5
"""

POLICY_TABLES = {
    "aofl": {
        "gates": "threshold = [0.03, 0.01, 0.3]\nsimilarity = 0.05",
        "options": "n_steps = 25\nretrain_after = 3\nretrain_error = 100.0",
        "members": 2,
    },
    "haml": {
        "gates": "threshold = [1.2, 1.05, 4.0]\nsimilarity = 0.05",
        "options": "n_steps = 16\nwindow = 6\nkeep_every = 3",
        "members": 1,
    },
    "interface-reactor": {
        "gates": 'uncertainty = "grade"\nthreshold = [1.2, 1.1, 4.0]\nsimilarity = 0.05',
        "options": "n_steps = 15\nfirst_steps = 10\nrewind_steps = 5\nwindow = 4\nkeep_every = 2",
        "members": 1,
    },
}


@pytest.fixture(autouse=True)
def one_thread():
    pytest.importorskip(
        "torch", reason="learning needs the extra `train` (PyTorch)"
    ).set_num_threads(1)


def write_configuration(folder: Path, policy: str, **tables: str) -> Path:
    """Write a configuration file and its structure."""
    folder.mkdir()
    atoms = bulk("Al", cubic=True, a=4.05)
    atoms.rattle(0.02, seed=1)
    write(folder / "start.extxyz", atoms)
    values = {"start": "", "reference": "", "exploration": "", **POLICY_TABLES[policy], **tables}
    path = folder / "learn.toml"
    path.write_text(CONFIGURATION.format(policy=policy, **values))
    return path


@pytest.fixture
def make_configuration(tmp_path: Path) -> Callable[..., Path]:
    """Return a maker of configuration files, each in a folder of its own."""
    return lambda policy, name="a", **tables: write_configuration(tmp_path / name, policy, **tables)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return the configuration of a run of a policy that was made once for all tests, which only read it."""
    pytest.importorskip(
        "torch", reason="learning needs the extra `train` (PyTorch)"
    ).set_num_threads(1)
    from qnep.learn import make_learner, read_configuration

    done: dict[str, Path] = {}

    def run(policy: str, exploration: str = "") -> Path:
        name = f"{policy} {exploration}"
        if name not in done:
            folder = tmp_path_factory.mktemp("runs") / policy
            done[name] = write_configuration(folder, policy, exploration=exploration)
            make_learner(read_configuration(done[name]), resume=False).run()
        return done[name]

    return run
