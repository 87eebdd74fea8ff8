"""Randomness as a pure function of (seed, step, purpose, index): nothing is carried along.

A generator whose state advances with use ties every draw to all draws before it. Here each
use names its own stream of a counter-based generator (Philox: Salmon et al., SC 2011), so a
run resumed at step 1000 draws what the uninterrupted run drew there, and the number of
threads that prepare tiles cannot matter.
"""

import hashlib

import numpy as np


def stream(seed: int, step: int, purpose: str, index: int = 0) -> np.random.Generator:
    """A fresh generator for one use, e.g. `stream(seed, step, "augment", i)` for tile i.

    seed, step, index: integers in [0, 2**64). Different arguments give independent streams;
    equal arguments give the same numbers (for one NumPy version: NumPy may improve its
    distributions between releases).
    """
    name = hashlib.blake2b(purpose.encode(), digest_size=8).digest()
    key = [seed, int.from_bytes(name, "little")]
    # Philox adds 1 to the low word of the counter a draw; ours sit in the high words.
    return np.random.Generator(np.random.Philox(counter=[0, 0, index, step], key=key))
