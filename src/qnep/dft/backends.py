"""Named DFT codes as ASE calculators: which there are, whether they are installed, how to get them."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.units import Rydberg, kB

from qnep._optional import require
from qnep.dft.reference_calculator import ReferenceCalculator, is_scf_error
from qnep.dft.settings import Settings, load_preset

logger = logging.getLogger(__name__)

METALS = {"Li", "Na", "K", "Mg", "Ca", "Al", "Zn", "Cu"}
METAL_BOND = 4.3  # Å; nearest neighbours are 3.72 Å apart in bcc Na


class BackendMissing(OSError):
    """A DFT code is not installed; the text says how to get it."""


@dataclass(frozen=True)
class Backend:
    """How one DFT code is found, made into a calculator and judged.

    Parameters
    ----------
    name : as `get_backend` takes it.
    summary : one line for lists.
    how_to_get : a sentence.
    find_version : returns the version, or None where the code is not installed.
    make_calculator : of (atoms, grid of k-points, settings, folder for files) -> ASE calculator of the code alone.
    adds_dispersion : the code itself adds the D3 of the settings.
    is_for_metals : False where metals come out wrong.
    is_not_converged : of (error of the code, folder of its files) -> whether the code names a density that did not
        converge, which is the structure's doing; any other error may be that of a broken installation.
    """

    name: str
    summary: str
    how_to_get: str
    find_version: Callable[[], str | None]
    make_calculator: Callable[[Atoms, tuple[int, int, int], Settings, Path], BaseCalculator]
    adds_dispersion: bool = False
    is_for_metals: bool = True
    is_not_converged: Callable[[Exception, Path], bool] = is_scf_error


@dataclass(frozen=True)
class BackendStatus:
    """One line of `list_backends`."""

    name: str
    summary: str
    version: str | None
    how_to_get: str

    @property
    def is_installed(self) -> bool:
        """Whether the backend can be used now."""
        return self.version is not None


def get_backend(name: str, directory: str | Path = ".", **settings: Any) -> ReferenceCalculator:
    """Return an ASE calculator that labels structures with a DFT code.

    Parameters
    ----------
    name : "tblite", "gpaw", "cp2k", "espresso", "vasp", or "module:callable" for any ASE calculator: the callable is
        called with the setting `options` as keywords.
    directory : where the code writes its files.
    settings : changes of the preset, see `qnep.dft.Settings`.

    Raises
    ------
    ValueError : unknown backend or setting.
    BackendMissing : the code is not installed; the text says how to get it.
    """
    return make_reference(name, backend_settings(name, **settings), directory)


def make_reference(name: str, settings: Settings, directory: str | Path) -> ReferenceCalculator:
    """Return the calculator of a backend for complete settings; raises as `get_backend` does."""
    require_backend(name)
    backend = find_backend(name)
    return ReferenceCalculator(
        make_calculator=backend.make_calculator,
        settings=settings,
        adds_dispersion=backend.adds_dispersion,
        check_structure=None if backend.is_for_metals else _warn_about_metal,
        directory=Path(directory),
        is_not_converged=backend.is_not_converged,
    )


def require_backend(name: str) -> None:
    """Raise BackendMissing where the code is not installed on this machine, ValueError where there is no such name."""
    backend = find_backend(name)
    if backend.find_version() is None:
        raise BackendMissing(f"the backend {name} is not installed: {backend.how_to_get}")


def backend_settings(name: str, **changes: Any) -> Settings:
    """Return the preset of a backend with changes; also for backends that are not installed."""
    find_backend(name)
    if ":" in name:
        return load_preset("module").replace(**{"level": name, **changes})
    return load_preset(name).replace(**changes)


def backend_version(name: str) -> str:
    """Return the version of the code, "" where it has none."""
    return find_backend(name).find_version() or ""


def list_backends() -> list[BackendStatus]:
    """Return all named backends, installed or not."""
    return [
        BackendStatus(backend.name, backend.summary, backend.find_version(), backend.how_to_get)
        for backend in BACKENDS.values()
    ]


def find_backend(name: str) -> Backend:
    """Return the description of a backend.

    Raises
    ------
    ValueError : unknown name, or an import path that leads nowhere.
    """
    if ":" in name:
        return _imported_backend(name)
    if name not in BACKENDS:
        raise ValueError(
            f"unknown backend {name!r}; there are {', '.join(BACKENDS)}, "
            "and module:callable for any ASE calculator"
        )
    return BACKENDS[name]


# --- the codes -----------------------------------------------------------------------------------------------------


def _make_tblite(
    atoms: Atoms, grid: tuple[int, int, int], settings: Settings, directory: Path
) -> BaseCalculator:
    if grid != (1, 1, 1):
        raise ValueError(f"tblite has no k-points, got a grid {grid}: use kpts=(1, 1, 1)")
    return require("tblite.ase", "dft").TBLite(
        method=settings.xc,
        charge=settings.total_charge,
        multiplicity=(settings.n_unpaired or 0) + 1 if settings.n_unpaired is not None else None,
        electronic_temperature=settings.smearing_eV / kB,
        verbosity=0,
        **settings.options,
    )


def _is_tblite_not_converged(failure: Exception, directory: Path) -> bool:
    """It has one class for all its errors: "SCF not converged in 250 cycles"."""
    return "SCF not converged" in str(failure)


def _make_gpaw(
    atoms: Atoms, grid: tuple[int, int, int], settings: Settings, directory: Path
) -> BaseCalculator:
    gpaw = importlib.import_module("gpaw")
    options = dict(settings.options)
    has_spin = settings.n_unpaired is not None
    if settings.n_unpaired is not None:
        atoms.set_initial_magnetic_moments(np.full(len(atoms), settings.n_unpaired / len(atoms)))
    return gpaw.GPAW(
        mode=gpaw.PW(settings.cutoff_eV),
        xc=settings.xc,
        kpts=grid,
        # Time reversal keeps the result and halves the k-points; the point group would need perfect symmetry.
        symmetry="off" if grid == (1, 1, 1) else {"point_group": False},
        # One Fermi level for both spins would let the moment relax away from what the label is said to be of.
        occupations=gpaw.FermiDirac(settings.smearing_eV, fixmagmom=has_spin),
        mixer=gpaw.Mixer(*options.pop("mixer", (0.05, 5, 50))),
        charge=settings.total_charge,
        txt=str(directory / "gpaw.txt"),
        spinpol=has_spin,
        **options,
    )


def _is_gpaw_not_converged(failure: Exception, directory: Path) -> bool:
    return isinstance(failure, importlib.import_module("gpaw").KohnShamConvergenceError)


def _make_cp2k(
    atoms: Atoms, grid: tuple[int, int, int], settings: Settings, directory: Path
) -> BaseCalculator:
    from qnep.dft.checked_cp2k import CheckedCP2K

    if settings.total_charge % 1:
        raise ValueError(
            f"cp2k takes whole charges, got total_charge = {settings.total_charge:g} e"
        )
    options = dict(settings.options)
    sodium = options.pop("sodium_potential", None)
    return CheckedCP2K(
        label=str(directory / "cp2k"),
        command=_cp2k_program(),
        xc=settings.xc,
        cutoff=settings.cutoff_eV,
        charge=int(settings.total_charge),
        uks=settings.n_unpaired is not None,
        multiplicity=None if settings.n_unpaired is None else settings.n_unpaired + 1,
        inp=cp2k_input(grid, settings, sodium if "Na" in atoms.get_chemical_symbols() else None),
        **options,
    )


def cp2k_input(grid: tuple[int, int, int], settings: Settings, sodium_potential: str | None) -> str:
    """Return the sections of a CP2K input that ASE does not write: smearing, k-points, the pseudopotential of Na."""
    temperature = settings.smearing_eV / kB
    # Without it the multiplicity is a first guess only: smearing lets the moment relax.
    moment = (
        "" if settings.n_unpaired is None else f"FIXED_MAGNETIC_MOMENT {settings.n_unpaired:.1f}\n"
    )
    kind = f"&SUBSYS\n&KIND Na\nPOTENTIAL {sodium_potential}\n&END KIND\n&END SUBSYS\n"
    return (
        "&FORCE_EVAL\n&DFT\n"
        f"&KPOINTS\nSCHEME MONKHORST-PACK {grid[0]} {grid[1]} {grid[2]}\n&END KPOINTS\n"
        "&SCF\nADDED_MOS 50\n"
        f"&SMEAR ON\nMETHOD FERMI_DIRAC\nELECTRONIC_TEMPERATURE [K] {temperature:.1f}\n{moment}&END SMEAR\n"
        "&MIXING\nMETHOD BROYDEN_MIXING\nALPHA 0.1\n&END MIXING\n"
        "&END SCF\n&END DFT\n" + (kind if sodium_potential else "") + "&END FORCE_EVAL\n"
    )


def _make_espresso(
    atoms: Atoms, grid: tuple[int, int, int], settings: Settings, directory: Path
) -> BaseCalculator:
    from ase.calculators.espresso import Espresso, EspressoProfile

    options = dict(settings.options)
    missing = [key for key in ("pseudopotentials", "pseudo_dir") if key not in options]
    if missing:
        raise ValueError(
            f"espresso needs {' and '.join(missing)} in the setting options: a folder of UPF files and the file of "
            "each element, as {'Na': 'Na.pbe-spn-kjpaw_psl.1.0.0.UPF', ...}"
        )
    profile = EspressoProfile(options.pop("command"), options.pop("pseudo_dir"))
    return Espresso(
        profile=profile,
        directory=directory,
        pseudopotentials=options.pop("pseudopotentials"),
        kpts=grid,
        input_data=espresso_input(settings, options),
    )


def espresso_input(settings: Settings, options: dict[str, Any]) -> dict[str, Any]:
    """Return the namelists of pw.x as a flat table."""
    cutoff_Ry = (settings.cutoff_eV or 0.0) / Rydberg
    spin = {}
    if settings.n_unpaired is not None:
        spin = {"nspin": 2, "tot_magnetization": settings.n_unpaired}
    return {
        "calculation": "scf",
        "tprnfor": True,
        "tstress": True,
        "input_dft": settings.xc,
        "ecutwfc": cutoff_Ry,
        "ecutrho": 8 * cutoff_Ry,
        "occupations": "smearing",
        "smearing": "fermi-dirac",
        "degauss": settings.smearing_eV / Rydberg,
        "tot_charge": settings.total_charge,
        "nosym": True,
        **spin,
        **options,
    }


def _is_espresso_not_converged(failure: Exception, directory: Path) -> bool:
    """pw.x stops, and ASE tells its exit status only; the log is that of the last structure."""
    log = directory / "espresso.pwo"
    return log.exists() and b"convergence NOT achieved" in log.read_bytes()


def _make_vasp(
    atoms: Atoms, grid: tuple[int, int, int], settings: Settings, directory: Path
) -> BaseCalculator:
    from ase.calculators.vasp import Vasp

    return Vasp(directory=str(directory), **vasp_parameters(atoms, grid, settings))


def vasp_parameters(atoms: Atoms, grid: tuple[int, int, int], settings: Settings) -> dict[str, Any]:
    """Return the keywords of ASE's Vasp calculator."""
    charge: dict[str, Any] = {"charge": settings.total_charge} if settings.total_charge else {}
    spin: dict[str, Any] = (
        {"ispin": 1}
        if settings.n_unpaired is None
        else {"ispin": 2, "nupdown": settings.n_unpaired}
    )
    return {
        "xc": settings.xc.lower(),
        "encut": settings.cutoff_eV,
        "sigma": settings.smearing_eV,
        "ivdw": {"none": 0, "d3zero": 11, "d3bj": 12}[settings.dispersion],
        "kpts": grid,
        "gamma": True,
        "isym": 0,
        **charge,
        **spin,
        **settings.options,
    }


def _imported_backend(path: str) -> Backend:
    module, _, name = path.partition(":")
    try:
        factory = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as failure:
        raise ValueError(f"cannot import the backend {path!r}: {failure}") from failure
    return Backend(
        name=path,
        summary="ASE calculator by import path",
        how_to_get="",
        find_version=lambda: _distribution_version(module.partition(".")[0]) or "unknown",
        make_calculator=lambda atoms, grid, settings, directory: factory(**settings.options),
    )


# --- where the codes are -------------------------------------------------------------------------------------------


def _distribution_version(package: str) -> str | None:
    if importlib.util.find_spec(package) is None:
        return None
    try:
        return version(package)
    except ImportError:  # importable, not installed as a distribution
        return "unknown"


def _cp2k_program() -> str | None:
    names = ("cp2k_shell", "cp2k_shell.psmp", "cp2k_shell.ssmp", "cp2k_shell.popt")
    return next((name for name in names if shutil.which(name)), None)


def _program_version(program: str | None) -> str | None:
    return f"found as {program}" if program and shutil.which(program) else None


def _vasp_version() -> str | None:
    from ase.config import cfg

    command = cfg.get("ASE_VASP_COMMAND") or cfg.get("VASP_COMMAND")
    return f"run by {command}" if command else _program_version("vasp_std")


def _warn_about_metal(atoms: Atoms) -> None:
    """Warn where a metal atom has at least four metal neighbours."""
    from vesin import ase_neighbor_list

    metals = atoms[[symbol in METALS for symbol in atoms.get_chemical_symbols()]]
    if len(metals) < 5:
        return
    (first,) = ase_neighbor_list("i", metals, METAL_BOND)
    if np.bincount(first, minlength=len(metals)).max(initial=0) >= 4:
        warnings.warn(
            "GFN-xTB is wrong for metals (no lattice minimum for Na, forces opposite to PBE's): use it for the "
            "molecules only, and gpaw for cells with metal",
            stacklevel=2,
        )


BACKENDS = {
    backend.name: backend
    for backend in (
        Backend(
            "tblite",
            "GFN1-xTB, seconds per structure; not for metals",
            "pip install 'qnep[dft]'",
            lambda: _distribution_version("tblite"),
            _make_tblite,
            is_for_metals=False,
            is_not_converged=_is_tblite_not_converged,
        ),
        Backend(
            "gpaw",
            "PBE + D3(BJ), plane waves",
            "apt-get install libxc-dev libopenblas-dev libfftw3-dev gcc, then pip install gpaw with the siteconfig.py "
            "of docs/labelling.md (conda install -c conda-forge gpaw also works)",
            lambda: _distribution_version("gpaw"),
            _make_gpaw,
            is_not_converged=_is_gpaw_not_converged,
        ),
        Backend(
            "cp2k",
            "PBE + D3(BJ), Gaussians and plane waves",
            "apt-get install cp2k, so that cp2k_shell is on the PATH",
            lambda: _program_version(_cp2k_program()),
            _make_cp2k,
        ),
        Backend(
            "espresso",
            "PBE + D3(BJ), plane waves, pw.x",
            "apt-get install quantum-espresso, so that pw.x is on the PATH, and UPF files from "
            "pseudopotentials.quantum-espresso.org",
            lambda: _program_version("pw.x"),
            _make_espresso,
            is_not_converged=_is_espresso_not_converged,
        ),
        Backend(
            "vasp",
            "PBE + D3, 600 eV: the published settings",
            "VASP is licensed by VASP Software GmbH; set ASE_VASP_COMMAND and VASP_PP_PATH once it is there",
            _vasp_version,
            _make_vasp,
            adds_dispersion=True,
        ),
    )
}
"""All named backends."""
