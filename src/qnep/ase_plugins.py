"""What ASE finds through entry points: the calculator under the name `qnep` and GPUMD's dialect of extended XYZ.

Imported by `import ase.io` in every program, so nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from ase import Atoms
from ase.calculators.calculator import external_calculators, register_calculator_class
from ase.utils.plugins import ExternalIOFormat


class LazyQNEP:
    """Stands in ASE's table of calculators; making one gives a `qnep.QNEP`."""

    nolabel = True

    def __new__(cls, *args: Any, **settings: Any) -> Any:
        from qnep.calculator import QNEP

        return QNEP(*args, **settings)


if "qnep" not in external_calculators:
    register_calculator_class("qnep", LazyQNEP)

gpumd_xyz_format = ExternalIOFormat(
    desc="extended XYZ with GPUMD's keys", code="+F", module="qnep.ase_plugins"
)


def read_gpumd_xyz(file: IO[str], index: int | slice = -1) -> Iterator[Atoms]:
    """Reader of `ase.io.read(file, format="gpumd-xyz")`."""
    from qnep.io import iread_xyz

    frames = list(iread_xyz(file, getattr(file, "name", "file")))
    yield from frames[index] if isinstance(index, slice) else [frames[index]]
