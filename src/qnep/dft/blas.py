"""Whether the linear algebra of a DFT code makes use of this processor."""

from __future__ import annotations

from typing import Any

CORES_WITHOUT_AVX = {
    "unknown", "generic", "katmai", "coppermine", "northwood", "prescott", "banias", "core2", "penryn", "dunnington",
    "atom", "nehalem", "athlon", "opteron", "opteron_sse3", "barcelona", "bobcat", "nano",
}  # fmt: skip
"""As OpenBLAS calls them, `gotoblas_corename` in its driver/others/dynamic.c, in lower case."""


def slow_blas() -> str:
    """Return a sentence on an OpenBLAS in this process that runs code for much older processors, or an empty one.

    An OpenBLAS that is older than the processor takes the kernels of one from 2004. Nothing is said where threadpoolctl
    is not installed.
    """
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return ""
    from qnep._core import available_simd

    return describe_slow_blas(threadpool_info(), available_simd())


def describe_slow_blas(libraries: list[dict[str, Any]], simd: list[str]) -> str:
    """Return the sentence of `slow_blas` for the libraries of a process and the instruction sets of its processor.

    Parameters
    ----------
    libraries : as `threadpoolctl.threadpool_info` describes them.
    simd : as ``qnep doctor`` shows them: sse2, avx2, avx512.
    """
    if "avx2" not in simd:
        return ""
    # Sorted, since threadpoolctl's order changes, and a sentence that was said is known again by its words.
    slow = sorted(
        f"{library['filepath']} (OpenBLAS {library['version']}, code for {library['architecture']})"
        for library in libraries
        if library["internal_api"] == "openblas"
        and library["architecture"].lower() in CORES_WITHOUT_AVX
    )
    if not slow:
        return ""
    remedy = "SkylakeX" if "avx512" in simd else "Haswell"
    return (
        f"code for processors without AVX, which may take twice the time here, is run by {' and '.join(slow)}: set "
        f"OPENBLAS_CORETYPE={remedy} in the environment of the labels"
    )
