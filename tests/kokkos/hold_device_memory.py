"""`hold_device_memory.py MEGABYTES COMMAND...`: run a command while no more than that is free on the NVIDIA GPU.

The rest is held by a plain allocation. It is for the test of the message about too little memory.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path


def toolkits() -> list[Path]:
    """Folders in which a CUDA toolkit may be."""
    given, nvcc = os.environ.get("CUDA_ROOT"), shutil.which("nvcc")
    places = [Path(given)] if given else []
    places += [Path(nvcc).resolve().parents[1]] if nvcc else []
    return [*places, *sorted(Path("/usr/local").glob("cuda*"), reverse=True)]


def runtime() -> ctypes.CDLL:
    """CUDA's runtime library."""
    names = ["libcudart.so.13", "libcudart.so.12", "libcudart.so"]
    for place in toolkits():
        for folder in ("lib64", "lib"):
            names += map(str, sorted((place / folder).glob("libcudart.so*"), reverse=True))
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise SystemExit(
        "hold_device_memory: no libcudart in the folders of the loader, nor in lib64 of CUDA_ROOT"
    )


def hold_all_but(n_bytes: int) -> None:
    """Allocate until so many bytes are left; freed when the process ends."""
    cuda = runtime()
    free, total, place = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_void_p()
    status = cuda.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    if status == 0 and free.value > n_bytes:
        status = cuda.cudaMalloc(ctypes.byref(place), ctypes.c_size_t(free.value - n_bytes))
    if status != 0:
        raise SystemExit(f"hold_device_memory: the CUDA runtime said {status}")


if __name__ == "__main__":
    hold_all_but(int(sys.argv[1]) * 1_000_000)
    sys.exit(subprocess.run(sys.argv[2:], check=False).returncode)
