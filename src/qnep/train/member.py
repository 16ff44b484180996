"""The training of one model: epochs, checkpoints, the best parameters so far."""

from __future__ import annotations

import csv
import io
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from qnep.files import write_atomically
from qnep.train.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from qnep.train.loss import ErrorSums
from qnep.train.optimizers import Adam, EvolutionStrategy, Schedule, polish
from qnep.train.settings import Settings
from qnep.train.work import LocalWork, ParallelWork

if TYPE_CHECKING:
    from qnep.model import Model

log = logging.getLogger(__name__)

MODEL_FILE = "nep.txt"
CHECKPOINT_FILE = "checkpoint.npz"
METRICS_FILE = "metrics.csv"
CHECKPOINT_FORMAT = (
    3  # 1: the fingerprint held the paths of the data; 2: parameters in single precision
)
FIRST_SCALES = {
    "energy": 0.05,
    "force": 0.5,
    "virial": 0.1,
    "charge": 0.1,
    "born": 1.0,
    "dipole": 0.1,
}
"""Units of the errors before the first epoch is over: errors of an untrained model."""


@dataclass
class Progress:
    """What a member has reached; saved in its checkpoint.

    epoch : finished epochs, polishing rounds included.
    scales : weighted root mean square errors of the last epoch, the units of the loss.
    best_score, best_vector, best_epoch : smallest loss of the validation set, sum of lambda times weighted errors.
    history : a row for every epoch; errors without weights.
    """

    epoch: int = 0
    scales: dict[str, float] = field(default_factory=lambda: dict(FIRST_SCALES))
    best_score: float = np.inf
    best_epoch: int = 0
    best_vector: np.ndarray | None = None
    history: list[dict[str, Any]] = field(default_factory=list)


class DivergedError(ValueError):
    """The errors are no longer finite; the model of the last epoch before that is kept."""


class Member:
    """The training of one model of a committee.

    Parameters
    ----------
    settings : of the run.
    model : settings of the model.
    work : the training set.
    validation : the held-out set, or None.
    start : the trainer's vector and the scaling factors to begin with.
    factors : of the squared errors of each structure, [n_frames]; batches whose factors are all 0 are left out.
    folder : where checkpoint, model and metrics go.
    seed : of the order of batches and of the evolution strategy.
    fingerprint : of data and settings, which a checkpoint must match.
    """

    def __init__(
        self,
        settings: Settings,
        model: Model,
        work: LocalWork | ParallelWork,
        validation: LocalWork | None,
        start: tuple[np.ndarray, np.ndarray],
        factors: np.ndarray,
        folder: Path,
        seed: int,
        fingerprint: str,
    ) -> None:
        self.model, self.work, self.validation = model, work, validation
        self.folder, self.seed, self.fingerprint = folder, seed, fingerprint
        self.settings = settings.training
        self.weights = settings.loss
        self.progress = Progress()
        vector, self.scalers = start
        self.factors = factors
        self._drawn = [n for n, group in enumerate(work.groups) if factors[group].any()]
        self.optimizer = self._make_optimizer(vector)
        self.schedule = Schedule(
            self.settings.learning_rate,
            self.settings.final_learning_rate,
            self.settings.warm_up_steps,
            self.settings.epochs * len(self._drawn),
        )
        self._counts: list[dict[str, float]] = []

    def _make_optimizer(self, vector: np.ndarray) -> Adam | EvolutionStrategy:
        s = self.settings
        initial = torch.from_numpy(vector).to(device=self.work.device, dtype=torch.float64)
        if s.optimizer == "snes":
            return EvolutionStrategy(initial, s.population, self.seed)
        decays = torch.from_numpy(self.work.layout.decays(vector)).to(initial)
        return Adam(initial, decays, s.weight_decay, s.gradient_clip, s.averaging)

    def run(self, resume: bool, show_progress: bool) -> None:
        """Train to the end; an interrupt leaves the last finished epoch behind."""
        if resume:
            self._restore()
        for work in (self.work, self.validation):
            if work is not None:
                work.set_scalers(self.scalers)
        self.work.set_factors(self.factors)
        self._counts = [self.work.counts(number) for number in range(self.work.n_batches)]
        total = self.settings.epochs + self.settings.polish_rounds
        bar = tqdm(
            total=total, initial=self.progress.epoch, unit="epoch", disable=not show_progress
        )
        with bar:
            while self.progress.epoch < total and not self._is_stalled():
                row = self._epoch()
                bar.set_postfix_str(_summary(row))
                bar.update()
        if not self.progress.history:  # no epochs were asked for: the model is that of the start
            self._save()

    def result(self) -> Model:
        """Return a model with the best parameters of the validation set, else the last ones."""
        from qnep.model import Model

        vector = self.progress.best_vector
        if vector is None:
            vector = self._current().cpu().numpy()
        model = Model.parse(self.model.format(), MODEL_FILE)
        model.parameters = self.work.layout.to_file(vector, self.scalers)
        return model

    def _current(self) -> torch.Tensor:
        if isinstance(self.optimizer, Adam):
            return self.optimizer.average
        return self.optimizer.mean

    def _is_stalled(self) -> bool:
        patience = self.settings.patience
        if not patience or self.progress.best_vector is None:
            return False
        return self.progress.epoch - self.progress.best_epoch >= patience

    def _epoch(self) -> dict[str, Any]:
        """Do one epoch, or one round of polishing, and write everything down."""
        start = time.perf_counter()
        if self.progress.epoch >= self.settings.epochs:
            phase, errors = "polish", self._polish_round()
        elif isinstance(self.optimizer, Adam):
            phase, errors = "adam", self._adam_epoch(self.optimizer)
        else:
            phase, errors = "snes", self._generation(self.optimizer)
        found = errors.root_mean_squares()
        if not np.isfinite(list(found.values())).all():
            raise DivergedError(
                f"errors are not finite in epoch {self.progress.epoch + 1}; lower learning_rate "
                f"(it was {self.settings.learning_rate:g}); the model of the epoch before is in {self.folder}"
            )
        self.progress.scales.update(found)
        self.progress.epoch += 1
        row = {
            "epoch": self.progress.epoch,
            "phase": phase,
            **{f"train_{k}": v for k, v in errors.plain_root_mean_squares().items()},
        }
        row.update(self._validate())
        row["seconds"] = round(time.perf_counter() - start, 3)
        self.progress.history.append(row)
        self._save()
        return row

    def _adam_epoch(self, optimizer: Adam) -> ErrorSums:
        errors = ErrorSums()
        order = np.random.default_rng([self.seed, self.progress.epoch]).permutation(self._drawn)
        for number in order:
            sums, gradient = self.work.gradient(
                optimizer.vector, int(number), self.progress.scales, self._counts[number]
            )
            optimizer.step(gradient, self.schedule.rate(optimizer.n_steps))
            errors.add(sums)
        return errors

    def _generation(self, strategy: EvolutionStrategy) -> ErrorSums:
        number = self._drawn[strategy.generation % len(self._drawn)]
        scales = self.progress.scales

        def loss(vector: torch.Tensor) -> float:
            errors = self.work.errors(vector, number, scales).root_mean_squares()
            return sum(getattr(self.weights, term) * error for term, error in errors.items())

        strategy.step(loss)
        return self.work.errors(strategy.mean, number, scales)

    def _polish_round(self) -> ErrorSums:
        scales = dict(self.progress.scales)
        latest = ErrorSums()
        totals: dict[str, float] = {}
        for counts in self._counts:
            for term, count in counts.items():
                totals[term] = totals.get(term, 0.0) + count

        def loss_and_gradient(vector: torch.Tensor) -> tuple[float, torch.Tensor]:
            nonlocal latest
            latest = ErrorSums()
            gradient = torch.zeros_like(vector)
            for number in range(self.work.n_batches):
                sums, part = self.work.gradient(vector, number, scales, totals)
                latest.add(sums)
                gradient += part
            return float(self.work.loss.value(latest, totals)), gradient

        polished = polish(self._current(), loss_and_gradient)
        loss_and_gradient(polished)  # errors of the result, not of the last trial
        self._current().copy_(polished)
        return latest

    def _validate(self) -> dict[str, float]:
        """Evaluate the held-out set and remember the best parameters; without one, the last are the best."""
        if self.validation is None:
            return {}
        errors = ErrorSums()
        vector = self._current()
        for number in range(self.validation.n_batches):
            errors.add(self.validation.errors(vector, number, self.progress.scales))
        found = errors.root_mean_squares()
        score = sum(getattr(self.weights, term) * error for term, error in found.items())
        if score < self.progress.best_score:
            self.progress.best_score, self.progress.best_epoch = score, self.progress.epoch
            self.progress.best_vector = vector.cpu().numpy().copy()
        plain = errors.plain_root_mean_squares()
        return {f"validation_{term}": error for term, error in plain.items()} | {
            "validation_loss": score
        }

    def _save(self) -> None:
        progress = self.progress
        arrays = {"scalers": self.scalers, **self.optimizer.state()}
        if progress.best_vector is not None:
            arrays["best_vector"] = progress.best_vector
        meta = {
            "format": CHECKPOINT_FORMAT,
            "fingerprint": self.fingerprint,
            "epoch": progress.epoch,
            "scales": progress.scales,
            "best_score": progress.best_score,
            "best_epoch": progress.best_epoch,
            "history": progress.history,
        }
        save_checkpoint(self.folder / CHECKPOINT_FILE, arrays, meta)
        write_atomically(self.folder / MODEL_FILE, self.result().format())
        write_atomically(self.folder / METRICS_FILE, _table(progress.history))

    def _restore(self) -> None:
        path = self.folder / CHECKPOINT_FILE
        if not path.exists():
            log.warning("%s: no checkpoint, starting from the beginning", path)
            return
        arrays, meta = load_checkpoint(path)
        if meta.get("format", 1) != CHECKPOINT_FORMAT:
            raise CheckpointError(
                f"{path} was written by another version of qnep (format {meta.get('format', 1)}, wanted "
                f"{CHECKPOINT_FORMAT}), so whether its data and settings are these cannot be told; finish it with that "
                "version, remove it to begin again, or start from its nep.txt with fine_tune"
            )
        if meta["fingerprint"] != self.fingerprint:
            raise CheckpointError(
                f"{path} belongs to other data or settings; choose another output folder, "
                "or start from its nep.txt with fine_tune"
            )
        self.scalers = arrays.pop("scalers")
        self.progress = Progress(
            meta["epoch"],
            meta["scales"],
            meta["best_score"],
            meta["best_epoch"],
            arrays.pop("best_vector", None),
            meta["history"],
        )
        self.optimizer.restore(arrays)


def _table(history: list[dict[str, Any]]) -> str:
    """Return the rows as comma-separated values."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in history:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    return text.getvalue()


def _summary(row: dict[str, Any]) -> str:
    """Return the errors of an epoch in a few words."""
    shown = []
    for part in ("train", "validation"):
        if f"{part}_force" in row:
            energy = 1000 * row.get(f"{part}_energy", float("nan"))
            shown.append(f"{part} {energy:.2f} meV/atom {1000 * row[f'{part}_force']:.1f} meV/Å")
    return ", ".join(shown)
