"""Masks are worth having: MaskablePPO beats PPO with the same budget, network, hyperparameters and seeds."""

import pytest

pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")
from benchmarks.masking import episode_reward, exact_figures, markdown, train


def spend(masking, target_class, seed, timesteps):
    """Success rate, exactly, and mean reward in evaluation of an agent with that budget."""
    ((agent, steps, _),) = train(masking, target_class, seed, [timesteps])
    assert steps == timesteps
    return (
        exact_figures(agent, masking, target_class)["success rate"],
        episode_reward(agent, masking, target_class),
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("target_class", "masking", "timesteps", "lead"),
    [
        (1, "composition", 98_304, 0.5),  # so rare that PPO does not learn it at this budget
        (5, "composition", 24_576, 0.2),
        (5, "digits", 4_096, 0.05),
    ],
)
def test_masks_beat_no_masks(target_class, masking, timesteps, lead, seed):
    masked, masked_reward = spend(masking, target_class, seed, timesteps)
    plain, plain_reward = spend(None, target_class, seed, timesteps)
    assert masked > plain + lead
    assert masked_reward > plain_reward
    for rate, reward in ((masked, masked_reward), (plain, plain_reward)):
        assert reward == pytest.approx(2 * rate - 1, abs=0.15)  # +1 for a success, else -1


def test_table():
    """A budget met on the way is a row of its own; what was not measured is a dash."""
    runs = {(5, 2048, "PPO"): [{"success rate": 0.25}, {"success rate": 0.75}]}
    assert markdown(runs).splitlines()[2] == "| 5 | 2,048 | PPO | 0.500 ± 0.354 | - | - | - | - | - | - |"


def test_a_small_budget_is_the_start_of_a_large_one():
    (_, first), (whole,) = (
        [exact_figures(agent, None, 5) for agent, *_ in train(None, 5, 0, budgets)]
        for budgets in ([2048, 4096], [4096])
    )
    assert first == whole
