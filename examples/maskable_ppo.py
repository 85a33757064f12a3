"""MaskablePPO of sb3-contrib, with masks in training, in evaluation and in sampling.

    python examples/maskable_ppo.py --timesteps 100000

With masking="composition" every episode ends in a real composition, so the agent spends its whole
budget on the question that matters: how stable is it? The last line printed shows what its reward does
not ask for: such an agent is precise, but it makes few different compositions, again and again.
"""

import argparse

import torch as th
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy

from agents import AgentSampler, make_vec_env
from eval.exact import exact_score
from eval.judge import load_judge

TARGET_CLASS = 1
MASKING = "composition"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--timesteps", type=int, default=150_000)
    arguments = parser.parse_args()
    th.set_num_threads(1)

    env = make_vec_env(32, seed=0, target_class=TARGET_CLASS, masking=MASKING)
    agent = MaskablePPO("MlpPolicy", env, n_steps=64, batch_size=256, ent_coef=0.1, seed=0, device="cpu")
    agent.learn(arguments.timesteps)

    # evaluate_policy of sb3-contrib asks the environment for its masks; that of SB3 would not.
    test_env = make_vec_env(32, seed=1, target_class=TARGET_CLASS, masking=MASKING)
    reward, _ = evaluate_policy(agent, test_env, n_eval_episodes=1_000, deterministic=False)

    sampler = AgentSampler(agent, target_class=TARGET_CLASS, masking=MASKING, name="MaskablePPO")
    distribution = sampler.distribution(TARGET_CLASS)  # exact: every branch of the policy is followed
    score = exact_score(distribution, judge=load_judge(), target_class=TARGET_CLASS, n_samples=10_000)
    precision = score.metrics["precision"]
    print(f"mean reward of 1,000 episodes            {reward:+.3f}")
    print(f"expected exactly, from the policy        {2 * score.success_rate - 1:+.3f}")
    print(f"candidates that are real compositions    {score.valid_fraction:.2%}")
    print(f"of these in class {TARGET_CLASS}                      {precision:.2%} (chance: 0.19%)")
    print(f"of the class found by 10,000 of these    {score.metrics['coverage']:.2%}")


if __name__ == "__main__":
    main()
