"""Reading structures and trajectories, with the references that they carry.

Extended XYZ as GPUMD, NEP_CPU and many data sets write it is not quite what ASE reads: keys in lower case
(``lattice=``), properties with other names (``force``), a total virial instead of a stress. Here both are one.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import IO

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import iread
from ase.io.extxyz import read_extxyz
from ase.io.formats import UnknownFileTypeError, open_with_compression

from qnep.conventions import to_voigt

XYZ_SUFFIXES = (".xyz", ".extxyz", ".exyz")

_KEYS = {
    name.lower(): name
    for name in ("Lattice", "Properties", "pbc", "energy", "virial", "stress", "charge")
}
_PROPERTIES = {"force": "forces", "bec": "born_effective_charges"}
_COMMENT_TOKEN = re.compile(r"""("[^"]*"|'[^']*'|\{[^}]*\})|([A-Za-z_][\w-]*)(\s*=\s*)""")


def iread_frames(path: str | PathLike[str]) -> Iterator[Atoms]:
    """Read a file frame by frame.

    Parameters
    ----------
    path : extended XYZ by its suffix (also compressed: ``.xyz.gz``), or any other format that ASE reads.

    Yields
    ------
    Structures; energy (eV), forces (eV/Å), stress (eV/Å³, from the virial if there is only that), charges (e) and Born
    effective charges of the file stand in ``atoms.calc.results``.

    Raises
    ------
    ValueError : a frame is cut off or malformed, or there is an empty line before it; the text names file and frame.
    """
    path = Path(path)
    suffixes = [
        suffix.lower() for suffix in path.suffixes if suffix.lower() not in (".gz", ".bz2", ".xz")
    ]
    if suffixes and suffixes[-1] in XYZ_SUFFIXES:
        with open_with_compression(str(path), "rt") as file:
            yield from iread_xyz(file, str(path))
    else:
        yield from _iread_other(path)


def read_frames(path: str | PathLike[str]) -> list[Atoms]:
    """Read all frames of a file; see `iread_frames`."""
    return list(iread_frames(path))


def count_frames(path: str | PathLike[str]) -> int | None:
    """Number of frames of an extended XYZ file from a quick look at its lines, None for other formats."""
    path = Path(path)
    if path.suffix.lower() not in XYZ_SUFFIXES:
        return None
    n_frames = 0
    with path.open("rb") as file:
        while (line := file.readline()).strip().isdigit():
            for _ in range(int(line) + 1):
                file.readline()
            n_frames += 1
    return n_frames


def _iread_other(path: Path) -> Iterator[Atoms]:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        yield from iread(path)
    except UnknownFileTypeError as failure:
        raise ValueError(
            f"{path}: ASE cannot read this file: unknown format {failure}"
        ) from failure
    except OSError:
        raise
    except Exception as failure:  # the readers of ASE raise anything
        raise ValueError(
            f"{path}: ASE cannot read this file: {type(failure).__name__}: {failure}"
        ) from failure


def iread_xyz(file: IO[str], name: str) -> Iterator[Atoms]:
    for index, lines in enumerate(_split_xyz(file, name)):
        lines[1] = normalise_comment(lines[1])
        try:
            atoms = next(read_extxyz(io.StringIO("".join(lines)), slice(0, 1)))
        except (ValueError, KeyError, IndexError, RuntimeError, OSError) as failure:
            raise ValueError(f"{name}, frame {index}: not extended XYZ: {failure}") from failure
        _shape_references(atoms, f"{name}, frame {index}")
        yield atoms


def _split_xyz(file: IO[str], name: str) -> Iterator[list[str]]:
    """The lines of one frame after the other; nothing but empty lines may follow the last."""
    index = 0
    while first := file.readline():
        if not first.strip():
            _check_end(file, f"{name}, frame {index}")
            return
        if not first.strip().isdigit():
            raise ValueError(
                f"{name}, frame {index}: wanted the number of atoms, got {first.strip()[:60]!r}"
            )
        n_atoms = int(first)
        lines = [first]
        for _ in range(n_atoms + 1):
            lines.append(file.readline())
            if not lines[-1]:
                raise ValueError(
                    f"{name}, frame {index}: wanted {n_atoms} atoms, the file ends after {max(0, len(lines) - 3)}"
                )
        yield lines
        index += 1


def _check_end(file: IO[str], name: str) -> None:
    """Refuse text behind an empty line: GPUMD reads nothing after it, and frames must not get lost unseen."""
    if any(line.strip() for line in file):
        raise ValueError(
            f"{name}: wanted the number of atoms, got an empty line with text after it"
        )


def normalise_comment(line: str) -> str:
    """Write the keys of an extended XYZ comment line as ASE knows them.

    Only the keys that have a meaning for atoms change; GPUMD compares them without regard to case. Names in
    ``Properties`` are lower-cased and ``force`` and ``bec`` get their full names.
    """

    def rename(match: re.Match[str]) -> str:
        quoted, key, equals = match.groups()
        return quoted or _KEYS.get(key.lower(), key) + equals

    line = _COMMENT_TOKEN.sub(rename, line)
    return re.sub(
        r'(Properties\s*=\s*"?)([^\s"]+)',
        lambda found: found[1] + _rename_properties(found[2]),
        line,
    )


def _rename_properties(value: str) -> str:
    fields = value.split(":")
    fields[::3] = [_PROPERTIES.get(field.lower(), field.lower()) for field in fields[::3]]
    return ":".join(fields)


def _shape_references(atoms: Atoms, name: str) -> None:
    """Bring tensors of the file into ASE's form.

    A total virial (eV, positive = compressed) becomes the stress. It has precedence over a stress in the file, as in
    GPUMD: its trainer takes a stress as positive in tension, its dumps write one that is positive in compression.
    """
    results = dict(atoms.calc.results) if atoms.calc is not None else {}
    virial = atoms.info.pop("virial", None)
    if virial is not None:
        if atoms.cell.rank < 3:
            raise ValueError(
                f"{name}: a virial needs a cell with a volume, got {atoms.cell.tolist()}"
            )
        results["stress"] = to_voigt(-virial / atoms.get_volume())
    if "born_effective_charges" in results:
        results["born_effective_charges"] = results["born_effective_charges"].reshape(-1, 3, 3)
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
