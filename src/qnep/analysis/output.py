"""Whether results can be written, asked before hours of work and not after."""

from __future__ import annotations

import os
from pathlib import Path

from qnep.files import check_replaceable


def check_output(path: Path) -> None:
    """Raise ValueError where a file cannot be written; its folder may be absent, since it is made then."""
    folder = path.parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise ValueError(f"{path}: wanted a folder to write to, but {folder} is none")
    check_replaceable(folder / path.relative_to(folder).parts[0])
