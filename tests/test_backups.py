"""The backups and the Boltzmann policy, by hand."""

import math
from typing import get_args

import numpy as np
import pytest

from elpa_env.backups import SOFT_BACKUPS, Backup, ExactBackup, boltzmann, check_beta, state_values
from elpa_env.errors import InputError

CLOSED = -np.inf
Q = np.array([[0.0, 1.0, CLOSED], [2.0, 2.0, 2.0], [-3.0, CLOSED, CLOSED], [CLOSED] * 3])


class TestNames:
    def test_of_training_and_of_the_exact_solution(self):
        assert get_args(Backup) == ("max", "double", "soft", "soft-double")
        assert get_args(ExactBackup) == ("max", "soft")
        assert SOFT_BACKUPS == ("soft", "soft-double")


class TestBeta:
    @pytest.mark.parametrize("beta", [0, 0.0, 1e-9, 5.5, math.inf])
    def test_is_given_back(self, beta):
        assert check_beta(beta) == beta

    @pytest.mark.parametrize("beta", [-1e-9, -1, -math.inf, math.nan])
    def test_is_refused(self, beta):
        with pytest.raises(InputError, match=f"beta must be at least 0, got {beta}"):
            check_beta(beta)


class TestBoltzmann:
    def test_by_hand(self):
        e = math.exp(2)
        third = [1 / 3] * 3
        expected = [[1 / (1 + e), e / (1 + e), 0], third, [1, 0, 0], [0] * 3]
        np.testing.assert_allclose(boltzmann(Q, 2.0), expected)
        np.testing.assert_allclose(boltzmann(Q, 0.0), [[0.5, 0.5, 0], third, [1, 0, 0], [0] * 3])
        np.testing.assert_allclose(boltzmann(Q, math.inf), [[0, 1, 0], third, [1, 0, 0], [0] * 3])

    def test_only_differences_count_however_large(self):
        for shift in (-1e6, 1e6):
            np.testing.assert_allclose(boltzmann(Q + shift, 2.0), boltzmann(Q, 2.0), rtol=1e-9)
        np.testing.assert_allclose(boltzmann(np.array([[0.0, 1e300, CLOSED]]), 1e6), [[0, 1, 0]])
        np.testing.assert_allclose(
            boltzmann(np.array([[0.0, -2.0, -4.0]]), 0.5)[0, 2], 1 / (1 + math.e + math.e**2)
        )

    def test_the_q_values_stay(self):
        q = Q.copy()
        boltzmann(q, 2.0)
        np.testing.assert_array_equal(q, Q)


class TestStateValues:
    def test_max(self):
        np.testing.assert_array_equal(state_values(Q, backup="max", beta=2.0), [1, 2, -3, CLOSED])

    def test_soft(self):
        expected = [math.log(1 + math.exp(2)) / 2, math.log(3 * math.exp(4)) / 2, -3, CLOSED]
        np.testing.assert_allclose(state_values(Q, backup="soft", beta=2.0), expected)

    def test_soft_overflows_nowhere(self):
        """β Q far beyond what exp can take; only what is below the best by some 1/β counts."""
        q = np.array([[1e5, 1e5 - 1e-3, -1e5]])
        expected = 1e5 + math.log(1 + math.exp(-1)) / 1e3
        np.testing.assert_allclose(state_values(q, backup="soft", beta=1e3), [expected], rtol=1e-12)
