"""The options of `qnep analyse` as values that can be kept and compared."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from qnep.analysis.bond_cutoffs import parse_bond_option
from qnep.analysis.pipeline import PipelineSettings

READING = ("timestep", "interval", "units", "elements", "start", "stop", "stride")


@dataclass(frozen=True)
class AnalysisOptions:
    """How a trajectory is read and what is found out, by the names and in the words of the command line.

    The defaults are those of the command line; times in fs, lengths in Å.
    """

    topology: Path | None = None
    elements: str | None = None
    timestep: float | None = None
    interval: float | None = None
    units: str | None = None
    start: int = 0
    stop: int | None = None
    stride: int = 1
    only: str = ""
    slow_stride: int = 1
    bond: tuple[str, ...] = ()
    lifetime: float = PipelineSettings.min_lifetime_fs
    cation: str | None = None
    normal: int = PipelineSettings.normal
    lattice: tuple[str, ...] = ()
    anode: tuple[float, float] | None = None

    def settings(self) -> PipelineSettings:
        """Return the settings that the options mean.

        Raises
        ------
        ValueError : an option that means none.
        """
        return PipelineSettings(
            only=tuple(filter(None, self.only.split(","))),
            bonds=tuple(parse_bond_option(text) for text in self.bond),
            min_lifetime_fs=self.lifetime,
            cation=self.cation,
            normal=self.normal,
            lattices=self.lattice,
            anode_range=self.anode,
            stride=self.slow_stride,
        )

    def reading(self) -> dict[str, Any]:
        """Return the options that say how files are read, the topology apart."""
        return {name: getattr(self, name) for name in READING}

    def symbols(self) -> list[str] | None:
        """Return the elements of types 1, 2, ..., where they are given."""
        return self.elements.split(",") if self.elements else None


def given_options(namespace: argparse.Namespace) -> dict[str, Any]:
    """Return {name: value} of the attributes of `AnalysisOptions` that stand on the command line."""
    values = {field.name: getattr(namespace, field.name) for field in fields(AnalysisOptions)}
    return {name: _plain(value) for name, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    """Options that are compared later must not depend on the working folder, nor on lists or tuples."""
    if isinstance(value, Path):
        return value.resolve()
    return tuple(value) if isinstance(value, list) else value
