"""PLUMED input files as lists of instructions, and a check of one by PLUMED itself."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from qnep.deposit.kernel import PlumedError, run_plumed_tool


@dataclass(frozen=True)
class Instruction:
    """One instruction with its continuation lines joined and its comments gone."""

    line: int  # number in the file, from 1; 0 for one made here
    text: str

    @property
    def words(self) -> list[str]:
        return self.text.split()

    @property
    def action(self) -> str:
        """Name of the action without its label: ``d: DISTANCE ATOMS=1,2`` -> ``DISTANCE``."""
        words = self.words
        return words[1] if len(words) > 1 and words[0].endswith(":") else words[0]

    @property
    def label(self) -> str:
        """Label, ``""`` if PLUMED is to choose one."""
        first = self.words[0]
        return first[:-1] if first.endswith(":") else self.get("LABEL", "")

    def get(self, keyword: str, default: str = "") -> str:
        """Value of ``KEYWORD=value``."""
        start = keyword + "="
        return next((word[len(start) :] for word in self.words if word.startswith(start)), default)

    def with_keywords(self, **values: str) -> Instruction:
        """Return a copy in which ``KEYWORD=value`` is added or replaced."""
        kept = [word for word in self.words if word.partition("=")[0] not in values]
        return replace(
            self, text=" ".join([*kept, *(f"{key}={value}" for key, value in values.items())])
        )


def read_plumed_input(path: str | Path) -> list[Instruction]:
    """Read a PLUMED file up to its ENDPLUMED.

    Raises
    ------
    PlumedError : the file cannot be read, or a block opened with ``...`` stays open.
    """
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as failure:
        raise PlumedError(f"cannot read the PLUMED file {path}: {failure}") from failure
    instructions: list[Instruction] = []
    inside = False
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if inside and words[0] == "...":
            inside = False
            continue
        if not inside and words[0] == "ENDPLUMED":
            break
        opens = words[-1] == "..."
        if not inside:
            instructions.append(Instruction(number, ""))
        last = instructions[-1]
        addition = " ".join(words[:-1] if opens else words)
        instructions[-1] = replace(last, text=f"{last.text} {addition}".strip())
        inside = inside or opens
    if inside:
        raise PlumedError(
            f"{path}: the block that line {instructions[-1].line} opens with '...' is never closed"
        )
    return instructions


def write_plumed_input(
    path: str | Path, instructions: Iterable[Instruction | str], title: str
) -> None:
    """Write instructions, one per line, under a comment that says what they do."""
    lines = [one if isinstance(one, str) else one.text for one in instructions]
    Path(path).write_text("\n".join([f"# {title}", *lines, ""]))


def check_plumed_input(path: str | Path, n_atoms: int) -> None:
    """Let PLUMED read a file without running anything.

    It is read in a folder of its own, so that no HILLS or COLVAR is touched; files it refers to are looked for beside
    it.

    Parameters
    ----------
    path : PLUMED input.
    n_atoms : number of atoms of the system it is meant for.

    Raises
    ------
    PlumedError : with the line of the first wrong instruction and PLUMED's own message.
    """
    instructions = read_plumed_input(path)
    failure = _complaint(instructions, Path(path), n_atoms)
    if failure is None:
        return
    n_good, n_bad = 0, len(instructions)  # instructions that pass, and that do not
    while n_bad - n_good > 1:
        middle = (n_good + n_bad) // 2
        complaint = _complaint(instructions[:middle], Path(path), n_atoms)
        if complaint is None:
            n_good = middle
        else:
            n_bad, failure = middle, complaint
    wrong = instructions[n_bad - 1]
    raise PlumedError(f"{path}, line {wrong.line}:\n  {wrong.text}\nPLUMED says: {failure}")


def _complaint(instructions: list[Instruction], path: Path, n_atoms: int) -> str | None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for neighbor in path.resolve().parent.iterdir():
            if neighbor.is_file():
                (folder / neighbor.name).symlink_to(neighbor)
        checked = folder / "checked.dat"
        checked.unlink(missing_ok=True)
        write_plumed_input(checked, instructions, "a copy")
        try:
            run_plumed_tool(
                "driver",
                "--parse-only",
                "--plumed",
                checked.name,
                "--natoms",
                str(n_atoms),
                "--ixyz",
                "/dev/null",
                folder=folder,
            )
        except PlumedError as failure:
            return _own_words(str(failure))
    return None


def _own_words(output: str) -> str:
    """The lines of PLUMED's output that say what is wrong, each once."""
    lines = [line.removeprefix("PLUMED: ").strip() for line in output.splitlines()]
    telling = [line for line in lines if "ERROR" in line or "not known" in line or "cannot" in line]
    return "\n".join(dict.fromkeys(telling)) or output
