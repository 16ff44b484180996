"""Where the compiled LAMMPS plugins are; LAMMPS asks through the entry-point group ``lammps.plugins``."""

from __future__ import annotations

import sysconfig
from pathlib import Path

PLUGIN = "qnepplugin.so"


def plugin_folder() -> str:
    """Return the folder that holds the plugins, for ``LAMMPS_PLUGIN_PATH``.

    In an editable install the compiled files lie in site-packages and the sources elsewhere. Without a compiled
    plugin this is the folder where it would be, which LAMMPS finds empty.
    """
    beside = Path(__file__).parent / "plugins"
    installed = Path(sysconfig.get_path("platlib")) / "qnep" / "lammps" / "plugins"
    for folder in (beside, installed):
        if (folder / PLUGIN).is_file():
            return str(folder)
    return str(beside)


def find_plugin() -> Path:
    """Return the plugin with ``pair_style qnep``.

    Raises
    ------
    FileNotFoundError : this installation was built without it.
    """
    path = Path(plugin_folder()) / PLUGIN
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: the LAMMPS plugin is not part of this installation; reinstall with pip install 'qnep[lammps]', "
            "or build plugins/lammps against your own LAMMPS"
        )
    return path
