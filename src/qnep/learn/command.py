"""The command `qnep learn`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qnep.learn.learner import Learner


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of `qnep learn`."""
    parser = subparsers.add_parser(
        "learn", help="active learning: sample, screen, label, train, repeat"
    )
    parser.add_argument("config", type=Path, help="TOML file, see docs/learning.md")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in the output folder"
    )
    parser.add_argument(
        "--explain", action="store_true", help="say what was decided and why, and do nothing else"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int | None:
    """Learn, or explain; returns 1 if the loop could not go on by itself."""
    from qnep.learn.settings import make_learner, read_configuration

    configuration = read_configuration(options.config)
    if options.explain:
        _explain(configuration.output)
        return None
    return _learn(make_learner(configuration, options.resume))


def _explain(folder: Path) -> None:
    from qnep.learn.explain import explain

    for line in explain(folder):
        print(line)


def _learn(learner: Learner) -> int | None:
    from qnep.learn.explain import summarise
    from qnep.learn.exploration import ExplorationFailed
    from qnep.learn.learner import LearningFailed
    from qnep.learn.reference import ReferenceFailed

    try:
        state = learner.run()
    except (LearningFailed, ReferenceFailed, ExplorationFailed) as failure:
        print(
            f"stopped: {failure}\neverything up to here is in {learner.folder}; --resume tries again"
        )
        return 1
    for line in summarise(state):
        print(line)
    print(f"models: {', '.join(str(learner.folder / file) for file in state.models)}")
    return None
