"""Reading structures and trajectories, with the references that they carry, and writing them.

Extended XYZ as GPUMD, NEP_CPU and many data sets write it is not quite what ASE reads: keys in lower case
(``lattice=``), properties with other names (``force``), a total virial instead of a stress. Here both are one.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import iread
from ase.io.extxyz import read_extxyz, write_extxyz
from ase.io.formats import UnknownFileTypeError
from ase.io.lammpsdata import read_lammps_data

from qnep.conventions import to_voigt
from qnep.files import check_replaceable, replacing

XYZ_SUFFIXES = (".xyz", ".extxyz", ".exyz")
STANDARD_INPUT = ("-", "/dev/stdin")
BYTE_ORDER_MARK = "\ufeff"  # that editors of Windows put first

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
"""Suffix of a compressed file -> what opens it."""

_KEYS = {
    name.lower(): name
    for name in (
        *("Lattice", "Properties", "pbc", "energy", "virial", "stress"),
        *("charge", "temperature", "dipole", "pol"),
    )
}
_PROPERTIES = {"force": "forces", "bec": "born_effective_charges"}
_COMMENT_TOKEN = re.compile(r"""("[^"]*"|'[^']*'|\{[^}]*\})|([A-Za-z_][\w-]*)(\s*=\s*)""")


def iread_frames(path: str | PathLike[str]) -> Iterator[Atoms]:
    """Read a file frame by frame.

    Parameters
    ----------
    path : extended XYZ by its suffix (also compressed: ``.xyz.gz``), LAMMPS data with masses, or any other format that
        ASE reads. A pipe, and ``-`` for standard input, are read as extended XYZ.

    Yields
    ------
    Structures; energy (eV), forces (eV/Å), stress (eV/Å³, from the virial if there is only that), charges (e) and Born
    effective charges of the file stand in ``atoms.calc.results``.

    Raises
    ------
    ValueError : a frame is cut off or malformed, or there is an empty line before it; the text names file and frame.
        The file is not UTF-8, or its compression is damaged.
    """
    path = Path(path)
    if str(path) in STANDARD_INPUT:
        with _sentences("standard input"):
            yield from iread_xyz(sys.stdin, "standard input")
    elif _is_xyz(path) or _is_stream(path):
        with _sentences(str(path)), _open_text(path, path, "r") as file:
            yield from iread_xyz(file, str(path))
    else:
        yield from _iread_other(path)


def _is_xyz(path: Path) -> bool:
    """Whether the name is that of extended XYZ, compressed or not."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _OPENERS:
        suffixes.pop()
    return bool(suffixes) and suffixes[-1] in XYZ_SUFFIXES


def _is_stream(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _open_text(path: Path, name: Path, mode: str) -> IO[str]:
    """Open a text file, compressed as the suffix of `name` says."""
    return _OPENERS.get(name.suffix.lower(), open)(path, mode + "t", encoding="utf-8")


@contextmanager
def _sentences(name: str) -> Iterator[None]:
    """Turn what the modules of Python raise for bad files into sentences that name the file."""
    try:
        yield
    except UnicodeDecodeError as failure:
        byte = failure.object[failure.start]
        raise ValueError(f"{name}: wanted text in UTF-8, got the byte 0x{byte:02x}") from failure
    except (EOFError, lzma.LZMAError, zlib.error) as failure:
        raise ValueError(
            f"{name}: the compressed file is damaged or cut off: {failure}"
        ) from failure
    except OSError as failure:
        if failure.filename is not None:
            raise
        raise ValueError(f"{name}: cannot be read: {failure}") from failure


def read_frames(path: str | PathLike[str]) -> list[Atoms]:
    """Read all frames of a file; see `iread_frames`."""
    return list(iread_frames(path))


def count_frames(path: str | PathLike[str]) -> int | None:
    """Number of frames of an extended XYZ file from a quick look at its lines.

    None for other formats, compressed files, and a pipe, which can be read only once.
    """
    path = Path(path)
    if path.suffix.lower() not in XYZ_SUFFIXES or not path.is_file():
        return None
    n_frames = 0
    with path.open("rb") as file:
        while (line := file.readline().removeprefix(BYTE_ORDER_MARK.encode())).strip().isdigit():
            for _ in range(int(line) + 1):
                file.readline()
            n_frames += 1
    return n_frames


def _iread_other(path: Path) -> Iterator[Atoms]:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        if _is_lammps_data(path):
            yield _read_lammps_data(path)
        else:
            yield from iread(path)
    except UnknownFileTypeError as failure:
        raise ValueError(
            f"{path}: ASE cannot read this file: unknown format {failure}"
        ) from failure
    except Exception as failure:  # the readers of ASE raise anything
        if isinstance(failure, OSError) and failure.filename is not None:
            raise
        raise ValueError(
            f"{path}: ASE cannot read this file: {type(failure).__name__}: {failure}"
        ) from failure


def iread_xyz(file: IO[str], name: str) -> Iterator[Atoms]:
    for index, lines in enumerate(_split_xyz(file, name)):
        lines[1] = normalise_comment(lines[1])
        try:
            atoms = next(read_extxyz(io.StringIO("".join(lines)), slice(0, 1)))
        except (ValueError, KeyError, IndexError, RuntimeError, OSError) as failure:
            reason = f"unknown name {failure}" if isinstance(failure, KeyError) else str(failure)
            raise ValueError(f"{name}, frame {index}: not extended XYZ: {reason}") from failure
        _shape_references(atoms, f"{name}, frame {index}")
        yield atoms


def _split_xyz(file: IO[str], name: str) -> Iterator[list[str]]:
    """The lines of one frame after the other; nothing but empty lines may follow the last."""
    index = 0
    while first := file.readline().removeprefix(BYTE_ORDER_MARK if index == 0 else ""):
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
    _check_references(results, len(atoms), name)
    virial = atoms.info.pop("virial", None)
    if virial is not None:
        _check_shape(f"{name}: virial", virial, (3, 3))
        if atoms.cell.rank < 3:
            raise ValueError(
                f"{name}: a virial needs a cell with a volume, got {atoms.cell.tolist()}"
            )
        results["stress"] = to_voigt(-virial / atoms.get_volume())
    if "born_effective_charges" in results:
        results["born_effective_charges"] = results["born_effective_charges"].reshape(-1, 3, 3)
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)


def _check_references(results: dict[str, Any], n_atoms: int, name: str) -> None:
    """Refuse references that are no numbers, or of a shape that nothing can be compared with."""
    shapes = {
        "energy": (),
        "free_energy": (),
        "energies": (n_atoms,),
        "forces": (n_atoms, 3),
        "stress": (6,),
        "charges": (n_atoms,),
        "dipole": (3,),
        "born_effective_charges": (n_atoms, 9),
    }
    for key, shape in shapes.items():
        if key in results:
            _check_shape(f"{name}: {key}", results[key], shape)


def _check_shape(what: str, value: Any, shape: tuple[int, ...]) -> None:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or array.shape != shape:
        wanted = f"numbers of shape {shape}" if shape else "a number"
        got = f"shape {array.shape}" if array.shape and array.dtype.kind in "fiu" else repr(value)
        raise ValueError(f"{what} must be {wanted}, got {got}")


# --- writing ----------------------------------------------------------------------------------------------------------


def write_frames(path: str | PathLike[str], frames: Iterable[Atoms]) -> int:
    """Write structures with their results as extended XYZ, which `read_frames` and GPUMD's trainers read.

    Born effective charges are the nine columns ``bec``, field direction slow; ASE's own writer fails on them.

    Parameters
    ----------
    path : a name of extended XYZ, also a compressed one: ``.xyz.gz``. The file gets its name when it is whole; after an
        error there is none, or the one of before.
    frames : are taken one after the other; first comes a look whether the file can be written.

    Returns
    -------
    How many frames were written.

    Raises
    ------
    ValueError : see `check_output`.
    """
    path = Path(path)
    check_output(path)
    n_frames = 0
    with (
        replacing(path.resolve()) as temporary,
        _open_text(temporary, path, "w") as file,
    ):
        for frame in frames:
            write_extxyz(file, _as_ase_writes(frame))
            n_frames += 1
    return n_frames


def check_output(path: Path) -> None:
    """Raise ValueError if `write_frames` could not write there, or the name is not that of extended XYZ."""
    if not _is_xyz(path):
        endings = ", ".join(XYZ_SUFFIXES)
        raise ValueError(
            f"{path}: wanted a name of extended XYZ, which ends in {endings}, also with {', '.join(_OPENERS)} after it"
        )
    check_replaceable(path)


def _as_ase_writes(atoms: Atoms) -> Atoms:
    """The same structure without results of three axes, which ASE's writer cannot bring into columns."""
    if atoms.calc is None or "born_effective_charges" not in atoms.calc.results:
        return atoms
    results = {key: atoms.calc.results[key] for key in all_properties if key in atoms.calc.results}
    written = atoms.copy()
    written.arrays["bec"] = results.pop("born_effective_charges").reshape(-1, 9)
    written.calc = SinglePointCalculator(written, **results)
    return written


# --- one structure, LAMMPS data ---------------------------------------------------------------------------------------


def read_last_frame(path: str | PathLike[str]) -> Atoms:
    """Read the last structure of a file; see `iread_frames`.

    Raises
    ------
    ValueError : also where the file holds no structure.
    """
    last = deque(iread_frames(path), maxlen=1)
    if not last or len(last[0]) == 0:
        raise ValueError(f"{path}: no structure in the file")
    return last[0]


def _is_lammps_data(path: Path) -> bool:
    """Whether a file begins as LAMMPS data do, under any name: ASE takes ``.data`` for another program's."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(4096)
    return bool(re.search(rb"^\s*\d+\s+atoms\b", head, re.M) and re.search(rb"\sxlo\s+xhi\b", head))


def _read_lammps_data(path: Path) -> Atoms:
    """Read LAMMPS data; the periodic directions stand in the first line of those that `qnep build` writes."""
    text = path.read_text(encoding="utf-8")
    first = text.partition("\n")[0]
    if not re.search(r"^\s*(Masses|Atom Type Labels)\b", text, re.M):
        raise ValueError("LAMMPS data without masses do not say which elements their types are")
    units = re.search(r"units = (\w+)", first)
    atoms = read_lammps_data(io.StringIO(text), units=units[1] if units else "metal")
    periodic = re.search(r'pbc="([TF]) ([TF]) ([TF])"', first)
    if periodic:
        atoms.pbc = [letter == "T" for letter in periodic.groups()]
    for name in ("id", "type", "mmcharges"):
        atoms.arrays.pop(name, None)  # ASE's writer would take the types of this file for its own
    atoms.info.clear()
    return atoms
