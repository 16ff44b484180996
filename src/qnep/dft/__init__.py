"""Labels from any DFT code: named backends, checks, a pool on disk, local and distributed runs."""

from qnep.dft.backends import (
    BackendMissing,
    backend_settings,
    get_backend,
    list_backends,
)
from qnep.dft.label import Label, Limits
from qnep.dft.labeller import Labeller, Summary
from qnep.dft.pool import Pool, PoolError
from qnep.dft.reference_calculator import NotConverged, ReferenceCalculator
from qnep.dft.settings import Settings, load_preset

__all__ = [
    "BackendMissing",
    "Label",
    "Labeller",
    "Limits",
    "NotConverged",
    "Pool",
    "PoolError",
    "ReferenceCalculator",
    "Settings",
    "Summary",
    "backend_settings",
    "get_backend",
    "list_backends",
    "load_preset",
]
