"""Generative models: conditional VAE, conditional WGAN-GP, and the baselines."""
