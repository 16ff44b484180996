"""Free-energy profiles from biased runs: hills summed up, samples reweighted, errors from blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
from ase import units

from qnep.deposit.kernel import run_plumed_tool

KILOJOULE_PER_MOLE = units.mol / units.kJ
"""1 eV in kJ/mol."""


@dataclass(frozen=True)
class Samples:
    """One run of a biased collective variable: values, bias (eV) that unbiases by exp(bias / kT), time (ps)."""

    time: np.ndarray
    values: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class Profile:
    """Free energy (eV, least 0) with its standard error (eV) over a grid of the collective variable.

    `blocks` [n_blocks, n_grid] are the profiles of the single blocks; not sampled is nan.
    """

    variable: str
    grid: np.ndarray
    free_energy: np.ndarray
    error: np.ndarray
    blocks: np.ndarray


@dataclass(frozen=True)
class Barrier:
    """Where the two states and the top between them are, and the differences (eV) with standard errors."""

    reactant: float
    top: float
    product: float
    forward: float
    forward_error: float
    reaction: float
    reaction_error: float


def read_colvar(path: str | Path) -> dict[str, np.ndarray]:
    """Read a PLUMED output file; of lines with the same time, as restarts make them, the last one counts.

    Raises
    ------
    ValueError : no header, no lines, or a line that is not whole.
    """
    names: list[str] = []
    rows: dict[float, list[float]] = {}
    for number, line in enumerate(Path(path).read_text().splitlines(), start=1):
        if line.startswith("#! FIELDS"):
            names = line.split()[2:]
        elif line.strip() and not line.startswith("#"):
            row = [float(word) for word in line.split()]
            if len(row) != len(names):
                raise ValueError(
                    f"{path}, line {number}: {len(names)} columns expected, {len(row)} found"
                )
            rows[row[0]] = row
    if not rows:
        raise ValueError(f"{path}: no lines with numbers under a '#! FIELDS' header")
    return dict(zip(names, np.array(list(rows.values())).T))


def read_samples(
    path: str | Path, variable: str, bias: str, others: Sequence[str] = (), start_ps: float = 0.0
) -> Samples:
    """Read the columns of a COLVAR file that reweighting needs.

    Parameters
    ----------
    variable : column of the collective variable.
    bias : column of the bias that drove it (``label.rbias`` of METAD with CALC_RCT, else ``label.bias``), eV.
    others : columns of static biases beside it, as walls, whose effect is taken out as well, eV.
    start_ps : time after which lines count, ps.

    Raises
    ------
    ValueError : a column is not in the file.
    """
    columns = read_colvar(path)
    for name in (variable, bias, *others):
        if name not in columns:
            raise ValueError(f"{path} has no column {name!r}: it has {', '.join(columns)}")
    counts = columns["time"] > start_ps if start_ps else np.ones(len(columns["time"]), dtype=bool)
    total = columns[bias] + sum(columns[name] for name in others)
    return Samples(columns["time"][counts], columns[variable][counts], total[counts])


def reweighted_profile(
    runs: Sequence[Samples],
    variable: str,
    temperature: float,
    n_blocks: int = 5,
    n_bins: int = 100,
    discard: float = 0.2,
) -> Profile:
    """Return the unbiased free energy along a variable, with errors from blocks of time.

    Parameters
    ----------
    runs : one per walker; blocks cut all of them at the same times.
    temperature : K.
    n_blocks : of equal duration, after the first part `discard` (0 to 1) is left out.
    n_bins : of the histogram between the extremes of the samples.

    Notes
    -----
    Weights are exp(bias / kT) within each block; the profile is of all samples, its error the standard error of the
    mean over the blocks (Bussi and Laio, Nat. Rev. Phys. 2, 200 (2020), doi:10.1038/s42254-020-0153-0). Bins that
    fewer than two blocks visited have no error.
    """
    if n_blocks < 2 or not 0 <= discard < 1:
        raise ValueError(
            f"needs two blocks or more and 0 <= discard < 1, got {n_blocks} and {discard}"
        )
    kept = [_after(run, discard) for run in runs]
    values = np.concatenate([run.values for run in kept])
    if len(values) < n_blocks * 10:
        raise ValueError(
            f"{len(values)} samples are too few for {n_blocks} blocks: run longer or print more often"
        )
    edges = np.linspace(values.min(), values.max(), n_bins + 1)
    kT = units.kB * temperature
    blocks = [[_block(run, k, n_blocks) for run in kept] for k in range(n_blocks)]
    profiles = np.array([_histogram_free_energy(block, edges, kT) for block in blocks])
    total = _histogram_free_energy(kept, edges, kT)
    n_visits = np.isfinite(profiles).sum(axis=0)
    aligned = profiles - _offsets(profiles, total)[:, None]
    error = np.full(n_bins, np.nan)
    visited = n_visits > 1
    error[visited] = np.nanstd(aligned[:, visited], axis=0, ddof=1) / np.sqrt(n_visits[visited])
    centres = 0.5 * (edges[1:] + edges[:-1])
    return Profile(variable, centres, total - np.nanmin(total), error, aligned)


def _after(run: Samples, discard: float) -> Samples:
    first = int(discard * len(run.values))
    return Samples(run.time[first:], run.values[first:], run.bias[first:])


def _block(run: Samples, k: int, n_blocks: int) -> Samples:
    cuts = np.linspace(0, len(run.values), n_blocks + 1).astype(int)
    part = slice(cuts[k], cuts[k + 1])
    return Samples(run.time[part], run.values[part], run.bias[part])


def _histogram_free_energy(runs: Sequence[Samples], edges: np.ndarray, kT: float) -> np.ndarray:
    values = np.concatenate([run.values for run in runs])
    exponents = np.concatenate([run.bias for run in runs]) / kT
    weights = np.exp(exponents - exponents.max())
    counts, _ = np.histogram(values, edges, weights=weights)
    with np.errstate(divide="ignore"):
        free_energy = -kT * np.log(counts / weights.sum())
    free_energy[counts == 0] = np.nan
    return free_energy


def _offsets(profiles: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Constants that put blocks on top of the whole: their zero is arbitrary."""
    return np.array([np.nanmean(profile - total) for profile in profiles])


def hill_variables(path: str | Path) -> list[str]:
    """Return the variables of a HILLS file: the columns between the time and the first width.

    What follows the widths is no guide: several walkers write a column more, ``clock``, than one does.
    """
    with Path(path).open() as file:
        fields = file.readline().split()[2:]
    return list(takewhile(lambda name: not name.startswith("sigma_"), fields[1:]))


def summed_hills(
    hills: Sequence[Path], variable: str, grid: np.ndarray, temperature: float, folder: Path
) -> np.ndarray:
    """Return the free energy (eV, least 0) on a grid from the hills themselves, by PLUMED's ``sum_hills``.

    Parameters
    ----------
    hills : HILLS files of one run, or of its walkers. Other variables in them are integrated out.
    folder : where the tool may write.
    """
    output = folder / "sum_hills.dat"
    output.unlink(missing_ok=True)
    arguments = [
        "--hills",
        ",".join(str(path.resolve()) for path in hills),
        "--outfile",
        output.name,
    ]
    if len(hill_variables(hills[0])) > 1:
        arguments += ["--idw", variable, "--kt", repr(units.kB * temperature)]
    run_plumed_tool("sum_hills", *arguments, folder=folder)
    columns = read_colvar(output)
    surface = next(columns[name] for name in columns if name in ("file.free", "projection"))
    free_energy = np.interp(grid, columns[variable], surface, left=np.nan, right=np.nan)
    return free_energy - np.nanmin(free_energy)


def find_barrier(
    profile: Profile,
    reactant: tuple[float, float] | None = None,
    product: tuple[float, float] | None = None,
) -> Barrier:
    """Return heights between two states and the top between them, errors from the blocks.

    Parameters
    ----------
    reactant, product : ranges of the variable in which their minima are looked for. Without one, its state is the
        minimum with the highest top between it and the other; without both, the two minima with the highest top
        between them, the reactant at the smaller value.

    Raises
    ------
    ValueError : a range without samples, no second minimum, or values between the two that were never visited.
    """
    start, end = _find_states(profile, reactant, product)
    low, high = sorted((start, end))
    _require_visited(profile, low, high)
    top = low + int(profile.free_energy[low : high + 1].argmax())
    forward = profile.blocks[:, top] - profile.blocks[:, start]
    reaction = profile.blocks[:, end] - profile.blocks[:, start]
    energies = profile.free_energy
    return Barrier(
        reactant=float(profile.grid[start]),
        top=float(profile.grid[top]),
        product=float(profile.grid[end]),
        forward=float(energies[top] - energies[start]),
        forward_error=_standard_error(forward),
        reaction=float(energies[end] - energies[start]),
        reaction_error=_standard_error(reaction),
    )


def _standard_error(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.std(ddof=1) / np.sqrt(len(finite))) if len(finite) > 1 else float("nan")


def _lowest_in(profile: Profile, bounds: tuple[float, float]) -> int:
    inside = np.flatnonzero((profile.grid >= bounds[0]) & (profile.grid <= bounds[1]))
    values = profile.free_energy[inside]
    if not np.isfinite(values).any():
        raise ValueError(
            f"{profile.variable} between {bounds[0]} and {bounds[1]} was never visited: it ran from "
            f"{profile.grid[0]:.3f} to {profile.grid[-1]:.3f}"
        )
    return int(inside[np.nanargmin(values)])


def _require_visited(profile: Profile, low: int, high: int) -> None:
    """Refuse a way with an empty stretch, which may hide a top of any height."""
    empty = np.flatnonzero(np.isnan(profile.free_energy[low : high + 1])) + low
    if not len(empty):
        return
    first = np.split(empty, np.flatnonzero(np.diff(empty) > 1) + 1)[0]
    half_bin = 0.5 * (profile.grid[1] - profile.grid[0])
    raise ValueError(
        f"{profile.variable} was never visited between {profile.grid[first[0]] - half_bin:.3f} and "
        f"{profile.grid[first[-1]] + half_bin:.3f}, so the top on the way from {profile.grid[low]:.3f} to "
        f"{profile.grid[high]:.3f} is not known: run longer, or with a stronger bias"
    )


def _find_states(
    profile: Profile, reactant: tuple[float, float] | None, product: tuple[float, float] | None
) -> tuple[int, int]:
    if reactant is not None:
        start = _lowest_in(profile, reactant)
        end = _other_minimum(profile, start) if product is None else _lowest_in(profile, product)
        return start, end
    if product is not None:
        end = _lowest_in(profile, product)
        return _other_minimum(profile, end), end
    return _two_minima(profile)


def _other_minimum(profile: Profile, given: int) -> int:
    left, right = _two_minima(profile, given)
    return right if left == given else left


def _two_minima(profile: Profile, given: int | None = None) -> tuple[int, int]:
    """The pair of states with the highest way between them, measured from the higher of the two; one may be given."""
    energies = np.where(np.isfinite(profile.free_energy), profile.free_energy, np.inf)
    best, height = None, 0.0
    for top in range(1, len(energies) - 1):
        left = int(energies[:top].argmin())
        right = top + 1 + int(energies[top + 1 :].argmin())
        if given is not None:
            left, right = (given, right) if given < top else (left, given)
        depth = energies[top] - max(energies[left], energies[right])
        if np.isfinite(energies[top]) and depth > height:
            height = depth
            best = left, right
    if best is None:
        raise ValueError(
            f"the profile along {profile.variable} has one minimum only: no barrier was crossed"
        )
    return best
