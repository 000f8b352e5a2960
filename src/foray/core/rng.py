"""Counter-based random numbers: functions of named keys, so resuming and reordering change nothing."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def key(*parts: object) -> int:
    """A 63-bit key for the named purpose, e.g. ``key(seed, "corpus", stage, step)``. The same on every machine."""
    text = "\x1f".join(str(p) for p in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def bits(keys: NDArray[np.uint64] | int, counters: NDArray[np.uint64] | int) -> NDArray[np.uint64]:
    """64 random bits for each (key, counter), broadcast: SplitMix64 (Steele et al. 2014) of stream ``key``.

    The key is mixed before the counter is added: neighboring keys do not give shifted streams.
    """
    with np.errstate(over="ignore"):
        start = _mix(np.asarray(keys, dtype=np.uint64) + _GOLDEN)
        return _mix(start + (np.asarray(counters, dtype=np.uint64) + np.uint64(1)) * _GOLDEN)


def uniform(keys: NDArray[np.uint64] | int, counters: NDArray[np.uint64] | int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1) with 53 bits, one for each (key, counter)."""
    return (bits(keys, counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(seed_key: int, size: int) -> NDArray[np.int64]:
    """A permutation of range(size) fixed by the key."""
    return np.random.Generator(np.random.Philox(key=seed_key)).permutation(size)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
