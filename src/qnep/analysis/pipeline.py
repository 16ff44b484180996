"""All analyses over one trajectory: streamed, with progress, and resumable."""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from qnep.analysis.bond_cutoffs import BondCutoffs
from qnep.analysis.crystals import NAF, SODIUM, CrystalAnalysis, Lattice
from qnep.analysis.deposition import DepositionAnalysis
from qnep.analysis.errors import TrajectoryError
from qnep.analysis.findings import Findings
from qnep.analysis.frame import Frame
from qnep.analysis.layers import LayerAnalysis
from qnep.analysis.metals import metallic_atoms
from qnep.analysis.prefetch import prefetch
from qnep.analysis.snapshots import SnapshotKeeper
from qnep.analysis.solvation import SolvationAnalysis
from qnep.analysis.species import DEFAULT_LIFETIME_FS, SpeciesAnalysis
from qnep.analysis.summary import (
    summarize_crystals,
    summarize_deposition,
    summarize_history,
    summarize_layers,
    summarize_solvation,
    summarize_species,
)
from qnep.analysis.trajectory import Trajectory
from qnep.files import sign, verify, write_atomically

logger = logging.getLogger(__name__)

ANALYSES = ("species", "solvation", "layers", "crystals", "deposition")
CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True)
class PipelineSettings:
    """What to find out, and how.

    Parameters
    ----------
    only : names of `ANALYSES`; all that make sense for the atoms by default.
    bonds : {"C-Br": (form, break)}, Å.
    min_lifetime_fs : of a bond formed or broken.
    cation : symbol; the first alkali metal present by default.
    normal : axis across the interface.
    lattices : as "rocksalt:Na,F"; NaF and bcc Na where present by default.
    anode_range : heights of an electrode that is no metal, Å.
    stride : analyses other than species look at every so-many-th frame.
    """

    only: tuple[str, ...] = ()
    bonds: tuple[tuple[str, tuple[float, float]], ...] = ()
    min_lifetime_fs: float = DEFAULT_LIFETIME_FS
    cation: str | None = None
    normal: int = 2
    lattices: tuple[str, ...] = ()
    anode_range: tuple[float, float] | None = None
    stride: int = 1

    def __post_init__(self) -> None:
        unknown = sorted(set(self.only) - set(ANALYSES))
        if unknown:
            raise ValueError(f"no analysis {', '.join(unknown)}; there are {', '.join(ANALYSES)}")
        if self.stride < 1:
            raise ValueError(f"stride must be at least 1, got {self.stride}")


class Pipeline:
    """The analyses that fit the atoms of the first frame.

    Parameters
    ----------
    settings : what to find out.
    """

    def __init__(self, settings: PipelineSettings):
        self.settings = settings
        self.n_frames = 0
        self.last: Frame | None = None
        self.notes: list[str] = []
        self._analyses: dict[str, Any] = {}
        self._results: dict[str, Any] = {}
        self._snapshots = SnapshotKeeper()
        self._history: list[tuple[float, float, float]] = []  # time, eV, K
        self._has_times = False
        self._n_atoms = 0

    def add(self, frame: Frame) -> None:
        """Take the next frame."""
        if self.n_frames == 0:
            self._set_up(frame)
        for name, analysis in self._analyses.items():
            if name == "species" or self.n_frames % self.settings.stride == 0:
                analysis.add(frame)
        self._snapshots.add(frame)
        self._history.append((frame.time, _or_nan(frame.energy), frame.temperature))
        self.n_frames += 1
        self.last = frame

    @property
    def next_index(self) -> int:
        """Index of the frame behind the last one that was taken."""
        return 0 if self.last is None else self.last.index + 1

    def _set_up(self, frame: Frame) -> None:
        """Choose the analyses; those asked for by name must fit, others are left out with a note."""
        settings = self.settings
        self._has_times, self._n_atoms = frame.time_fs is not None, frame.n_atoms
        if settings.cation is not None:
            _check_cation(settings.cation, frame)
        cutoffs = BondCutoffs(dict(settings.bonds))
        cation = settings.cation or _first_present(frame, ("Na", "Li", "K"))
        has_metal = len(metallic_atoms(frame, cutoffs)) > 0
        lattices = _lattices(frame, settings)
        makers: dict[str, tuple[bool, str, Callable[[], Any]]] = {
            "species": (True, "", lambda: SpeciesAnalysis(cutoffs, settings.min_lifetime_fs)),
            "solvation": (
                cation is not None and frame.volume > 0, "a cation and a box",
                lambda: SolvationAnalysis(cation or "", _partners(frame), cutoffs),
            ),
            "layers": (
                has_metal and frame.volume > 0, "a metal and a box",
                lambda: LayerAnalysis(settings.normal, cutoffs),
            ),
            "crystals": (bool(lattices), "a lattice", lambda: CrystalAnalysis(lattices, settings.normal, cutoffs)),
            "deposition": (
                cation is not None and frame.volume > 0 and (has_metal or bool(settings.anode_range)),
                "a cation, a box, and a metal or the range of an anode",
                lambda: DepositionAnalysis(cation or "", settings.anode_range, settings.normal, cutoffs),
            ),
        }  # fmt: skip
        for name, (fits, needs, make) in makers.items():
            if fits and (not settings.only or name in settings.only):
                self._analyses[name] = make()
            elif name in settings.only:
                raise ValueError(
                    f"the analysis {name} needs {needs}, which these atoms do not have"
                )
            elif not settings.only:
                self.notes.append(f"No {name}: it needs {needs}.")

    def results(self) -> dict[str, Any]:
        """Return the result of each analysis by name; no more frames may be added."""
        if not self._results:
            self._results = {name: one.result() for name, one in self._analyses.items()}
        return self._results

    def findings(self) -> Findings:
        """Return the results of all analyses as charts and tables."""
        findings = Findings(notes=list(self.notes))
        findings.about |= {"frames analysed": self.n_frames, "atoms": self._n_atoms}
        summarize: dict[str, Callable[[Any], Findings]] = {
            "species": summarize_species,
            "solvation": lambda result: summarize_solvation(result, self._has_times),
            "layers": lambda result: summarize_layers(result, self._has_times),
            "crystals": lambda result: summarize_crystals(result, self._has_times),
            "deposition": lambda rows: summarize_deposition(
                rows, self._analyses["deposition"].cation, self._has_times
            ),
        }
        for name, result in self.results().items():
            findings.extend(summarize[name](result))
        findings.extend(summarize_history(self._history, self._has_times))
        findings.snapshots = self._snapshots.result()
        if self._snapshots.is_too_large:
            findings.notes.append("No snapshots: there are more atoms than a browser can turn.")
        return findings


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _first_present(frame: Frame, symbols: Sequence[str]) -> str | None:
    return next((symbol for symbol in symbols if frame.is_element(symbol).any()), None)


def _check_cation(cation: str, frame: Frame) -> None:
    """Raise ValueError where no atom is a cation: numbers of nothing would look like a result."""
    present = sorted({chemical_symbols[number] for number in frame.numbers})
    if cation not in present:
        raise ValueError(
            f"the cation (--cation) must be an element of the trajectory, {', '.join(present)}, got {cation}"
        )


def _partners(frame: Frame) -> list[str]:
    return [symbol for symbol in ("O", "F", "N", "S") if frame.is_element(symbol).any()]


def _lattices(frame: Frame, settings: PipelineSettings) -> list[Lattice]:
    if settings.lattices:
        return [Lattice.parse(text) for text in settings.lattices]
    return [
        lattice
        for lattice in (NAF, SODIUM)
        if all(frame.is_element(symbol).any() for symbol in lattice.elements)
    ]


def fingerprint(
    trajectory: Path, settings: PipelineSettings, topology: Path | None = None, **reading: Any
) -> str:
    """Return a text that tells whether a checkpoint belongs to this trajectory, read and analysed like this.

    Parameters
    ----------
    trajectory, topology : files, told apart by path and first 64 kB; they may grow.
    settings : of the analysis.
    reading : all else that changes what is read: time step, elements, range of frames ...
    """
    files = [_file_identity(path) for path in (trajectory, topology) if path is not None]
    return json.dumps([files, repr(settings), reading], sort_keys=True)


def _file_identity(path: Path) -> tuple[str, str]:
    with path.open("rb") as file:
        return str(path.resolve()), hashlib.sha256(file.read(1 << 16)).hexdigest()


class Checkpoint:
    """The state of a pipeline on disk.

    It is a pickle, which could run anything when it is read. So it is signed, and what the same user has not written
    on this machine is not read.

    Parameters
    ----------
    path : of the file.
    key : of `fingerprint`.
    """

    def __init__(self, path: Path, key: str):
        self.path, self.key = path, key
        self._written = time.monotonic()

    def load(self) -> Pipeline | None:
        """Return the pipeline to go on with, or None where there is none that fits."""
        if not self.path.exists():
            return None
        content = verify(self.path.read_bytes())
        if content is None:
            logger.warning("%s was not written here: starting anew", self.path)
            return None
        try:
            key, pipeline = pickle.loads(content)
        except Exception as failure:
            logger.warning("%s cannot be read (%s): starting anew", self.path, failure)
            return None
        return pipeline if key == self.key else None

    def save_if_due(self, pipeline: Pipeline, seconds: float = CHECKPOINT_SECONDS) -> None:
        """Write the state if the last one is older than so many seconds."""
        if time.monotonic() - self._written < seconds:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, sign(pickle.dumps((self.key, pipeline))))
        self._written = time.monotonic()

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)


def run_pipeline(
    pipeline: Pipeline,
    trajectory: Trajectory,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[Frame, float], None] | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Findings:
    """Feed a trajectory to a pipeline and return what was found.

    An error in the middle of a file ends the analysis there: what was found up to then is returned with a
    note that says so. An error in the first frame is raised.

    Parameters
    ----------
    progress : called with each frame and the fraction of the file that was read.
    checkpoint_seconds : between checkpoints.
    """
    frames = prefetch(trajectory)
    try:
        for frame in frames:
            pipeline.add(frame)
            if progress is not None:
                progress(frame, trajectory.fraction_read)
            if checkpoint is not None:
                checkpoint.save_if_due(pipeline, checkpoint_seconds)
    except TrajectoryError as failure:
        if pipeline.n_frames == 0:
            raise
        logger.error("%s", failure)
        pipeline.notes.append(f"The analysis ends early: {failure}")
    finally:
        frames.close()
    if trajectory.truncated:
        pipeline.notes.append(f"The file ends early: {trajectory.truncated}.")
    return pipeline.findings()
