"""Trains the models of a run: the first time from scratch, then fine-tuning on new labels with replay of old ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ase import Atoms

from qnep.io import write_frames

if TYPE_CHECKING:
    from qnep.train.settings import Settings


class Trainer(Protocol):
    """What the loop asks of a trainer; anything with this call will do."""

    def __call__(
        self,
        new: Sequence[Atoms],
        old: Sequence[Atoms],
        models: Sequence[Path],
        folder: Path,
        resume: bool,
    ) -> list[Path]:
        """Return the files of new models.

        Parameters
        ----------
        new, old : labelled frames that the models have not, or have, seen.
        models : files to start from; none the first time.
        folder : for everything that is written.
        resume : an interrupted call has left its files there.

        Raises
        ------
        CheckpointError : that call had other arguments; nothing in the folder is needed then.
        """
        ...


class FineTuner:
    """Trains with `qnep.train`.

    Parameters
    ----------
    settings : of the first training; ``training.members`` is the size of the committee.
    fine_tune_epochs : of all later ones.
    fine_tune_rate : learning rate of all later ones.
    n_replay : old frames that are drawn for each later one, 0 for all; bounds the cost of a training.
    """

    def __init__(
        self,
        settings: Settings,
        fine_tune_epochs: int = 30,
        fine_tune_rate: float = 3e-3,
        n_replay: int = 0,
    ) -> None:
        if fine_tune_epochs < 1:
            raise ValueError(f"fine_tune_epochs must be at least 1, got {fine_tune_epochs}")
        if not (math.isfinite(fine_tune_rate) and fine_tune_rate > 0):
            raise ValueError(f"fine_tune_rate must be positive, got {fine_tune_rate:g}")
        if n_replay < 0:
            raise ValueError(f"n_replay must be at least 0, got {n_replay}")
        self.settings = settings
        self.fine_tune_epochs = fine_tune_epochs
        self.fine_tune_rate = fine_tune_rate
        self.n_replay = n_replay

    def __call__(
        self,
        new: Sequence[Atoms],
        old: Sequence[Atoms],
        models: Sequence[Path],
        folder: Path,
        resume: bool,
    ) -> list[Path]:
        """Return the files of the trained committee; see `Trainer`."""
        from qnep.train.trainer import train

        folder.mkdir(parents=True, exist_ok=True)
        write_frames(folder / "new.xyz", new)
        if old:
            write_frames(folder / "old.xyz", old)
        files = []
        for member in range(self.settings.training.members):
            output = folder / f"member{member}"
            settings = self._settings_of(member, folder, bool(old), models, output)
            has_begun = resume and (output / "checkpoint.npz").exists()
            train(settings, resume=has_begun, show_progress=False)
            files.append(output / "nep.txt")
        return files

    def _settings_of(
        self, member: int, folder: Path, has_old: bool, models: Sequence[Path], output: Path
    ) -> Settings:
        first = self.settings.training
        training = dataclasses.replace(
            first,
            data=(str(folder / "new.xyz"),),
            replay=(str(folder / "old.xyz"),) if has_old else (),
            n_replay=self.n_replay,
            members=1,
            seed=first.seed + member,
            output=str(output),
        )
        if models:
            training = dataclasses.replace(
                training,
                fine_tune=str(models[member % len(models)]),
                epochs=self.fine_tune_epochs,
                learning_rate=self.fine_tune_rate,
            )
        return dataclasses.replace(self.settings, training=training)
