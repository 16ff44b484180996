"""The loop that all policies share: dynamics, looks, labels, trainings, and their state on disk."""

from __future__ import annotations

import io
import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.io import write

from qnep.calculator import QNEP, Committee
from qnep.learn.deviation import ForceDeviation
from qnep.learn.dynamics import ML, REFERENCE, Dynamics, Snapshot, TurnTaker
from qnep.learn.exploration import LammpsExploration, LammpsSettings, Langevin
from qnep.learn.extrapolation import ActiveSet, ExtrapolationGrade
from qnep.learn.features import Features
from qnep.learn.finding import Finding, Observation
from qnep.learn.reference import Labelled, Reference, ReferenceDriver, ReferenceFailed
from qnep.learn.similarity import Environments, SimilarityScreen
from qnep.learn.state import (
    DECISIONS_FILE,
    FORMAT,
    STATE_FILE,
    TRAJECTORY_FILE,
    GrowingFile,
    RunLock,
    State,
    StateError,
)
from qnep.learn.threshold import AdaptiveThreshold
from qnep.learn.trainer import Trainer
from qnep.model import Model
from qnep.train.checkpoint import CheckpointError

logger = logging.getLogger(__name__)

ACTIVE_SET_FILE = "active_set.npz"
LAMMPS_ACTIVE_SET_FILE = "active_set.txt"
SAVE_INTERVAL_S = 1.0
"""Looks that changed nothing are saved so often; waiting for the disk after each would cost more than small models."""


class LearningFailed(RuntimeError):
    """The loop cannot go on by itself; the text says why. Its state is on disk."""


class Gate(Protocol):
    """Looks at a configuration and says what it found."""

    name: str

    def judge(self, observation: Observation) -> Finding: ...


class UncertaintyGate(Gate, Protocol):
    """A gate with a threshold that follows the true errors."""

    threshold: AdaptiveThreshold


class Policy(Protocol):
    """Decides what the loop does next."""

    name: str

    def begin(self, learner: Learner) -> dict[str, Any]:
        """Return what the policy remembers at the start of a run, as plain types."""
        ...

    def advance(self, learner: Learner) -> None:
        """Do one event; sets ``learner.state.is_done`` at the end."""
        ...


@dataclass
class Look:
    """What was found at one configuration.

    Without observation and uncertainty where it could not be evaluated; `known` is what the similarity screen said, if
    it was asked.
    """

    step: int
    observation: Observation | None
    alarms: list[Finding]
    uncertainty: Finding | None
    known: Finding | None = None

    @property
    def findings(self) -> list[Finding]:
        return [*self.alarms, *(found for found in (self.uncertainty, self.known) if found)]

    @property
    def alarm(self) -> Finding | None:
        """The first alarm that fires."""
        return next((finding for finding in self.alarms if finding.fires), None)

    @property
    def is_uncertain(self) -> bool:
        return self.uncertainty is not None and self.uncertainty.fires


@dataclass(frozen=True)
class Start:
    """The first training set.

    Parameters
    ----------
    n_perturbed : copies of each structure with atoms moved at random and the cell strained. One that the reference
        refuses is left out.
    amplitude : Å, standard deviation of the moves.
    strain : largest component of the strain.
    md_steps : of reference dynamics of the first structure, at `md_temperature` K; every `md_stride`-th is trained on.
    structures : further structures to label and to perturb, as products and intermediates in their surroundings.
    models : files to start from instead of training; then only `structures` are labelled at the start, without copies.
    """

    n_perturbed: int = 10
    amplitude: float = 0.05
    strain: float = 0.02
    md_steps: int = 0
    md_temperature: float = 600.0
    md_stride: int = 10
    structures: tuple[Atoms, ...] = ()
    models: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if self.n_perturbed < 0 or self.md_steps < 0 or self.md_stride < 1:
            raise ValueError(
                "n_perturbed and md_steps of the start must not be negative, md_stride at least 1"
            )
        if not (self.amplitude >= 0 and 0 <= self.strain < 0.5):
            raise ValueError("amplitude of the start must not be negative, strain in 0 ... 0.5")
        if not self.md_temperature > 0:
            raise ValueError(
                f"md_temperature of the start must be positive, got {self.md_temperature:g}"
            )
        n_frames = self.n_perturbed + len(self.structures) + self.md_steps // self.md_stride
        if not self.models and n_frames < 1:
            raise ValueError("the start needs models, perturbed structures or reference dynamics")


@dataclass
class Parts:
    """What a loop is made of.

    Parameters
    ----------
    atoms : the structure that the run begins with.
    reference, trainer : label and train.
    policy : decides.
    alarms : gates that need no calibration.
    uncertainty : ``"deviation"`` or ``"grade"``: which gate judges the uncertainty, and its threshold.
    screen : answers whether an environment is known.
    start : the first training set.
    temperature, timestep_fs, friction, seed : of the dynamics; K, fs, 1/fs.
    check_interval : steps between two looks.
    write_interval : steps between two frames of the trajectory.
    lammps : LAMMPS drives where the models drive; None: ASE.
    """

    atoms: Atoms
    reference: Reference
    trainer: Trainer
    policy: Policy
    alarms: Sequence[Gate]
    uncertainty: str
    threshold: AdaptiveThreshold
    screen: SimilarityScreen
    start: Start = field(default_factory=Start)
    temperature: float = 300.0
    timestep_fs: float = 0.5
    friction: float = 0.01
    seed: int = 0
    check_interval: int = 10
    write_interval: int = 50
    lammps: LammpsSettings | None = None

    def __post_init__(self) -> None:
        if self.uncertainty not in ("deviation", "grade"):
            raise ValueError(f"uncertainty must be deviation or grade, got {self.uncertainty!r}")
        if self.check_interval < 1 or self.write_interval < 1:
            raise ValueError("check_interval and write_interval must be at least 1")


class Learner:
    """A run of active learning in a folder, in which no other works until `run` has ended or `close` was called.

    Parameters
    ----------
    parts : what it is made of.
    folder : of the run.
    digest : of the configuration; a run is only resumed with the same.
    resume : go on with the run in the folder.

    Raises
    ------
    StateError : nothing to resume, another configuration, a run in the folder that would be overwritten, or another
        process that works there.
    ValueError : numbers with which there is no dynamics or exploration; nothing has been written then.
    """

    def __init__(self, parts: Parts, folder: Path, digest: str, resume: bool = False) -> None:
        self.parts = parts
        self.folder = folder
        self.reference = parts.reference
        self.screen = parts.screen
        self.threshold = parts.threshold
        self._decisions = GrowingFile(folder / DECISIONS_FILE)
        self._trajectory = GrowingFile(folder / TRAJECTORY_FILE)
        self._is_changed = True  # by more than a look without objection, since the state was saved
        self._saved_at = -np.inf
        self._latest_look: Look | None = None  # None after steps that were not looked at
        self._lock = RunLock(folder)
        with ExitStack() as on_failure:
            on_failure.callback(self._lock.release)
            self._driver = ReferenceDriver(parts.reference)
            self._driver.config_type, self._driver.trajectory = "reference-md", "start"
            self.turns = TurnTaker(self._driver)
            # Both check their numbers, so they come before anything is written.
            self.dynamics = self._new_dynamics(parts.atoms, parts.temperature, parts.seed)
            self.exploration = self._make_exploration()
            self._open(digest, resume)
            on_failure.pop_all()

    # --- running ------------------------------------------------------------------------------------------------------

    def run(self) -> State:
        """Do everything that is left, and close; returns the state at the end.

        Raises
        ------
        LearningFailed, ReferenceFailed, ExplorationFailed, OSError : the state on disk is the one after the last event.
        StateError : closed already.
        """
        if not self._lock.is_held:
            raise StateError(
                f"this learner is closed: make a new one with resume=True to go on in {self.folder}"
            )
        try:
            return self._run()
        finally:
            self.close()

    def close(self) -> None:
        """End the labelling process and let others work in the folder and on the pool; harmless twice."""
        try:
            self.reference.close()
        finally:
            self._lock.release()

    def _run(self) -> State:
        if not self.state.models:
            self._prepare()
        self._use_models()
        if not self.state.policy:
            self.state.policy = self.parts.policy.begin(self)
            self.save()
        else:
            assert self.state.snapshot is not None  # saved together with what the policy remembers
            self.dynamics.restore(Snapshot.from_dict(self.state.snapshot))
            self._remember_looks()
        while not self.state.is_done:
            try:
                self.parts.policy.advance(self)
            except (LearningFailed, ReferenceFailed) as failure:
                self._record_stop(failure)
                raise
        return self.state

    def start_again(self, seed: list[int]) -> None:
        """Put the atoms back to the start structure, with new velocities and noise."""
        self.turns.driver = ML
        self.dynamics = self._new_dynamics(at_rest(self.parts.atoms), self.parts.temperature, seed)
        self.forget_looks()

    def advance(self, n_steps: int, driver: str) -> None:
        """Do some steps of dynamics with one of the two drivers.

        The first forces are those of whoever drove before, so that a structure that was labelled is left with the
        forces of the reference.
        """
        self._leave_stretch()
        self._latest_look = None
        for _ in range(n_steps):
            with self._timed("reference" if driver == REFERENCE else "ml"):
                self.dynamics.advance(driver)
            self.count(f"steps_{driver}")
            if self.dynamics.step % self.parts.write_interval == 0:
                self._write_frame()

    def advance_and_look(self, end: int) -> Look:
        """Let the models drive to the next look; what they cannot evaluate is an alarm.

        Parameters
        ----------
        end : step at which the policy will stop, so that LAMMPS is not asked for more.
        """
        self._latest_look = self._look_ahead(end)
        return self._latest_look

    @property
    def writes_frame(self) -> bool:
        """Whether a frame of the trajectory was due since the look before."""
        step, interval = self.dynamics.step, self.parts.write_interval
        return step // interval > (step - self.parts.check_interval) // interval

    def look(self) -> Observation:
        """Return the present configuration with what the models say about it."""
        atoms = self.dynamics.atoms
        with self._timed("ml"):
            results = self.turns.results_of_ml(atoms)
        return Observation(atoms, results, self._features)

    def distance_from_start(self, atoms: Atoms) -> dict[str, float]:
        """Return by element the mean distance of environments to the nearest one of the start structure.

        In features of the first model of the run, so that numbers of different times can be compared.
        """
        symbols = np.array(atoms.get_chemical_symbols())
        with self._timed("gates"):
            distances = self._origin.distances(self._first_features(atoms), list(symbols))
        return {
            element: round(float(distances[symbols == element].mean()), 6)
            for element in sorted(set(symbols))
        }

    def is_known(self, observation: Observation, atoms: Sequence[int]) -> Finding:
        """Return what the similarity screen says about some atoms; it fires for unknown ones."""
        with self._timed("gates"):
            return self.screen.judge(observation, atoms)

    def forget_looks(self) -> None:
        """Let gates that compare with the look before begin anew, as after a jump of the trajectory."""
        self._leave_stretch()
        for gate in self.parts.alarms:
            if hasattr(gate, "previous"):
                gate.previous = None

    # --- labels and training ------------------------------------------------------------------------------------------

    def label(self, observation: Observation) -> float:
        """Label the present configuration, train on it from the next training on, and let the reference drive.

        Returns the true error of the models: the largest norm of the difference of a force, eV/Å.
        """
        self._leave_stretch()
        with self._timed("reference"):
            self.turns.driver = REFERENCE
            self.dynamics.atoms.get_forces(md=True)
        labelled = self.latest_label()
        self.keep(labelled, observation.features)
        return self.true_error(observation, labelled)

    def latest_label(self) -> Labelled:
        """Return what the reference said last."""
        assert self._driver.latest is not None  # the reference has just driven
        return self._driver.latest

    def true_error(self, observation: Observation, labelled: Labelled) -> float:
        """Return the largest error of a force of the models, eV/Å, and calibrate the threshold with it."""
        difference = labelled.frame.get_forces() - observation.results["forces"]
        error = float(np.linalg.norm(difference, axis=1).max())
        self.threshold.add(self._uncertainty.judge(observation).value, error)
        return error

    def keep(self, labelled: Labelled, features: np.ndarray) -> bool:
        """Add a label to the training set; returns whether it is new there."""
        if labelled.number in self.state.training:
            return False
        self.state.training.append(labelled.number)
        self.screen.add(features, labelled.frame.get_chemical_symbols())
        return True

    @property
    def n_untrained(self) -> int:
        """Number of labels that the models have not seen."""
        return len(self.state.training) - self.state.n_trained

    def train(self, why: str) -> None:
        """Train on all labels of the training set and go on with the new models."""
        chosen = self._training_frames()
        old, new = chosen[: self.state.n_trained], chosen[self.state.n_trained :]
        with self._timed("training"):
            files = self._trained(new, old)
        self.state.models = [str(file.relative_to(self.folder)) for file in files]
        self.state.generation += 1
        self.state.n_trained = len(chosen)
        self.record("train", why, [], n_new=len(new), n_old=len(old))
        self._use_models()
        self.save()

    # --- records ------------------------------------------------------------------------------------------------------

    def count(self, name: str, number: int = 1) -> None:
        """Add to a count of the state."""
        self.state.counts[name] = self.state.counts.get(name, 0) + number

    def record(self, action: str, why: str, findings: Sequence[Finding], **details: Any) -> None:
        """Write a decision with its numbers, and count it."""
        self._is_changed |= action != "accept"
        self.count(action)
        line = {
            "step": self.dynamics.step,
            "generation": self.state.generation,
            "action": action,
            "why": why,
            "findings": [finding.as_dict() for finding in findings],
            **details,
        }
        with self._timed("disk"):
            self._decisions.append(json.dumps(line, ensure_ascii=False) + "\n")

    def _record_stop(self, failure: Exception) -> None:
        """Write why the run stops, for people: it is no event, so a resumed run cuts it off again."""
        look = self._latest_look
        if look is None:
            self.record("stop", str(failure), [])
        else:
            self.record("stop", str(failure), look.findings, failed_at=look.step)

    def save(self) -> None:
        """Write the state after an event; looks without objection wait up to SAVE_INTERVAL_S for the next one."""
        if not self._is_changed and time.monotonic() - self._saved_at < SAVE_INTERVAL_S:
            return
        with self._timed("disk"):
            self._note_state()
            for file in (self._decisions, self._trajectory):
                file.see_on_disk()
            self.state.save(self.folder)
        self._is_changed, self._saved_at = False, time.monotonic()

    def _note_state(self) -> None:
        """Put into the state what dynamics, gates and files hold."""
        state = self.state
        state.snapshot = self.dynamics.snapshot().as_dict() if state.models else None
        state.thresholds = {"uncertainty": self.threshold.as_dict()}
        state.memories = {
            gate.name: gate.previous for gate in self.parts.alarms if hasattr(gate, "previous")
        }
        state.exploration = None if self.exploration is None else self.exploration.memory
        state.sizes = {file.path.name: file.size for file in (self._decisions, self._trajectory)}

    # --- inside -------------------------------------------------------------------------------------------------------

    def _open(self, digest: str, resume: bool) -> None:
        """Read the state of before, or begin a new one where there is none with models."""
        if not resume:
            if (self.folder / STATE_FILE).exists():
                self._clear_beginning()
            self.reference.forget_failures()  # of other runs too, where the pool is shared
            self.state = State(digest)
            self.state.save(self.folder)
            return
        self.state = State.load(self.folder)
        if self.state.digest != digest:
            raise StateError(
                f"the configuration is not the one that the run in {self.folder} began with; "
                "put it back, or begin a run in another folder"
            )
        if self.state.format != FORMAT:
            raise StateError(
                f"the run in {self.folder} was begun by another version of qnep: go on with that one, or begin a run "
                "in another folder with this pool, where no label is lost, and these models as models of [start]"
            )
        self._training_frames()  # a pool that lacks some is found out now
        self.state.is_done = False  # a longer run may be asked for now
        self._cut_files(self.state.sizes)
        self.reference.forget_failures()
        if "uncertainty" in self.state.thresholds:
            self.threshold.restore(self.state.thresholds["uncertainty"])

    def _clear_beginning(self) -> None:
        """Remove what a run without models has left: all of its work that counts is in the pool."""
        if State.load(self.folder).models:
            raise StateError(
                f"{self.folder} holds a run already: use --resume, or another output folder"
            )
        self._cut_files({})
        first_training = self._training_folder(1)
        if first_training.exists():  # of frames or settings that may be others now
            shutil.rmtree(first_training)

    def _cut_files(self, sizes: Mapping[str, int]) -> None:
        for file in (self._decisions, self._trajectory):
            file.cut(sizes.get(file.path.name, 0))

    def _trained(self, new: Sequence[Atoms], old: Sequence[Atoms]) -> list[Path]:
        """Return the files of the next models; a training that was interrupted goes on if it was the same one."""
        folder = self._training_folder(self.state.generation + 1)
        models = [self.folder / file for file in self.state.models]
        if folder.exists():
            try:
                return self.parts.trainer(new, old, models, folder, True)
            except CheckpointError as failure:
                # As when the run was interrupted at its end, and is to be longer now: more labels come first.
                logger.warning("training anew, what is there was begun otherwise: %s", failure)
                shutil.rmtree(folder)
        return self.parts.trainer(new, old, models, folder, False)

    def _training_frames(self) -> list[Atoms]:
        """Return the frames that are trained on, in the order in which they came."""
        return [self.reference.frame(number) for number in self.state.training]

    def _training_folder(self, generation: int) -> Path:
        return self.folder / "models" / f"{generation:04d}"

    def _remember_looks(self) -> None:
        """Take back what the looks before the state was saved have left."""
        for gate in self.parts.alarms:
            if gate.name in self.state.memories:
                gate.previous = self.state.memories[gate.name]  # type: ignore[attr-defined]
        if self.exploration is not None:
            self.exploration.restore(self.state.exploration)

    def _new_dynamics(self, atoms: Atoms, temperature: float, seed: int | list[int]) -> Dynamics:
        parts = self.parts
        return Dynamics(atoms, self.turns, temperature, parts.timestep_fs, parts.friction, seed)

    def _make_exploration(self) -> LammpsExploration | None:
        parts = self.parts
        if parts.lammps is None:
            return None
        langevin = Langevin(
            parts.temperature, parts.timestep_fs, parts.friction, parts.check_interval
        )
        return LammpsExploration(
            parts.lammps,
            langevin,
            parts.uncertainty,
            self.folder,
            parts.atoms,
            parts.reference.total_charge,
        )

    def _explore(self, end: int) -> Observation:
        """Let the models drive for one interval, in LAMMPS or here, and return what is there."""
        if self.exploration is None:
            self.advance(self.parts.check_interval, ML)
            return self.look()
        before = self.dynamics.step
        with self._timed("ml"):
            frame = self.exploration.next_frame(self.dynamics, self.threshold.value, end - before)
        self.dynamics.place(frame.step, frame.positions, frame.momenta)
        self.count("steps_ml", frame.step - before)
        if self.writes_frame:
            self._write_frame()
        return Observation(self.dynamics.atoms, frame.results, self._features)

    def _look_ahead(self, end: int) -> Look:
        try:
            observation = self._explore(end)
        except ValueError as failure:  # how calculators refuse atoms that are on top of each other
            refusal = Finding("evaluation", np.inf, 0.0, "", True, (), str(failure))
            return Look(self.dynamics.step, None, [refusal], None)
        with self._timed("gates"):
            alarms = [gate.judge(observation) for gate in self.parts.alarms]
            uncertainty = self._uncertainty.judge(observation)
            return Look(self.dynamics.step, observation, alarms, uncertainty)

    def _leave_stretch(self) -> None:
        if self.exploration is not None:
            self.exploration.forget()

    def _prepare(self) -> None:
        """Take the models that are given, or label the first training set and train on it."""
        start = self.parts.start
        numbers = list(dict.fromkeys(labelled.number for labelled in self._label_start()))
        if start.models:
            self._adopt(start.models, numbers)
        else:
            self.state.training = numbers
        if numbers:
            self.record("start", "first training set", [], n_labels=len(numbers))
            self.train("first training")

    def _label_start(self) -> Iterator[Labelled]:
        """Label perturbed structures and frames of reference dynamics, the same ones at each call.

        Where models are given, only the further structures as they are.
        """
        start, parts = self.parts.start, self.parts
        if start.models:
            yield from self._label_perturbed(start.structures)
            return
        yield from self._label_perturbed(list(perturbed(start, parts.atoms, parts.seed)))
        if start.md_steps:
            hot = self._new_dynamics(at_rest(parts.atoms), start.md_temperature, [parts.seed, 1])
            for step in range(1, start.md_steps + 1):
                with self._timed("reference"):
                    hot.advance(REFERENCE)
                self.count("steps_start")
                if step % start.md_stride == 0:
                    yield self.latest_label()

    def _label_perturbed(self, frames: Sequence[Atoms]) -> Iterator[Labelled]:
        """Label structures and their copies, less those that the reference refuses.

        Raises
        ------
        ReferenceFailed : for the first structure, which is as it was given, or for all others.
        """
        refusals = []
        for number, atoms in enumerate(frames):
            try:
                with self._timed("reference"):
                    labelled = self.reference.label(atoms, "perturbed", f"perturbed {number}")
            except ReferenceFailed as failure:
                if number == 0:
                    raise
                refusals.append(str(failure))
                why = f"the reference refuses frame {number} of the perturbed ones: {failure}"
                self.record("drop", why, [])
            else:
                yield labelled
        if refusals and len(refusals) == len(frames) - 1:
            raise ReferenceFailed(
                f"all {len(refusals)} perturbed frames but the first were refused, the last one for: {refusals[-1]}. "
                "A smaller amplitude or strain in [start] may help; a run without a model may be begun anew"
            )

    def _adopt(self, models: Sequence[Path], new: Sequence[int]) -> None:
        """Copy given models into the run; labels that the pool holds count as known, but for the new ones."""
        folder = self._training_folder(0)
        folder.mkdir(parents=True, exist_ok=True)
        for number, path in enumerate(models):
            target = folder / f"nep{number}.txt"
            shutil.copyfile(path, target)
            self.state.models.append(str(target.relative_to(self.folder)))
        old = [number for number in self.reference.frames if number not in new]
        self.state.training = [*old, *new]
        self.state.n_trained = len(old)

    def _use_models(self) -> None:
        """Open the present models and rebuild what depends on their features."""
        models = [Model.read(str(self.folder / file)) for file in self.state.models]
        self._check_elements(models)
        charge = self.reference.total_charge
        calculator: Calculator = (
            Committee(models, total_charge=charge)
            if len(models) > 1
            else QNEP(models[0], total_charge=charge)
        )
        self.turns.exchange_ml(calculator)
        self._driver.config_type = self.parts.policy.name
        self._driver.trajectory = f"{self.parts.policy.name} {self.state.generation}"
        with self._timed("gates"):
            self._features = Features(models[0])
            self._set_origin()
            known = self._fit_known()
            self._uncertainty: UncertaintyGate
            if self.parts.uncertainty == "grade":
                active = ActiveSet.fit(known, self._features.digest)
                active.save(self.folder / ACTIVE_SET_FILE)
                active.write_for_lammps(self.folder / LAMMPS_ACTIVE_SET_FILE, models[0])
                self._uncertainty = ExtrapolationGrade(self.threshold, active)
            else:
                self._uncertainty = ForceDeviation(self.threshold)
        if self.exploration is not None:
            self.exploration.use_models(
                [self.folder / file for file in self.state.models],
                self.folder / LAMMPS_ACTIVE_SET_FILE,
            )
        self.turns.driver = ML
        self.forget_looks()

    def _fit_known(self) -> dict[str, np.ndarray]:
        """Show the screen all labels; returns the features of the trained ones by element.

        The trained ones come at once, the others in their order: as it happens without a break.
        """
        described = [
            (self._features(frame), frame.get_chemical_symbols())
            for frame in self._training_frames()
        ]
        trained, waiting = described[: self.state.n_trained], described[self.state.n_trained :]
        self.screen.forget()
        known: dict[str, np.ndarray] = {}
        if trained:
            features = np.vstack([rows for rows, _ in trained])
            symbols = np.concatenate([names for _, names in trained])
            self.screen.add(features, list(symbols))
            known = {
                element: features[symbols == element] for element in sorted(set(symbols.tolist()))
            }
        for rows, names in waiting:
            self.screen.add(rows, names)
        return known

    def _set_origin(self) -> None:
        """Remember what the start structure looks like to the first model."""
        if not self.state.first_model:
            self.state.first_model = self.state.models[0]
        atoms = self.parts.atoms
        self._first_features = Features(Model.read(str(self.folder / self.state.first_model)))
        self._origin = Environments(spacing=0.0)
        self._origin.add(self._first_features(atoms), atoms.get_chemical_symbols())

    def _check_elements(self, models: Sequence[Model]) -> None:
        holders = {"the structure": [self.parts.atoms], "the pool": self._training_frames()}
        for file, model in zip(self.state.models, models):
            for holder, structures in holders.items():
                wanted = {symbol for atoms in structures for symbol in atoms.symbols.species()}
                missing = sorted(wanted - set(model.elements))
                if missing:
                    raise ValueError(
                        f"{file}: the model knows {' '.join(model.elements)}, {holder} holds {' '.join(missing)} too"
                    )

    def _write_frame(self) -> None:
        with self._timed("disk"):
            buffer = io.StringIO()
            frame = self.dynamics.atoms.copy()
            frame.info = {"step": self.dynamics.step, "generation": self.state.generation}
            write(buffer, frame, format="extxyz")
            self._trajectory.append(buffer.getvalue())

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = self.state.seconds
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start


def at_rest(atoms: Atoms) -> Atoms:
    """Return a copy without velocities, for which the dynamics draws its own."""
    copy = atoms.copy()
    copy.arrays.pop("momenta", None)
    return copy


def perturbed(start: Start, atoms: Atoms, seed: int) -> Iterator[Atoms]:
    """Return each structure as it is and `n_perturbed` copies with moved atoms and a strained cell."""
    random = np.random.default_rng([seed, 2])
    for structure in (atoms, *start.structures):
        yield structure
        for _ in range(start.n_perturbed):
            copy = structure.copy()
            strain = random.uniform(-start.strain, start.strain, (3, 3))
            copy.set_cell(copy.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
            copy.positions += start.amplitude * random.normal(size=copy.positions.shape)
            yield copy
