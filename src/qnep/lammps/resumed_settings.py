"""Options beside --resume: a run that goes on keeps its settings, and what is given again must be the same."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any


def with_default(meaning: str, default: object) -> str:
    """Return the help of an option that has no default in the parser, so that it is known whether it was given."""
    return f"{meaning} (default: {default})".lstrip()


def given_settings(options: argparse.Namespace, names: Collection[str]) -> dict[str, Any]:
    """Return those of the named settings that stand in the command line; their options have the default None."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(options).items()
        if name in names and value is not None
    }


def option_of(setting: str, options: Mapping[str, str]) -> str:
    """Return the option of a setting: its own name, unless `options` has another one."""
    return options.get(setting, f"--{setting.replace('_', '-')}")


def require_kept(
    given: Mapping[str, Any],
    stored: Mapping[str, Any],
    file: Path,
    options: Mapping[str, str] | None = None,
) -> None:
    """Check the settings that are given for a run that goes on.

    Parameters
    ----------
    given, stored : values of settings in the command line, and of the run.
    file : that holds the run's, for the message.
    options : of settings that the command line knows by another name.

    Raises
    ------
    ValueError : a value differs from the run's, or the run does not say what it had.
    """
    for name, value in given.items():
        option = option_of(name, options or {})
        if name not in stored:
            raise ValueError(
                f"{option}: a resumed run keeps its settings, and {file} does not say what this one was: leave it "
                f"out, got {_words(value)}"
            )
        if value != stored[name]:
            raise ValueError(
                f"{option}: a resumed run keeps its settings, wanted {_words(stored[name])} as in {file}, "
                f"got {_words(value)}"
            )


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
