"""A linear algebra library that does not know the processor."""

from __future__ import annotations

import pytest

from qnep._core import available_simd
from qnep.dft import Labeller, Pool
from qnep.dft.blas import describe_slow_blas

BACKEND = "fakes:lennard_jones"


def openblas(architecture: str, **changes: str) -> dict[str, str]:
    return {
        "internal_api": "openblas",
        "filepath": "/lib/libopenblas.so",
        "version": "0.3.21",
        "architecture": architecture,
        **changes,
    }


@pytest.mark.parametrize(
    ("libraries", "simd", "said"),
    [
        ([openblas("Prescott")], ["sse2", "avx2", "avx512"], "set OPENBLAS_CORETYPE=SkylakeX"),
        ([openblas("Haswell"), openblas("Nehalem")], ["sse2", "avx2"], "OPENBLAS_CORETYPE=Haswell"),
        ([openblas("Prescott")], ["sse2"], ""),
        ([openblas("Zen"), openblas("a core of tomorrow")], ["sse2", "avx2"], ""),
        ([{"internal_api": "openmp"}, openblas("Prescott", internal_api="blis")], ["avx2"], ""),
    ],
)
def test_which_libraries_are_slow(libraries, simd, said):
    sentence = describe_slow_blas(libraries, simd)
    assert said in sentence
    assert bool(sentence) == bool(said)
    if said:
        assert "is run by /lib/libopenblas.so (OpenBLAS 0.3.21, code for" in sentence


def test_a_run_of_labels_says_it_once(tmp_path, numbered_pairs, monkeypatch, caplog):
    """NumPy's own OpenBLAS, loaded in every worker, is told to take the code of 2004."""
    threadpoolctl = pytest.importorskip("threadpoolctl")
    if "openblas" not in {library["internal_api"] for library in threadpoolctl.threadpool_info()}:
        pytest.skip("NumPy uses another library than OpenBLAS here")
    if "avx2" not in available_simd():
        pytest.skip("this processor has no AVX2")
    pool = Pool(tmp_path / "pool.db")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    Labeller(pool, BACKEND).run(numbered_pairs(4)[:1])
    assert not caplog.text
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    labeller = Labeller(pool, BACKEND)
    labeller.run(numbered_pairs(4)[1:3])
    labeller.run(numbered_pairs(4)[3:])
    assert caplog.text.count("code for processors without AVX") == 1
    assert "set OPENBLAS_CORETYPE=" in caplog.text
