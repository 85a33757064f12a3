"""An agent of your own: PPO with a bonus for exploring that fades, and a network that reads the digits.

    python examples/custom_agent.py --timesteps 100000

It is trained like any Stable-Baselines3 agent, saved, loaded as ``module:Class`` and scored exactly.
"""

import argparse

import torch as th
from stable_baselines3 import PPO

from agents import AgentSampler, DigitEncoder, make_vec_env
from eval.exact import exact_score
from eval.judge import load_judge

TARGET_CLASS = 1


class CuriousPPO(PPO):
    """PPO whose entropy bonus, a reward for exploring, starts at `ent_coef` and falls to zero."""

    def train(self) -> None:
        """Make one round of updates."""
        start, self.ent_coef = self.ent_coef, self.ent_coef * self._current_progress_remaining
        super().train()
        self.ent_coef = start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--timesteps", type=int, default=300_000)
    parser.add_argument("--out", default="curious.zip", help="where the agent is saved")
    arguments = parser.parse_args()
    th.set_num_threads(1)

    env = make_vec_env(64, seed=0, target_class=TARGET_CLASS)
    network = {"features_extractor_class": DigitEncoder, "net_arch": [128, 128]}
    settings = {"n_steps": 32, "batch_size": 256, "ent_coef": 0.03, "policy_kwargs": network}
    agent = CuriousPPO("MlpPolicy", env, seed=0, device="cpu", **settings)
    agent.learn(arguments.timesteps).save(arguments.out)

    # Importable from a module of its own, the class would be named "my_module:CuriousPPO". An archive of
    # Stable-Baselines3 can run code when it is read: this one is our own.
    sampler = AgentSampler.load(
        arguments.out, algorithm="__main__:CuriousPPO", target_class=TARGET_CLASS, trust=True
    )
    distribution = sampler.distribution(TARGET_CLASS)  # exact: every branch of the policy is followed
    score = exact_score(distribution, judge=load_judge(), target_class=TARGET_CLASS, n_samples=10_000)
    print(f"{arguments.out}, class {TARGET_CLASS}, exactly:")
    print(f"  candidates that are real compositions  {score.valid_fraction:.2%}")
    print(f"  of these in the class                  {score.metrics['precision']:.2%} (chance: 0.19%)")
    print(f"  of the class found by 10,000 of these  {score.metrics['coverage']:.2%}")
    print("The command line takes it as well, as the PPO that it is:")
    print(f"  elpa score --agent {arguments.out} --target-class {TARGET_CLASS} --trust")
    print(f"  elpa compare --agent {arguments.out} --target-class {TARGET_CLASS} --trust")


if __name__ == "__main__":
    main()
