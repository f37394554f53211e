import numpy as np
import pytest

from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.training.optimizer import OptimizerConfig, learning_rate_schedule


def test_learning_rate_rises_linearly_and_falls_linearly_to_a_tenth():
    schedule = learning_rate_schedule(OptimizerConfig(learning_rate=1.0, warmup_steps=10), steps=110)
    np.testing.assert_allclose([schedule(n) for n in (0, 4, 9, 10)], [0.1, 0.5, 1.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose([schedule(60), schedule(110)], [0.55, 0.1], rtol=1e-5)


def test_warm_up_longer_than_the_run_is_no_error():
    schedule = learning_rate_schedule(OptimizerConfig(learning_rate=1.0, warmup_steps=1500), steps=20)
    np.testing.assert_allclose(schedule(19), 1.0, rtol=1e-6)


def test_nonsense_is_refused():
    with pytest.raises(UserError):
        OptimizerConfig(learning_rate=0.0)
