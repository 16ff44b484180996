"""The command `qnep train`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qnep.train.settings import Settings, TrainingSettings

_OPTIONS: tuple[tuple[str, type, str], ...] = (
    ("epochs", int, "passes over the data"),
    ("batch_size", int, "structures per step, 0: chosen"),
    ("learning_rate", float, "of Adam, after warm-up"),
    ("polish_rounds", int, "rounds of 20 L-BFGS steps after Adam"),
    ("validation_fraction", float, "of the structures, held out by trajectory"),
    ("test_fraction", float, "of the structures, held out by trajectory"),
    ("patience", int, "epochs without a better validation error before stopping"),
    ("members", int, "size of a committee"),
    ("processes", int, "data-parallel processes"),
    ("seed", int, "of all random numbers"),
    ("output", str, "folder of the results"),
    ("fine_tune", str, "model file to start from"),
)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of `qnep train`."""
    parser = subparsers.add_parser("train", help="fit a model to labelled structures")
    parser.add_argument("config", help="nep.in, or a .toml file with [model], [training], [loss]")
    parser.add_argument("--check", action="store_true", help="look at the data and stop")
    parser.add_argument(
        "--resume", action="store_true", help="continue from the checkpoint in the output folder"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    for name, kind, meaning in _OPTIONS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=meaning, dest=name)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Check the data, or train."""
    from qnep._optional import require

    require("torch", extra="train")
    from qnep.train.settings import read_settings

    settings = _with_options(read_settings(options.config, options.fine_tune or ""), options)
    _require_meaning(settings.training)
    if options.check:
        _check(settings)
    else:
        _train(settings, options)


def _with_options(settings: Settings, options: argparse.Namespace) -> Settings:
    given: dict[str, Any] = {
        name: getattr(options, name)
        for name, _, _ in _OPTIONS
        if getattr(options, name) is not None
    }
    return dataclasses.replace(settings, training=dataclasses.replace(settings.training, **given))


def _require_meaning(training: TrainingSettings) -> None:
    """Raise SettingsError for values that would do nothing, or the contrary of what they are for, in a run of its own.

    `qnep learn` shares these settings among many trainings, of which not each has old structures or a committee.
    """
    from qnep.train.settings import SettingsError

    wrong = {
        "bootstrap needs a committee: give members = 2 or more": training.bootstrap
        and training.members == 1,
        "new_weight is against replayed structures: give replay": training.new_weight != 1
        and not training.replay,
        "n_replay needs files of older structures: give replay": training.n_replay > 0
        and not training.replay,
        f"the learning rate must not rise, from {training.learning_rate:g} to final_learning_rate = "
        f"{training.final_learning_rate:g}": training.final_learning_rate > training.learning_rate,
    }
    for sentence, is_wrong in wrong.items():
        if is_wrong:
            raise SettingsError(sentence)


def _check(settings: Settings) -> None:
    from qnep.train.dataset import load_frames
    from qnep.train.hygiene import check_frames, format_findings

    model = settings.model
    frames = load_frames(settings.training.data, model.elements, model.charge_mode > 0)
    print(format_findings(check_frames(frames, model.elements)))


def _train(settings: Settings, options: argparse.Namespace) -> None:
    import logging

    from qnep.train.trainer import train

    _require_free_output(settings, options.resume)
    logging.getLogger("qnep.train").setLevel(logging.INFO)
    logging.getLogger().handlers[0].setLevel(logging.INFO)
    result = train(settings, resume=options.resume, show_progress=not options.quiet)
    for folder in result.folders:
        print(f"model, errors, plots and card: {folder}")


def _require_free_output(settings: Settings, resume: bool) -> None:
    """Raise SettingsError before a run would replace another one, or the model it starts from."""
    from qnep.train.member import CHECKPOINT_FILE, MODEL_FILE
    from qnep.train.settings import SettingsError
    from qnep.train.trainer import member_folders

    start = settings.training.fine_tune
    for folder in member_folders(settings):
        if start and (folder / MODEL_FILE).resolve() == Path(start).resolve():
            raise SettingsError(
                f"the result would replace {start}, which it starts from: give another output, "
                'as output = "tuned" or --output tuned'
            )
        if not resume and (folder / CHECKPOINT_FILE).exists():
            raise SettingsError(f"{folder} holds a training already: --resume, or another output")
