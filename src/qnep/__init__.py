"""qnep: charge-aware neuroevolution potentials where interface chemists work.

The names of the interface are loaded when they are first used, so that ``import qnep`` is quick and needs no
compiled part.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("qnep")
except PackageNotFoundError:  # a source tree on the path that was never installed
    __version__ = "unknown"

_HOME = {
    "QNEP": "qnep.calculator",
    "Committee": "qnep.calculator",
    "Model": "qnep.model",
    "ModelError": "qnep.model",
    "random_model": "qnep.model",
    "read_frames": "qnep.io",
}

__all__ = ["QNEP", "Committee", "Model", "ModelError", "__version__", "random_model", "read_frames"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'qnep' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
