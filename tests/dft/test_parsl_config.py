"""Parsl as the executor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ase.io import read, write

pytest.importorskip("parsl")

LOCAL = """
from qnep.dft.parsl_config import local_config
config = local_config(2, run_dir={run_dir!r})
"""


def test_labels_through_the_local_provider(tmp_path, numbered_pairs):
    """Six labels by two workers that Parsl starts; in a process of its own, since Parsl keeps threads."""
    write(tmp_path / "frames.extxyz", numbered_pairs(6))
    (tmp_path / "cluster.py").write_text(LOCAL.format(run_dir=str(tmp_path / "parsl")))
    command = "label frames.extxyz --backend ase.calculators.lj:LennardJones --jobs 2"
    options = "--parsl cluster.py:config --export labelled.extxyz"
    search_path = os.pathsep.join(str(Path(folder).resolve()) for folder in sys.path)
    subprocess.run(
        [sys.executable, "-m", "qnep.cli", *command.split(), *options.split()],
        cwd=tmp_path,
        check=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": search_path},
    )
    assert len(read(tmp_path / "labelled.extxyz", ":")) == 6
    assert list((tmp_path / "parsl").rglob("*manager*"))  # Parsl's own workers did it


# Parsl leaves a socket open while it lists the addresses of this machine.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_cluster_configurations_ask_for_what_was_asked(tmp_path):
    from qnep.dft.parsl_config import pbs_config, slurm_config

    slurm = slurm_config(
        "long", "chem", 4, n_nodes=2, commands="module load gpaw", run_dir=tmp_path
    )
    (executor,) = slurm.executors
    assert (executor.provider.partition, executor.provider.nodes_per_block) == ("long", 2)
    assert executor.provider.worker_init.strip() == "module load gpaw"
    assert executor.max_workers_per_node == 4
    (executor,) = pbs_config("q", "chem", 4, n_cores_per_node=64, run_dir=tmp_path).executors
    assert executor.provider.cpus_per_node == 64


@pytest.mark.parametrize("n_workers", [0, -2])
def test_a_node_has_workers(tmp_path, n_workers):
    from qnep.dft.parsl_config import local_config

    with pytest.raises(ValueError, match=f"workers of a node must be 1 or more, got {n_workers}"):
        local_config(n_workers, run_dir=tmp_path)
