import numpy as np
import pytest
import torch

from qnep.train.optimizers import Adam, EvolutionStrategy, Schedule, polish

TARGET = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
STIFFNESS = torch.tensor([1.0, 30.0, 0.3], dtype=torch.float64)


def loss_and_gradient(vector: torch.Tensor) -> tuple[float, torch.Tensor]:
    return float((STIFFNESS * (vector - TARGET) ** 2).sum()), 2 * STIFFNESS * (vector - TARGET)


def make_adam(**options: float) -> Adam:
    settings = {"weight_decay": 0.0, "clip": 5.0, "averaging": 0.9, **options}
    return Adam(torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64), **settings)


def run(adam: Adam, n_steps: int) -> None:
    for _ in range(n_steps):
        adam.step(loss_and_gradient(adam.vector.detach())[1], 0.05)


def test_schedule_warms_up_and_ends_at_the_final_rate():
    schedule = Schedule(start=1e-2, final=1e-4, warm_up_steps=10, n_steps=110)
    assert schedule.rate(0) == pytest.approx(1e-3)
    assert schedule.rate(10) == pytest.approx(1e-2)
    assert schedule.rate(60) == pytest.approx(0.5 * (1e-2 + 1e-4))
    assert schedule.rate(110) == pytest.approx(1e-4)


@pytest.mark.parametrize("n_steps", [1, 8, 30, 120])
def test_short_runs_reach_their_learning_rate(n_steps):
    """A warm-up of 200 steps takes a tenth of a run of 120; the rate ends at the final one."""
    schedule = Schedule(start=5e-3, final=1e-5, warm_up_steps=200, n_steps=n_steps)
    rates = [schedule.rate(step) for step in range(n_steps + 1)]
    assert max(rates) == pytest.approx(5e-3, rel=1e-2)
    assert rates[-1] == pytest.approx(1e-5)


def test_adam_finds_the_minimum():
    adam = make_adam()
    run(adam, 500)
    torch.testing.assert_close(adam.average, TARGET, atol=1e-3, rtol=0)


def test_adam_continues_to_the_same_numbers():
    adam, other = make_adam(weight_decay=0.1), make_adam(weight_decay=0.1)
    run(adam, 40)
    run(other, 15)
    restored = make_adam(weight_decay=0.1)
    restored.restore(other.state())
    run(restored, 25)
    for name, value in adam.state().items():
        np.testing.assert_array_equal(value, restored.state()[name], err_msg=name)


def test_long_gradients_are_shortened():
    """The second gradient is 1e6 times the first; the first moments of Adam then differ by the clip, 5."""
    adam = make_adam(clip=5.0)
    small = torch.ones(3, dtype=torch.float64)
    adam.step(small, 0.1)
    adam.step(1e6 * small, 0.1)
    np.testing.assert_allclose(adam.state()["adam_exp_avg"], 0.1 * (0.9 + 5.0))


def test_gradients_of_zero_do_not_count_for_the_clip():
    """First or in between, they neither freeze the vector nor shorten what comes after."""
    zero, one = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    adam = make_adam(clip=5.0)
    for gradient in (zero, one, *[zero] * 100, 4.0 * one):
        before = adam.state()["norm"]
        adam.step(gradient, 0.1)
        assert gradient.any() or adam.state()["norm"] == before
    np.testing.assert_allclose(adam.state()["adam_exp_avg"], 0.4 + 0.1 * 0.9**101)
    assert adam.vector.abs().min() > 0.1


def test_polish_finds_the_minimum_and_never_gets_worse():
    start = torch.zeros(3, dtype=torch.float64)
    found = polish(start, loss_and_gradient)
    # L-BFGS stops where the gradient or the last step is 1e-7
    torch.testing.assert_close(found, TARGET, atol=1e-5, rtol=0)
    assert torch.equal(polish(TARGET, loss_and_gradient), TARGET)


def test_evolution_strategy_approaches_the_minimum_and_can_be_continued():
    strategies = [
        EvolutionStrategy(torch.zeros(3, dtype=torch.float64), 30, seed=1) for _ in range(2)
    ]
    for _ in range(60):
        strategies[0].step(lambda vector: loss_and_gradient(vector)[0])
    assert loss_and_gradient(strategies[0].mean)[0] < 0.05 * loss_and_gradient(torch.zeros(3))[0]
    for generation in range(60):
        if generation == 20:
            state = strategies[1].state()
            strategies[1] = EvolutionStrategy(torch.ones(3, dtype=torch.float64), 30, seed=1)
            strategies[1].restore(state)
        strategies[1].step(lambda vector: loss_and_gradient(vector)[0])
    assert torch.equal(strategies[0].mean, strategies[1].mean)
