"""An episode of Elpasolite-v0 as an animated picture: every frame of it is what `env.render` gives.

python examples/animate_episode.py episode.gif AlNaK2F6
"""

import sys

import gymnasium as gym
from PIL import Image

import elpa_env

path, formula = sys.argv[1:]
space = elpa_env.ELPASOLITE_SPACE
(digits,) = space.index_to_digits(space.formula_to_index([formula]))

env = gym.make("Elpasolite-v0", target_class=1, render_mode="rgb_array")
env.reset(seed=0)
frames = [env.render()]
for digit in digits:
    *_, terminated, _, info = env.step(digit - 1)
    frames.append(env.render())
assert terminated

pictures = [Image.fromarray(frame).quantize(64) for frame in frames]
pictures[0].save(
    path, save_all=True, append_images=pictures[1:], duration=[900] * (len(pictures) - 1) + [3_000], loop=0
)
print(f"{len(pictures)} frames: {path}")
