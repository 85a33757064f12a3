"""Reinforcement learning on Stable-Baselines3 parts: `BoltzmannDQN` and its sampler."""

from agents.buffers import EpisodeReplayBuffer
from agents.dqn import BoltzmannDQN, OfflineEnv
from agents.offline import DQNConfig, train_offline
from agents.policies import BoundedQPolicy, DigitEncoder
from agents.sampler import AgentSampler
from agents.vec_env import ElpasoliteVecEnv, make_vec_env

__all__ = [
    "AgentSampler",
    "BoltzmannDQN",
    "BoundedQPolicy",
    "DQNConfig",
    "DigitEncoder",
    "ElpasoliteVecEnv",
    "EpisodeReplayBuffer",
    "OfflineEnv",
    "make_vec_env",
    "train_offline",
]
