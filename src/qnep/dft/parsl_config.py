"""Parsl as the executor of labels: one configuration for this machine, and ones for SLURM and PBS.

Copy the one that fits, change account, partition and modules, and hand the result to
``Labeller(..., executor=ParslPoolExecutor(slurm_config(...)))`` or ``qnep label --parsl FILE.py:NAME``.
"""

from __future__ import annotations

import importlib.util
import sys
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from qnep._optional import require

PROGRAMS = Path(sys.executable).parent  # Parsl's own, also where the environment is not activated


def local_config(n_workers: int, run_dir: str | Path = "parsl") -> Any:
    """Return a `parsl.Config` whose workers run on this machine through Parsl's local provider."""
    require("parsl", "dft")
    from parsl.providers import LocalProvider

    provider = LocalProvider(
        worker_init=f'export PATH="{PROGRAMS}:$PATH"', init_blocks=1, min_blocks=1, max_blocks=1
    )
    return _config(provider, n_workers, run_dir, address="127.0.0.1")


def slurm_config(
    partition: str,
    account: str,
    n_workers_per_node: int,
    n_nodes: int = 1,
    walltime: str = "24:00:00",
    commands: str = "",
    run_dir: str | Path = "parsl",
) -> Any:
    """Return a `parsl.Config` that asks SLURM for nodes.

    Parameters
    ----------
    n_workers_per_node : labels at the same time on one node.
    commands : shell lines that load modules and the Python environment, run on each node first.
    """
    require("parsl", "dft")
    from parsl.launchers import SrunLauncher
    from parsl.providers import SlurmProvider

    provider = SlurmProvider(
        partition=partition,
        account=account,
        nodes_per_block=n_nodes,
        walltime=walltime,
        worker_init=commands,
        launcher=SrunLauncher(),
        init_blocks=1,
        max_blocks=1,
    )
    return _config(provider, n_workers_per_node, run_dir)


def pbs_config(
    queue: str,
    account: str,
    n_workers_per_node: int,
    n_cores_per_node: int,
    n_nodes: int = 1,
    walltime: str = "24:00:00",
    commands: str = "",
    run_dir: str | Path = "parsl",
) -> Any:
    """Return a `parsl.Config` that asks PBS Pro for nodes; parameters as of `slurm_config`."""
    require("parsl", "dft")
    from parsl.launchers import MpiExecLauncher
    from parsl.providers import PBSProProvider

    provider = PBSProProvider(
        queue=queue,
        account=account,
        nodes_per_block=n_nodes,
        cpus_per_node=n_cores_per_node,
        walltime=walltime,
        worker_init=commands,
        launcher=MpiExecLauncher(),
        init_blocks=1,
        max_blocks=1,
    )
    return _config(provider, n_workers_per_node, run_dir)


def load_executor(location: str) -> Executor:
    """Return the Parsl executor for a configuration "FILE.py:NAME", NAME being a `parsl.Config` in the file.

    Raises
    ------
    ValueError : no such file or name.
    """
    require("parsl", "dft")
    from parsl.concurrent import ParslPoolExecutor

    file, _, name = location.partition(":")
    if not Path(file).is_file() or not name:
        raise ValueError(
            f"a Parsl configuration is given as FILE.py:NAME, got {location!r}"
            + ("" if Path(file).is_file() else f" (there is no file {file})")
        )
    specification = importlib.util.spec_from_file_location("parsl_configuration", file)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    if not hasattr(module, name):
        raise ValueError(f"{file} defines no {name}")
    return ParslPoolExecutor(getattr(module, name))


def _config(provider: Any, n_workers: int, run_dir: str | Path, address: str | None = None) -> Any:
    from parsl import Config
    from parsl.executors import HighThroughputExecutor

    if n_workers < 1:  # Parsl would take 0 for as many as there are cores
        raise ValueError(f"the workers of a node must be 1 or more, got {n_workers}")
    executor = HighThroughputExecutor(
        label="qnep_labels",
        max_workers_per_node=n_workers,
        provider=provider,
        address=address,
        interchange_launch_cmd=[str(PROGRAMS / "interchange.py")],
    )
    # A lost node costs its running labels one attempt, not the run.
    return Config(executors=[executor], run_dir=str(run_dir), retries=2, usage_tracking=0)
