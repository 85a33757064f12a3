"""Hyperparameters for the RL Baselines3 Zoo, all algorithms in one file, which also brings it MaskablePPO.

    python -m rl_zoo3.train --algo ppo --env Elpasolite-v0 --gym-packages elpa_env --conf-file examples/zoo.py
    python examples/zoo.py --algo ppo_mask --env Elpasolite-v0 --gym-packages elpa_env --eval-freq -1

A file of the Zoo names hyperparameters by environment, and not by algorithm. One in Python is run when it is
read, by the very process whose command line says `--algo`: so this one gives those of the algorithm that was
asked for. MaskablePPO is none of the Zoo's algorithms; the second command makes it one, `ppo_mask`.
"""

import argparse
import sys
from pathlib import Path

STABLE = {"target_class": 1}
"""The most stable 0.2 % of all compositions."""
COMMON = {"target_class": 5}
"""46 % of them: those of class 1 are too rare for a Q-network without masks to meet by chance."""
NETWORK = {"net_arch": [128, 128]}
Q_LEARNING = {
    "n_timesteps": 100_000,
    "policy": "MlpPolicy",
    "n_envs": 8,
    "learning_starts": 10_000,
    "train_freq": 4,
    "gradient_steps": 4,
    "batch_size": 128,
    "learning_rate": 5e-4,
    "gamma": 1.0,
    "target_update_interval": 1_000,
    "exploration_fraction": 0.5,
    "exploration_final_eps": 0.1,
    "env_kwargs": COMMON,
}
"""What DQN and QRDQN share."""

ALGORITHMS = {
    "ppo": {
        "n_timesteps": 300_000,
        "policy": "MlpPolicy",
        "n_envs": 64,
        "n_steps": 32,
        "batch_size": 256,
        "ent_coef": 0.03,
        "policy_kwargs": NETWORK,
        "env_kwargs": STABLE,
    },
    "ppo_mask": {
        "n_timesteps": 100_000,
        "policy": "MlpPolicy",
        "n_envs": 32,
        "n_steps": 64,
        "batch_size": 256,
        "ent_coef": 0.1,
        "env_kwargs": {**STABLE, "masking": "composition"},
    },
    "dqn": {**Q_LEARNING, "policy_kwargs": NETWORK},
    "qrdqn": {**Q_LEARNING, "policy_kwargs": {**NETWORK, "n_quantiles": 32}},
}
"""Hyperparameters by the Zoo's name of the algorithm."""


def asked_for() -> str:
    """The algorithm that the command line names; the Zoo takes PPO where it names none."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--algo", default="ppo")
    return parser.parse_known_args()[0].algo


hyperparams = {"Elpasolite-v0": ALGORITHMS.get(asked_for(), {})}
"""What the Zoo reads."""


def main() -> None:
    import rl_zoo3
    from rl_zoo3.train import train
    from sb3_contrib import MaskablePPO

    rl_zoo3.ALGOS["ppo_mask"] = MaskablePPO
    if "--conf-file" not in sys.argv:
        sys.argv += ["--conf-file", str(Path(__file__))]
    train()


if __name__ == "__main__":
    main()
