"""Where the PLUMED kernel is, and its command-line tools (driver, sum_hills) without its program."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

KERNEL_FILE = "libplumedKernel.so"
HOW_TO_GET_ONE = (
    "no PLUMED kernel found: install one with 'pip install --no-deps hillclimber' or "
    "'conda install -c conda-forge plumed', or set the environment variable PLUMED_KERNEL to the "
    f"path of a {KERNEL_FILE}"
)


class PlumedError(ValueError):
    """PLUMED is absent or refused its input; the text holds PLUMED's own message."""


def find_kernel() -> Path:
    """Return the path of the PLUMED kernel.

    The environment variable PLUMED_KERNEL comes first, then the Python package ``plumed`` that carries a kernel.

    Raises
    ------
    PlumedError : there is none; says how to get one.
    """
    named = os.environ.get("PLUMED_KERNEL")
    if named:
        if not Path(named).is_file():
            raise PlumedError(f"PLUMED_KERNEL={named} is no file; {HOW_TO_GET_ONE}")
        return Path(named)
    package = importlib.util.find_spec("plumed")
    for folder in package.submodule_search_locations or [] if package else []:
        kernel = Path(folder) / "_lib" / "lib" / KERNEL_FILE
        if kernel.is_file():
            return kernel
    raise PlumedError(HOW_TO_GET_ONE)


def run_plumed_tool(*arguments: str, folder: str | Path = ".") -> str:
    """Run a tool of the kernel (``"driver"``, ``"sum_hills"``, ...) in its own process.

    Parameters
    ----------
    arguments : as after the word ``plumed`` on a command line.
    folder : where it runs; relative paths in the arguments start there.

    Returns
    -------
    What the tool wrote to standard output.

    Raises
    ------
    PlumedError : the tool failed; the text holds PLUMED's messages.
    """
    kernel = find_kernel()
    # A kernel in a Python package was moved after it was built and does not know its own folder.
    environment = {
        "PLUMED_ROOT": str(kernel.parent / "plumed"),
        **os.environ,
        "PLUMED_KERNEL": str(kernel),
    }
    result = subprocess.run(
        [sys.executable, __file__, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        lines = (result.stdout + "\n" + result.stderr).strip().splitlines()
        told = [line for line in lines if not line.startswith("PLUMED: ") or "ERROR" in line]
        raise PlumedError(f"plumed {' '.join(arguments)}:\n" + "\n".join(told[-20:]))
    return result.stdout


def _run_here(arguments: list[str]) -> int:
    """Run a tool inside this process; an exception of PLUMED ends the process with its text."""
    kernel = ctypes.CDLL(str(find_kernel()), mode=ctypes.RTLD_GLOBAL)
    kernel.plumed_plumedmain_create.restype = ctypes.c_void_p
    kernel.plumed_plumedmain_cmd.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    kernel.plumed_plumedmain_cmd.restype = None
    main = kernel.plumed_plumedmain_create()
    words = [b"plumed", *(argument.encode() for argument in arguments)]
    argc, status = ctypes.c_int(len(words)), ctypes.c_int(0)
    argv = (ctypes.c_char_p * (len(words) + 1))(*words, None)
    kernel.plumed_plumedmain_cmd(main, b"CLTool setArgc", ctypes.byref(argc))
    kernel.plumed_plumedmain_cmd(main, b"CLTool setArgv", ctypes.cast(argv, ctypes.c_void_p))
    kernel.plumed_plumedmain_cmd(main, b"CLTool run", ctypes.byref(status))
    kernel.plumed_plumedmain_finalize.argtypes = [ctypes.c_void_p]
    kernel.plumed_plumedmain_finalize(main)
    return status.value


if __name__ == "__main__":
    sys.exit(_run_here(sys.argv[1:]))
