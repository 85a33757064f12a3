"""Reinforcement learning on Stable-Baselines3 parts: `BoltzmannDQN`, its training and its sampler."""

from agents.buffers import EpisodeReplayBuffer, MixedReplayBuffer
from agents.dqn import BoltzmannDQN
from agents.policies import BoundedQPolicy, DigitEncoder, ElementEmbedding
from agents.reward_model import RewardModel, RewardModelConfig
from agents.sb3_sampler import AgentSampler
from agents.train import VARIANTS, DQNConfig, train_dqn, train_model_based, train_offline
from agents.vec_env import CompositionVecEnv, OfflineEnv, make_vec_env

__all__ = [
    "VARIANTS",
    "AgentSampler",
    "BoltzmannDQN",
    "BoundedQPolicy",
    "CompositionVecEnv",
    "DQNConfig",
    "DigitEncoder",
    "ElementEmbedding",
    "EpisodeReplayBuffer",
    "MixedReplayBuffer",
    "OfflineEnv",
    "RewardModel",
    "RewardModelConfig",
    "make_vec_env",
    "train_dqn",
    "train_model_based",
    "train_offline",
]
