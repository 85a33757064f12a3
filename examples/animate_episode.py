"""An episode as an animated picture: every frame of it is what `env.render` gives.

python examples/animate_episode.py episode.gif AlNaK2F6
"""

import sys

import gymnasium as gym
from PIL import Image

import elpa_env


def animate(env: gym.Env, formula: str, path: str) -> int:
    """Build a composition in an environment with render_mode="rgb_array"; the number of frames."""
    space = env.unwrapped.space
    (digits,) = space.index_to_digits(space.formula_to_index([formula]))
    env.reset(seed=0)
    frames = [env.render()]
    for digit in digits:
        *_, terminated, _, _ = env.step(digit - 1)
        frames.append(env.render())
    assert terminated
    pictures = [Image.fromarray(frame).quantize(64) for frame in frames]
    times = [900] * len(digits) + [3_000]  # milliseconds
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=times, loop=0)
    return len(frames)


if __name__ == "__main__":
    gym.register_envs(elpa_env)
    path, formula = sys.argv[1:]
    env = gym.make("Elpasolite-v0", target_class=1, render_mode="rgb_array")
    print(f"{animate(env, formula, path)} frames: {path}")
