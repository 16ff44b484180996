"""What lies in the folder of a run."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qnep.analysis.findings import Chart, Findings, Series
from qnep.report.model_card import card_text, is_model, model_facts
from qnep.report.page import RunFacts
from qnep.report.run_settings import named_models, read_settings
from qnep.report.thermo_log import thermo_charts

_TRAJECTORIES = (
    "*.lammpstrj", "*.lammpstrj.gz", "*.dump", "*.dump.gz", "*.extxyz", "*.extxyz.gz", "*.xyz", "*.xyz.gz"
)  # fmt: skip
_SINGLE_FRAMES = ("start.dump", "cell.extxyz", "state.extxyz")  # of qnep deposit and qnep electrode
_RESUMED_LOG = "log.lammps"  # of qnep md
_LOGS = (_RESUMED_LOG, "*.lammps.log", "log.*", "*.log")
_INPUTS = ("in.*", "*.in", "plumed*.dat", "run.in")
# what LAMMPS writes to the screen under qnep md and, for each part of a run, qnep deposit
_SCREENS = ("screen.txt", "interval_*/in.lammps.screen", "check/in.lammps.screen")
_COMPLAINT_LINES = 3
_LARGEST_TEXT = 20000  # characters of an input file that are shown


class RunFolder:
    """A folder with a run and, maybe, its analysis.

    Parameters
    ----------
    path : of the folder.

    Raises
    ------
    ValueError : where there is no such folder.
    """

    def __init__(self, path: Path):
        if not path.is_dir():
            raise ValueError(f"no such folder: {path}")
        self.path = path

    def findings_files(self) -> list[Path]:
        """Return ``findings.json`` in the folder and the folders in it, sorted."""
        return sorted([*self.path.glob("findings.json"), *self.path.glob("*/findings.json")])

    def trajectories(self) -> list[Path]:
        """Return files that look like trajectories, sorted; qnep's single frames only where there is nothing else."""
        found = sorted(self._find(_TRAJECTORIES))
        return [path for path in found if path.name not in _SINGLE_FRAMES] or found

    def facts(self) -> RunFacts:
        """Return what the report tells about the run: settings, model, input files."""
        model_files = [path for path in self._find(("*.txt",)) if is_model(path)]
        texts = {path.name: _beginning(path) for path in self._find(_INPUTS)}
        facts: dict[str, Any] = {"folder": self.path.resolve().name}
        for path in self._find(("*.json",)):
            if path.name != "findings.json":
                facts |= read_settings(path)
        model_files += [path for path in named_models(facts) if is_model(path)]
        model: dict[str, str] = {}
        if model_files:
            model = model_facts(model_files[0])
            card = card_text(model_files[0])
            texts |= {"model card": card} if card else {}
            if len(model_files) > 1:
                model["others"] = ", ".join(path.name for path in model_files[1:])
        return RunFacts(f"Report of {self.path.resolve().name}", facts, model, texts)

    def history(self) -> Findings:
        """Return charts of the run's own output (thermo of its log, table of a deposition), and errors of LAMMPS."""
        findings = Findings(notes=self._complaints())
        logs = [path for path in self._find(_LOGS) if path.suffix not in (".gz", ".json")]
        for path in logs:
            charts = thermo_charts(*legs_of(path))
            if charts:
                findings.charts += charts
                break
        table = self.path / "deposition.csv"
        if table.is_file():
            findings.charts += table_charts(table, "Deposition protocol")
        return findings

    def _complaints(self) -> list[str]:
        """Sentences on why LAMMPS stopped; of the parts of a run the last one counts."""
        screens = self._find(_SCREENS)
        newest = max(screens, key=lambda path: path.stat().st_mtime, default=None)
        text = None if newest is None else _complaint(newest)
        if newest is None or text is None:
            return []
        return [f"LAMMPS stopped with an error ({newest.relative_to(self.path)}): {text}"]

    def _find(self, patterns: Iterable[str]) -> list[Path]:
        """Return the files of each pattern in turn, sorted by name within one."""
        found = (path for pattern in patterns for path in sorted(self.path.glob(pattern)))
        return [path for path in dict.fromkeys(found) if path.is_file()]


def legs_of(log: Path) -> list[Path]:
    """Return the logs of all legs of a resumed run, the oldest first; of any other log only this one.

    `qnep md` keeps that of each earlier leg as ``log.lammps.1``, ``log.lammps.2``, ... LAMMPS itself names those of the
    partitions of one run in this way, but counts from 0.
    """
    numbers = sorted(
        int(path.name.removeprefix(f"{_RESUMED_LOG}."))
        for path in log.parent.glob(f"{_RESUMED_LOG}.*")
        if path.name.removeprefix(f"{_RESUMED_LOG}.").isdecimal()
    )
    names = [*(f"{_RESUMED_LOG}.{number}" for number in numbers), _RESUMED_LOG]
    if log.name not in names or 0 in numbers:
        return [log]
    return [path for path in map(log.with_name, names) if path.is_file()]


def _beginning(path: Path) -> str:
    text = path.read_text(errors="replace")
    return text if len(text) <= _LARGEST_TEXT else text[:_LARGEST_TEXT] + "\n..."


def _complaint(path: Path) -> str | None:
    """Return what LAMMPS wrote when it stopped with an error: its first lines; None where there is no error."""
    lines = path.read_text(errors="replace").splitlines()
    first = next((k for k, line in enumerate(lines) if line.startswith("ERROR")), None)
    return None if first is None else " ".join(lines[first : first + _COMPLAINT_LINES])


# columns of the table of qnep deposit: title and unit
_COLUMNS = {
    "time_ps": ("time / ps", ""),
    "ion": ("Ion carried", "index"),
    "arrival_ps": ("Arrival of the ion", "ps"),
    "deposited": ("Deposited sodium", "atoms"),
    "in_sei": ("Sodium in the SEI", "atoms"),
    "in_electrolyte": ("Sodium in the electrolyte", "atoms"),
    "min_na_charge": ("Least charge of sodium", "e"),
    "na_lost_percent": ("Sodium lost", "%"),
    "solvent_lost_percent": ("Solvent lost", "%"),
    "salt_lost_percent": ("Salt lost", "%"),
    "bias_work_eV": ("Work of the bias on an ion", "eV"),
    "total_bias_work_eV": ("Work of the bias in all", "eV"),
}


def table_charts(path: Path, section: str) -> list[Chart]:
    """Return one chart for each numeric column of a CSV table, against its times or else its first column."""
    with path.open(newline="") as file:
        lines = [line for line in file if not line.startswith("#")]
    rows = list(csv.reader(lines))
    if len(rows) < 2:
        return []
    header, columns = rows[0], list(zip(*rows[1:]))
    at = header.index("time_ps") if "time_ps" in header else 0
    x = _floats(columns[at])
    if x is None:
        return []
    label = _COLUMNS.get(header[at], (header[at], ""))[0]
    charts = []
    for k, name in enumerate(header):
        y = _floats(columns[k])
        if k in (0, at) or y is None:
            continue
        title, unit = _COLUMNS.get(name, (name, ""))
        curve = [Series(title, x, y)]
        charts.append(
            Chart(f"{path.stem}_{k}", section, title, f"From {path.name}.", label, unit, curve)
        )
    return charts


def _floats(texts: Iterable[str]) -> list[float] | None:
    try:
        return [float(text) if text else float("nan") for text in texts]
    except ValueError:
        return None
