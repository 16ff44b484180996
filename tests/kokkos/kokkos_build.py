"""Where the LAMMPS with KOKKOS is."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class KokkosBuild:
    """What the tests run."""

    lmp: str
    plugins: str  # folder
    options: list[str]  # of lmp, that switch KOKKOS on

    @property
    def has_device(self) -> bool:
        """Whether it works on a device with its own memory."""
        return "g" in self.options

    @property
    def n_threads(self) -> int:
        """Threads of each rank that these options ask for."""
        return int(self.options[self.options.index("t") + 1]) if "t" in self.options else 1


def newest_source() -> float:
    """When a source of the plugin was changed last."""
    folders = [
        ROOT / "plugins" / "lammps_kokkos",
        ROOT / "plugins" / "lammps",
        ROOT / "src" / "core",
    ]
    return max(path.stat().st_mtime for folder in folders for path in folder.glob("*.*"))


def parts_of_cache() -> dict[str, str]:
    """What scripts/build_lammps_kokkos.py says of its cache; nothing if it has not built."""
    return ask_cache()[0]


def ask_cache() -> tuple[dict[str, str], str]:
    """What the build script says of its cache, and why not."""
    environment = {**os.environ}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    found = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "build_lammps_kokkos.py"), "--find"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if found.returncode != 0:
        return {}, found.stderr.strip()
    return dict(line.split("=", 1) for line in found.stdout.splitlines()), ""


def from_cache() -> tuple[str, str]:
    """Program and plugin folder that scripts/build_lammps_kokkos.py made; skips the tests if it has not."""
    parts, reason = ask_cache()
    if not parts:
        pytest.skip(f"needs a LAMMPS with KOKKOS (make test-kokkos): {reason}")
    if Path(parts["plugin"], "built").stat().st_mtime < newest_source():
        pytest.skip(f"{parts['plugin']} is older than its sources: make test-kokkos builds it")
    return parts["lmp"], parts["plugin"]


def find_build() -> KokkosBuild:
    """From QNEP_KOKKOS_LAMMPS and QNEP_KOKKOS_PLUGIN, or from the cache of the build script."""
    lmp = os.environ.get("QNEP_KOKKOS_LAMMPS")
    if lmp:
        plugins = os.environ.get("QNEP_KOKKOS_PLUGIN")
        assert plugins, "QNEP_KOKKOS_LAMMPS wants QNEP_KOKKOS_PLUGIN: the folder of qnepkkplugin.so"
    else:
        lmp, plugins = from_cache()
    options = shlex.split(os.environ.get("QNEP_KOKKOS_OPTIONS", "-k on t 2 -sf kk"))
    return KokkosBuild(lmp, plugins, options)
