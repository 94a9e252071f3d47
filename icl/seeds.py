"""Randomness that belongs to an item, not to a loop: results do not depend on the order of evaluation."""

from hashlib import blake2b

import numpy as np

# Sample i of a request uses seed + i; the room up to 2**31 - 1 keeps that a signed 32-bit number on every engine.
_SEEDS = 2**30


def seed_for(seed: int, *names: str) -> int:
    """A seed in [0, 2**30) for the item with these names, the same on every machine and in every process."""
    digest = blake2b("\0".join((str(seed), *names)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _SEEDS


def generator(seed: int, *names: str) -> np.random.Generator:
    """A generator of random numbers for the item with these names."""
    return np.random.default_rng(seed_for(seed, *names))
