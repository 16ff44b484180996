"""Run the analyses of this package the way MDAnalysis runs its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from MDAnalysis.analysis.base import AnalysisBase

from qnep.analysis.binary_format import frame_of_timestep, topology_numbers

logger = logging.getLogger(__name__)


class FrameAnalysis(AnalysisBase):
    """Any analysis with ``add(frame)`` and ``result()`` over an MDAnalysis trajectory.

    ``FrameAnalysis(universe.atoms, SpeciesAnalysis()).run(start=10).results.found``

    Parameters
    ----------
    atoms : atom group; all atoms of a molecule should be in it.
    analysis : as `SpeciesAnalysis`, `SolvationAnalysis`, `LayerAnalysis`, `CrystalAnalysis`,
        `DepositionAnalysis`.
    elements : symbols of types 1, 2, ... where the topology has no elements.
    frame_interval_fs : time from frame to frame of the trajectory, fs. Without it, times are those of formats
        that hold them in ps (XTC, TRR, ...) and of arrays in memory whose ``dt`` is not MDAnalysis' own 1 ps. Of
        others, as DCD and PDB, frames are counted, which is logged.

    Raises
    ------
    TrajectoryError : where elements are not known.
    """

    def __init__(
        self,
        atoms: Any,
        analysis: Any,
        elements: Sequence[str] | None = None,
        frame_interval_fs: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(atoms.universe.trajectory, **kwargs)
        self._atoms = atoms.indices
        self._numbers = topology_numbers(atoms.universe.atoms, elements)
        self._has_charges = hasattr(atoms, "charges")
        self._group = atoms
        self._frame_interval_fs = frame_interval_fs
        self.analysis = analysis

    def _single_frame(self) -> None:
        frame = frame_of_timestep(self._ts, self._numbers, self._ts.frame, self._trajectory)
        if self._frame_interval_fs is not None:
            frame = replace(frame, time_fs=frame.index * self._frame_interval_fs)
        if frame.time_fs is None and self._frame_index == 1:
            logger.warning(
                "no times in this trajectory: frames are counted; give frame_interval_fs"
            )
        charges = np.asarray(self._group.charges, dtype=float) if self._has_charges else None
        self.analysis.add(frame.take(self._atoms).with_charges(charges))

    def _conclude(self) -> None:
        self.results.found = self.analysis.result()
