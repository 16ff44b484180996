"""`hold_device_memory.py MEGABYTES COMMAND...`: run a command while no more than that is free on the NVIDIA GPU.

The rest is held by a plain allocation. It is for the test of the message about too little memory.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys


def runtime() -> ctypes.CDLL:
    """CUDA's runtime library."""
    for name in ("libcudart.so.13", "libcudart.so.12", "libcudart.so"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise SystemExit("hold_device_memory: no libcudart in the folders of the loader")


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
