"""Training of models: labelled structures in, nep.txt out. Needs the extra `train` (PyTorch)."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "LossWeights": "settings",
    "ModelSettings": "settings",
    "Settings": "settings",
    "SettingsError": "settings",
    "TrainingResult": "trainer",
    "TrainingSettings": "settings",
    "check_frames": "hygiene",
    "format_findings": "hygiene",
    "load_frames": "dataset",
    "predict_frames": "report",
    "read_settings": "settings",
    "train": "trainer",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'qnep.train' has no attribute {name!r}")
    from qnep._optional import require

    require("torch", extra="train")
    return getattr(importlib.import_module(f"qnep.train.{_HOME[name]}"), name)
