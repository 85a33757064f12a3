"""Scoring of any sampler, figures and the command line."""
