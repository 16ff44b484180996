"""A look at the data before training: duplicates, outliers, missing labels, rare elements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from qnep.train.frames import Frame
from qnep.train.start import element_energies

LARGEST_NET_FORCE = 0.01  # eV/Å per atom
LARGEST_FORCE = 20.0  # eV/Å; beyond it atoms overlap or the label failed
OUTLIER_SIGMAS = 5.0  # robust standard deviations of the energy that composition does not explain
SMALLEST_SIGMA = 1e-3  # eV/atom
FEWEST_ENVIRONMENTS = 50  # of an element
COORDINATE_DIGITS = 4  # of positions and cell that count for duplicates


@dataclass(frozen=True)
class Finding:
    """Something about the data that a person should know.

    check : what was looked at.
    is_problem : whether it should be dealt with.
    text : what was found.
    frames : labels of the structures concerned.
    """

    check: str
    is_problem: bool
    text: str
    frames: tuple[str, ...] = ()


def check_frames(frames: Sequence[Frame], elements: Sequence[str]) -> list[Finding]:
    """Return one finding of every check."""
    checks: tuple[Callable[[Sequence[Frame], Sequence[str]], Finding], ...] = (
        _duplicates,
        _net_forces,
        _large_forces,
        _energy_outliers,
        _virials,
        _open_directions,
        _levels,
        _environments,
    )
    return [check(frames, elements) for check in checks]


def format_findings(findings: Sequence[Finding], n_shown: int = 3) -> str:
    """Return the findings as a table, with the first structures concerned."""
    width = max(len(finding.check) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(
            f"{'LOOK' if finding.is_problem else 'ok':<5} {finding.check:<{width}}  {finding.text}"
        )
        lines += [f"      {'':<{width}}  - {label}" for label in finding.frames[:n_shown]]
        if len(finding.frames) > n_shown:
            lines.append(f"      {'':<{width}}    and {len(finding.frames) - n_shown} more")
    return "\n".join(lines)


def _duplicates(frames: Sequence[Frame], elements: Sequence[str]) -> Finding:
    seen: dict[bytes, str] = {}
    found = []
    for frame in frames:
        numbers = np.round(np.concatenate([frame.cell, frame.positions]), COORDINATE_DIGITS) + 0.0
        key = numbers.tobytes() + frame.types.tobytes()
        if key in seen:
            found.append(f"{frame.label} = {seen[key]}")
        seen.setdefault(key, frame.label)
    text = f"{len(found)} structures occur before" if found else "none"
    return Finding("duplicates", bool(found), text, tuple(found))


def _net_forces(frames: Sequence[Frame], elements: Sequence[str]) -> Finding:
    sizes = {
        f.label: np.linalg.norm(f.forces.sum(axis=0)) / f.n_atoms
        for f in frames
        if f.forces is not None
    }
    found = [
        f"{label}: {size:.3f} eV/Å per atom"
        for label, size in sizes.items()
        if size > LARGEST_NET_FORCE
    ]
    largest = max(sizes.values(), default=0.0)
    return Finding("net force", bool(found), f"largest {largest:.2g} eV/Å per atom", tuple(found))


def _large_forces(frames: Sequence[Frame], elements: Sequence[str]) -> Finding:
    sizes = {
        f.label: float(np.linalg.norm(f.forces, axis=1).max())
        for f in frames
        if f.forces is not None
    }
    found = [f"{label}: {size:.1f} eV/Å" for label, size in sizes.items() if size > LARGEST_FORCE]
    return Finding(
        "large forces",
        bool(found),
        f"largest {max(sizes.values(), default=0.0):.1f} eV/Å",
        tuple(found),
    )


def _energy_outliers(frames: Sequence[Frame], elements: Sequence[str]) -> Finding:
    """Energies far from what the composition explains, measured by the median deviation of their category."""
    labelled = [frame for frame in frames if frame.energy is not None]
    per_element = element_energies(labelled, len(elements))
    rest = np.array([(f.energy - per_element[f.types].sum()) / f.n_atoms for f in labelled])
    names = np.array([f.config_type for f in labelled])
    found = []
    for name in np.unique(names):
        members = np.flatnonzero(names == name)
        middle = np.median(rest[members])
        sigma = max(1.4826 * np.median(np.abs(rest[members] - middle)), SMALLEST_SIGMA)
        for index in members:
            distance = abs(rest[index] - middle) / sigma
            if len(members) >= 5 and distance > OUTLIER_SIGMAS:
                found.append(f"{labelled[index].label}: {distance:.0f} standard deviations")
    text = f"{len(found)} beyond {OUTLIER_SIGMAS:g} robust standard deviations of their category"
    return Finding("energy outliers", bool(found), text, tuple(found))


def _virials(frames: Sequence[Frame], elements: Sequence[str]) -> Finding:
    missing = tuple(frame.label for frame in frames if frame.virial is None)
    is_mixed = 0 < len(missing) < len(frames)
    return Finding(
        "virials",
        is_mixed,
        f"missing in {len(missing)} of {len(frames)}",
        missing if is_mixed else (),
    )


def _open_directions(frames: Sequence[Frame], elements: Sequence[str]) -> Finding:
    found = tuple(frame.label for frame in frames if not all(frame.pbc))
    text = f"in {len(found)} of {len(frames)}" + ("; no images along them" if found else "")
    return Finding("open directions", False, text, found)


def _levels(frames: Sequence[Frame], elements: Sequence[str]) -> Finding:
    counts = Counter(frame.level or "not stated" for frame in frames)
    text = ", ".join(f"{level} ({count})" for level, count in counts.most_common())
    return Finding("level of theory", len(counts) > 1, text)


def _environments(frames: Sequence[Frame], elements: Sequence[str]) -> Finding:
    counts = np.bincount(np.concatenate([frame.types for frame in frames]), minlength=len(elements))
    rare = [symbol for symbol, count in zip(elements, counts) if count < FEWEST_ENVIRONMENTS]
    text = ", ".join(f"{symbol} {count}" for symbol, count in zip(elements, counts))
    return Finding(
        "atoms of each element", bool(rare), text + (f"; few: {' '.join(rare)}" if rare else "")
    )
