#!/usr/bin/env python3
"""Write one archive that builds and tests `pair_style qnep/kk` on a machine with an NVIDIA GPU and no network.

In it: this checkout's sources and tests, LAMMPS and Kokkos as scripts/build_lammps_kokkos.py gets them (of LAMMPS only
what the tests run), the Python packages that building and testing need, as wheels for the Python of that machine, and
`run.py`, which does everything there. What that machine must have: nvcc, a C++17 compiler and Python. Packages that it
has as well can be left out with --without, for a smaller archive.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from build_lammps_kokkos import BuildError, copy_needed, fetch_kokkos, fetch_lammps, run

ROOT = Path(__file__).resolve().parents[1]
OWN_FOLDERS = "src plugins scripts tests benchmarks".split()  # noqa: SIM905
OWN_FILES = "CMakeLists.txt pyproject.toml README.md LICENSE".split()  # noqa: SIM905
# Of another code, beside the checkout: used where they are, skipped by tests and benchmark where not.
REFERENCE_DATA = ("gpumd_static_qnep", "qnep_train")

# Building and running; what these need comes with them.
PACKAGES = """
ase numpy vesin tqdm matplotlib scipy scikit-learn pytest pytest-xdist mpich
scikit-build-core==1.1.2 nanobind==3.1.0 cmeel-eigen==3.4.1 cmake ninja
""".split()  # noqa: SIM905
# glibc of the wheels' machine, newest first; pip matches each name exactly.
PLATFORMS = "2_39 2_35 2_34 2_31 2_28 2_27 2_24 2_17 2_12 2_5".split()  # noqa: SIM905
OLD_PLATFORMS = "2014 2010 1".split()  # noqa: SIM905


def normalized(name: str) -> str:
    """A package's name as in the names of wheels."""
    return name.lower().replace("-", "_").replace(".", "_")


def fetch_wheels(python: str, without: list[str], folder: Path, log: Path) -> None:
    """Wheels for a version of Python (`3.12`), without those that the machine has; pip compares the index's hashes."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--only-binary=:all:",
        "--dest",
        str(folder),
    ]
    command += ["--python-version", python, "--implementation", "cp"]
    for name in PLATFORMS:
        command += ["--platform", f"manylinux_{name}_x86_64"]
    for name in OLD_PLATFORMS:
        command += ["--platform", f"manylinux{name}_x86_64"]
    run([*command, *PACKAGES], folder.parent, log)
    unwanted = {normalized(name) for name in without}
    for wheel in folder.glob("*.whl"):
        if normalized(wheel.name.split("-")[0]) in unwanted:
            wheel.unlink()


def copy_own(target: Path) -> None:
    """The files of the checkout that git knows, as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", *OWN_FOLDERS, *OWN_FILES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, listed):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)


def copy_reference_data(target: Path) -> None:
    """Where tests look for it: beside the checkout."""
    folder = Path(os.environ.get("QNEP_SHARED_DATA", ROOT.parent / "shared" / "data"))
    for name in REFERENCE_DATA:
        if (folder / name).is_dir():
            shutil.copytree(folder / name, target / "shared" / "data" / name)


def copy_kokkos(source: Path, target: Path) -> None:
    """Without the tests of Kokkos; its CMake adds examples and benchmarks."""
    shutil.copytree(
        source, target, ignore=shutil.ignore_patterns("unit_test*", "perf_test*", "*.md")
    )


def assemble(arguments: argparse.Namespace, folder: Path, log: Path) -> None:
    """Lay out what goes into the archive."""
    downloads = arguments.cache / "sources"
    copy_own(folder / "qnep")
    copy_reference_data(folder)
    shutil.copy(Path(__file__).with_name("run_cuda_archive.py"), folder / "run.py")
    (folder / "lammps").mkdir()
    copy_needed(arguments.lammps_source or fetch_lammps(downloads, log), folder / "lammps")
    copy_kokkos(arguments.kokkos_source or fetch_kokkos(downloads, log), folder / "kokkos")
    (folder / "wheels").mkdir()
    fetch_wheels(arguments.python, arguments.without, folder / "wheels", log)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "qnep-cuda.tar.xz")
    parser.add_argument("--python", default="3.12", help="version of Python on that machine")
    parser.add_argument("--without", nargs="*", default=[], help="packages that it has")
    parser.add_argument("--lammps-source", type=Path, help="source tree of LAMMPS 4Feb2025")
    parser.add_argument("--kokkos-source", type=Path, help="source tree of Kokkos 4.5.1")
    parser.add_argument("--cache", type=Path, default=Path(cache_home, "qnep-kokkos"))
    return parser.parse_args()


def main() -> int:
    """Write the archive and say what it is."""
    arguments = parse_arguments()
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="qnep-cuda-") as temporary:
        folder = Path(temporary) / "qnep-cuda"
        folder.mkdir()
        try:
            assemble(arguments, folder, Path(temporary) / "log")
        except BuildError as failure:
            print(f"cuda_archive: {failure}", file=sys.stderr)
            return 1
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(arguments.output, "w:xz", preset=3) as archive:
            archive.add(folder, folder.name)
    content = arguments.output.read_bytes()
    print(f"{arguments.output}: {len(content) / 2**20:.1f} MiB, {time.time() - started:.0f} s")
    print(f"sha256 {hashlib.sha256(content).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
