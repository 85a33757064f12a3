"""Reinforcement learning on Stable-Baselines3 parts: `BoltzmannDQN`, its training and its sampler."""

from agents.buffers import EpisodeReplayBuffer, MixedReplayBuffer
from agents.dqn import BoltzmannDQN, OfflineEnv
from agents.offline import DQNConfig, train_offline
from agents.online import OnlineConfig, train_model_based, train_online, train_oracle
from agents.policies import BoundedQPolicy, DigitEncoder, ElementEmbedding
from agents.reward_model import RewardModel, RewardModelConfig
from agents.sampler import AgentSampler
from agents.vec_env import ElpasoliteVecEnv, make_vec_env

__all__ = [
    "AgentSampler",
    "BoltzmannDQN",
    "BoundedQPolicy",
    "DQNConfig",
    "DigitEncoder",
    "ElementEmbedding",
    "ElpasoliteVecEnv",
    "EpisodeReplayBuffer",
    "MixedReplayBuffer",
    "OfflineEnv",
    "OnlineConfig",
    "RewardModel",
    "RewardModelConfig",
    "make_vec_env",
    "train_model_based",
    "train_offline",
    "train_online",
    "train_oracle",
]
