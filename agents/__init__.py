"""Reinforcement learning on Stable-Baselines3 parts: `BoltzmannDQN` and its sampler."""

from agents.buffers import EpisodeReplayBuffer
from agents.dqn import BoltzmannDQN, OfflineEnv
from agents.features import OneHotDigits
from agents.sampler import AgentSampler

__all__ = ["AgentSampler", "BoltzmannDQN", "EpisodeReplayBuffer", "OfflineEnv", "OneHotDigits"]
