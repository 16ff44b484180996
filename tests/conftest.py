"""What tests of several rooms share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of reference data of other codes; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("QNEP_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("reference data not found: set QNEP_SHARED_DATA to their folder")
    return folder


@pytest.fixture
def generator(request: pytest.FixtureRequest) -> np.random.Generator:
    """A random generator whose seed depends only on the name of the test."""
    return np.random.default_rng(list(request.node.name.encode()))
