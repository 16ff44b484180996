"""Import of optional packages with an error that says what to install."""

from __future__ import annotations

import importlib
from types import ModuleType


class MissingExtra(ImportError):
    """An optional package is not installed; the text names the extra that brings it."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional package.

    Parameters
    ----------
    module : dotted name, as ``"torch"`` or ``"sklearn.cluster"``.
    extra : of qnep's optional dependencies, as ``"train"``.

    Returns
    -------
    The module that the whole dotted name stands for.

    Raises
    ------
    MissingExtra : the package is absent. A package that is there but fails on its own imports raises its own error.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        package = module.partition(".")[0]
        if missing.name is None or missing.name.partition(".")[0] != package:
            raise
        raise MissingExtra(
            f"this needs the package {package!r}, which is not installed: pip install 'qnep[{extra}]'",
            name=missing.name,
        ) from missing
