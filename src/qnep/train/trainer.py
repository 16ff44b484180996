"""A training run: data, start, members of a committee, report."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from qnep.train.dataset import (
    DataSet,
    load_baseline,
    load_frames,
    sample_frames,
    split_by_trajectory,
    subtract_calculator,
    with_weight,
)
from qnep.train.frames import Frame, hash_frames
from qnep.train.member import Member
from qnep.train.parameters import ParameterLayout
from qnep.train.report import write_report
from qnep.train.settings import NO_VALIDATION, Settings, SettingsError, settings_of_model
from qnep.train.short_range import repulsion_below_data
from qnep.train.start import initial_parameters, on_zero_of_data
from qnep.train.work import LocalWork, ParallelWork, WorkPlan, free_memory, make_work

if TYPE_CHECKING:
    from qnep.model import Model

log = logging.getLogger(__name__)

LARGEST_AUTOMATIC_BATCH = 16
STEPS_PER_EPOCH = 25  # at least, if the data set allows, for the automatic batch size


@dataclass(frozen=True)
class TrainingResult:
    """Trained models and where they are.

    models : with parameters, one for each member.
    folders : where everything was written.
    histories : of each member, a row for every epoch.
    """

    models: list[Model]
    folders: list[Path]
    histories: list[list[dict[str, Any]]]


def prepare_data(settings: Settings) -> tuple[Settings, DataSet]:
    """Read and divide the data; replayed structures join those for training.

    Energies of fixed models (the baseline and ZBL) are taken off the labels. Returns the settings with a repulsion that
    was made from the data, if they ask for it.
    """
    training = settings.training
    elements = settings.model.elements
    load = functools.partial(
        load_frames, elements=elements, with_charges=settings.model.charge_mode > 0
    )
    data = split_by_trajectory(
        load(training.data),
        training.validation_fraction,
        training.test_fraction,
        training.seed,
    )
    new = with_weight(data.training, training.new_weight) if training.replay else data.training
    replayed, more_validation, more_test = (
        load(paths) if paths else []
        for paths in (training.replay, training.validation, training.test)
    )
    replayed = sample_frames(replayed, training.n_replay, training.seed)
    validation, test = data.validation + more_validation, data.test + more_test
    settings = _with_repulsion_of_data(settings, new + replayed)
    parts = {"training": new + replayed, "validation": validation, "test": test}
    _warn_of_open_cells(settings.model.cutoff, [frame for part in parts.values() for frame in part])
    for calculator in _fixed_energies(settings):
        parts = {
            name: subtract_calculator(part, elements, calculator) for name, part in parts.items()
        }
    description = data.description
    if replayed:
        description += f"; {len(replayed)} older structures replayed"
    return settings, DataSet(**parts, description=description)


def _warn_of_open_cells(cutoffs: Sequence[float], frames: Sequence[Frame]) -> None:
    """Name structures that would be others with images along their open directions, as GPUMD takes them."""
    narrow = [frame.label for frame in frames if frame.vacuum < max(cutoffs)]
    if narrow:
        log.warning(
            "%d structures, the first %s, have open directions (pbc=) with less vacuum than the cutoff: they are "
            'trained without images there; if the labels are those of a periodic cell, write pbc="T T T"',
            len(narrow),
            narrow[0],
        )


def _with_repulsion_of_data(settings: Settings, frames: Sequence[Frame]) -> Settings:
    model = settings.model
    if not model.zbl_from_data or model.zbl_pairs:
        return settings
    pairs = repulsion_below_data(frames, len(model.elements), model.zbl)
    return dataclasses.replace(settings, model=dataclasses.replace(model, zbl_pairs=pairs))


def _fixed_energies(settings: Settings) -> list[Any]:
    """Return ASE calculators of the energies that are not trained."""
    calculators = [load_baseline(settings.training.baseline)] if settings.training.baseline else []
    if settings.model.has_repulsion:
        from qnep.calculator import QNEP

        smallest = dataclasses.replace(
            settings.model, charge_mode=0, n_max=(0, 0), basis_size=(0, 0), l_max=(2,), neurons=1
        )
        repulsion = smallest.make_model()  # networks of zeros leave ZBL alone
        scalers = np.array(repulsion.parameters)
        scalers[repulsion.scaler_offset : repulsion.zbl_offset] = 1.0
        repulsion.parameters = scalers
        calculators.append(QNEP(repulsion))
    return calculators


def make_groups(n_frames: int, batch_size: int, seed: int) -> list[list[int]]:
    """Return random batches of nearly equal size; batch_size 0: chosen from the size of the data set."""
    size = batch_size or min(LARGEST_AUTOMATIC_BATCH, max(1, n_frames // STEPS_PER_EPOCH))
    n_batches = -(-n_frames // size)
    order = np.random.default_rng(seed).permutation(n_frames)
    return [sorted(map(int, part)) for part in np.array_split(order, n_batches)]


def train(settings: Settings, resume: bool = False, show_progress: bool = True) -> TrainingResult:
    """Train a model, or a committee, as the settings say.

    Writes into the folder of each member: nep.txt and checkpoint.npz after every epoch, metrics.csv, and at the end
    plots, errors and a model card.

    Parameters
    ----------
    resume : continue from the checkpoints, with the same data and settings, to the same numbers as without a break.

    Raises
    ------
    SettingsError, FrameError, CheckpointError : what cannot be used, naming it.
    """
    for note in settings.notes:
        log.warning(note)
    device = _find_device(settings.training.device)
    n_processes = settings.training.processes
    if device == "cuda" and n_processes > 1:
        log.warning("processes = %d counts on the CPU alone; the GPU is fed by one", n_processes)
        n_processes = 1
    settings = _with_settings_of_start(settings)
    settings, data = prepare_data(settings)
    if settings.training.patience and not data.validation:
        raise SettingsError(NO_VALIDATION)
    log.info("data: %s", data.description)
    model = settings.model.make_model()
    fingerprint = _fingerprint(settings, data)
    work = make_work(_plan(settings, model, data.training, device), n_processes)
    # Evaluated in double precision, as the engine does: the errors are those of the file that is written.
    validation = (
        LocalWork(_plan(settings, model, data.validation, device, "double", work.memory()))
        if data.validation
        else None
    )
    folders = member_folders(settings)
    members = []
    try:
        model.max_radial_neighbors, model.max_angular_neighbors = work.largest_neighbors()
        for index, folder in enumerate(folders):
            folder.mkdir(parents=True, exist_ok=True)
            seed = settings.training.seed + index
            start = _start(settings, model, data.training, work, seed)
            factors = _bootstrap_factors(settings, len(data.training), seed)
            member = Member(
                settings, model, work, validation, start, factors, folder, seed, fingerprint
            )
            member.run(resume, show_progress)
            write_report(settings, member, data, folder)
            members.append(member)
    finally:
        for each in (work, validation):
            if each is not None:
                each.close()
    return TrainingResult(
        [member.result() for member in members],
        folders,
        [member.progress.history for member in members],
    )


def _with_settings_of_start(settings: Settings) -> Settings:
    """Return settings with the model settings of the file that is fine-tuned."""
    if not settings.training.fine_tune:
        return settings
    from qnep.model import Model

    return dataclasses.replace(
        settings, model=settings_of_model(Model.read(settings.training.fine_tune))
    )


def _start(
    settings: Settings,
    model: Model,
    frames: list[Frame],
    work: LocalWork | ParallelWork,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the trainer's vector and the scaling factors to begin with."""
    training = settings.training
    if not training.fine_tune:
        return initial_parameters(
            model,
            frames,
            seed,
            training.energy_shift,
            training.smoothness,
            training.initial_charges,
        )
    from qnep.model import Model as AnyModel

    start = AnyModel.read(training.fine_tune)
    parameters = np.array(start.parameters)
    layout = ParameterLayout(start)
    vector, scalers = (
        layout.to_vector(parameters),
        parameters[start.scaler_offset : start.zbl_offset],
    )
    if training.energy_shift:
        work.set_scalers(scalers)
        errors = work.energy_errors(torch.from_numpy(vector).to(work.device))
        vector = on_zero_of_data(layout, vector, frames, errors)
    return vector, scalers


def _find_device(wanted: str) -> str:
    """Return "cpu" or "cuda"; raises SettingsError for a GPU that is not there."""
    if wanted == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise SettingsError("device cuda: this PyTorch finds no GPU")
    return "cpu"


def _plan(
    settings: Settings,
    model: Model,
    frames: list[Frame],
    device: str,
    precision: str | None = None,
    n_bytes_taken: int = 0,
) -> WorkPlan:
    """Return the plan for some structures; precision None: that of the settings.

    n_bytes_taken : of the memory allowed, by other tables; what is free is free of them already.
    """
    training = settings.training
    budget = max(0.0, training.memory_GB * 1e9 - n_bytes_taken)
    if not training.memory_GB:
        budget = free_memory()
    return WorkPlan(
        model_text=model.format(),
        frames=frames,
        groups=make_groups(len(frames), training.batch_size, training.seed),
        weights=settings.loss,
        precision=precision or training.precision,
        device=device,
        budget=budget,
    )


def member_folders(settings: Settings) -> list[Path]:
    """Return where each member of a run is written."""
    output = Path(settings.training.output)
    if settings.training.members == 1:
        return [output]
    return [output / f"member{index}" for index in range(settings.training.members)]


def _bootstrap_factors(settings: Settings, n_frames: int, seed: int) -> np.ndarray:
    """Return how often each structure is in the sample of a member, [n_frames]."""
    if not settings.training.bootstrap:
        return np.ones(n_frames)
    drawn = np.random.default_rng([seed, 1]).integers(n_frames, size=n_frames)
    return np.bincount(drawn, minlength=n_frames).astype(float)


def _fingerprint(settings: Settings, data: DataSet) -> str:
    """Return what a checkpoint must have been made with: the data, the model to start from, and the other settings.

    Files count by what is in them and not by their paths, which depend on where the run is started from.
    """
    free: dict[str, Any] = {
        "epochs": 0,
        "polish_rounds": 0,
        "patience": 0,
        "output": "",
        "processes": 1,
        "memory_GB": 0.0,
        "data": (),
        "validation": (),
        "test": (),
        "replay": (),
        "fine_tune": "",
    }
    same = dataclasses.replace(
        settings, training=dataclasses.replace(settings.training, **free), notes=()
    )
    start = settings.training.fine_tune
    digest = hashlib.sha256(Path(start).read_bytes() if start else b"")
    for text in (hash_frames(data.training), hash_frames(data.validation), repr(same)):
        digest.update(text.encode())
    return digest.hexdigest()
