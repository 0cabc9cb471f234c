import numpy as np
import pytest

from scratchlm.train import blas_threads, threads


def test_the_number_is_set_and_given_back():
    library = threads._openblas()
    if library is None:
        pytest.skip("this NumPy brought no OpenBLAS")
    count, _ = library
    before = count()
    with blas_threads(1) as done:
        assert done
        assert count() == 1
        with blas_threads(2):
            assert count() == 2
            np.ones((300, 300)) @ np.ones((300, 300))
        assert count() == 1
    assert count() == before
    with pytest.raises(KeyError), blas_threads(1):
        raise KeyError
    assert count() == before


def test_another_blas_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(threads, "_openblas", lambda: None)
    with blas_threads(1) as done:
        assert not done


def test_no_threads():
    with pytest.raises(ValueError, match="count=0 must be at least 1"), blas_threads(0):
        pass
