"""Synthetic tasks, generated from a seed: what a small model can learn, and others of its kind to ask it."""
