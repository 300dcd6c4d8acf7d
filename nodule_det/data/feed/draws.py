"""Random integers for many patches at once, identical to those of NumPy's generators.

    words (n, k) ──Draws──▶ n PCG64 generators side by side ──integers(n)──▶ (n,) draws

Each patch has its own generator, seeded with its identity (seed, epoch, number).  Making one in
NumPy takes 20 microseconds, longer than a GPU needs for the patch.  Here the same arithmetic runs
on arrays: each row of ``Draws(stream, ...)`` equals ``generator(stream, ...)``, so batches are the
same as in earlier versions.

References:
    O'Neill 2014, PCG: A family of simple fast space-efficient statistically good algorithms for
        random number generation (XSL-RR 128/64).
    Lemire 2019, Fast random integer generation in an interval, ACM TOMACS.
    NumPy's ``SeedSequence`` (after O'Neill's ``randutils::seed_seq_fe``) and ``PCG64``.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nodule_det.arrays import IntArray

U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

POOL = 4
INIT_A, MULT_A = 0x43B0D7E5, 0x931E8875
INIT_B, MULT_B = 0x8B51F9DD, 0x58F38DED
MIX_L, MIX_R = np.uint32(0xCA01F9DD), np.uint32(0x4973F715)
XSHIFT = np.uint32(16)
PCG_HIGH, PCG_LOW = 2549297995355413924, 4865540595714422341
"""The multiplier of PCG64, 128 bits in two halves."""

LOW_32 = np.uint64(0xFFFFFFFF)
SHIFT_32 = np.uint64(32)


class Stream(IntEnum):
    """What random numbers are for.  Two purposes never share a sequence."""

    PATCH = 0
    COPY = 1
    TURN = 2
    ORDER = 3
    INTENSITY = 4


def generator(stream: Stream, *words: int) -> np.random.Generator:
    """Return the generator of a purpose and a position, such as (seed, epoch, number).

    A stream always takes the same number of words, because NumPy's SeedSequence treats (1, 2) and
    (1, 2, 0) alike.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([stream, *words])))


class Draws:
    """One generator per row, each in the state of ``generator(stream, *words of the row)``.

    Args:
        stream: Purpose.
        words: Integers below 2^32 or arrays of them that broadcast to (n,), three or four.
    """

    def __init__(self, stream: Stream, *words: ArrayLike) -> None:
        parts = np.broadcast_arrays(np.uint32(stream), *(np.asarray(w, np.uint32) for w in words))
        seeds = _seed_words([np.ravel(part) for part in parts])
        start_high, start_low, sequence_high, sequence_low = seeds
        one = np.uint64(1)
        self._inc = (
            (sequence_high << one) | (sequence_low >> np.uint64(63)),
            (sequence_low << one) | one,
        )
        # pcg64_srandom: one step from 0, add the start, another step
        self._state = _add(self._inc, (start_high, start_low))
        self._step(slice(None))
        n = len(start_high)
        self._spare, self._has_spare = np.zeros(n, np.uint32), np.zeros(n, bool)

    def __len__(self) -> int:
        return len(self._spare)

    def integers(self, n: ArrayLike) -> IntArray:
        """Draw from 0 ... n - 1 in each row, as ``Generator.integers`` does (Lemire's method).

        Args:
            n: (rows,) or one number of choices, 1 to 2^32 - 1.  One choice takes no random bits.
        """
        choices = np.broadcast_to(np.asarray(n, np.uint64), len(self))
        drawn = np.zeros(len(self), np.uint64)
        rows = np.flatnonzero(choices > 1)
        while len(rows):
            wide = self._next32(rows).astype(np.uint64) * choices[rows]
            drawn[rows] = wide >> SHIFT_32
            left = wide & LOW_32
            again = left < choices[rows]
            again[again] = (
                left[again] < (LOW_32 + np.uint64(1) - choices[rows][again]) % choices[rows][again]
            )
            rows = rows[again]
        return drawn.astype(np.int64)

    def uniform(self) -> NDArray[np.float64]:
        """Draw from [0, 1) in each row, as ``Generator.random`` does."""
        rows = np.arange(len(self))
        return np.asarray((self._next64(rows) >> np.uint64(11)) * (1.0 / 9007199254740992.0))

    def _next32(self, rows: IntArray) -> U32:
        """Return 32 bits per row: the lower half of an output, then its upper half."""
        spare = self._has_spare[rows]
        out = self._spare[rows]
        fresh = rows[~spare]
        if len(fresh):
            wide = self._next64(fresh)
            out[~spare] = (wide & LOW_32).astype(np.uint32)
            self._spare[fresh] = (wide >> SHIFT_32).astype(np.uint32)
        self._has_spare[rows] = ~spare
        return out

    def _next64(self, rows: IntArray) -> U64:
        self._step(rows)
        high, low = self._state[0][rows], self._state[1][rows]
        turn, mixed = high >> np.uint64(58), high ^ low
        return np.asarray((mixed >> turn) | (mixed << ((np.uint64(64) - turn) & np.uint64(63))))

    def _step(self, rows: IntArray | slice) -> None:
        high, low = self._state[0][rows], self._state[1][rows]
        product_high, product_low = _times(low, PCG_LOW)
        product_high = product_high + high * np.uint64(PCG_LOW) + low * np.uint64(PCG_HIGH)
        inc = self._inc[0][rows], self._inc[1][rows]
        self._state[0][rows], self._state[1][rows] = _add((product_high, product_low), inc)


def _times(a: U64, b: int) -> tuple[U64, U64]:
    """Multiply 64 by 64 bits; returns the upper and the lower half."""
    b_high, b_low = np.uint64(b >> 32), np.uint64(b & 0xFFFFFFFF)
    a_high, a_low = a >> SHIFT_32, a & LOW_32
    lowest = a_low * b_low
    middle = a_high * b_low + (lowest >> SHIFT_32)
    middle_low = (middle & LOW_32) + a_low * b_high
    high = a_high * b_high + (middle >> SHIFT_32) + (middle_low >> SHIFT_32)
    return high, a * np.uint64(b)


def _add(a: tuple[U64, U64], b: tuple[U64, U64]) -> tuple[U64, U64]:
    low = a[1] + b[1]
    return a[0] + b[0] + (low < a[1]).astype(np.uint64), low


def _seed_words(entropy: list[U32]) -> list[U64]:
    """Return the four 64-bit words that NumPy's SeedSequence gives for (n,) words of entropy."""
    constant = INIT_A

    def hashed(value: U32) -> U32:
        nonlocal constant
        value = value ^ np.uint32(constant)
        constant = constant * MULT_A & 0xFFFFFFFF
        value = value * np.uint32(constant)
        return np.asarray(value ^ (value >> XSHIFT))

    zeros = np.zeros_like(entropy[0])
    pool = [hashed(entropy[i] if i < len(entropy) else zeros) for i in range(POOL)]
    for source in range(POOL):
        for into in range(POOL):
            if source != into:
                pool[into] = _mixed(pool[into], hashed(pool[source]))
    for word in entropy[POOL:]:
        for into in range(POOL):
            pool[into] = _mixed(pool[into], hashed(word))
    constant = INIT_B
    halves = []
    for i in range(2 * POOL):
        value = pool[i % POOL] ^ np.uint32(constant)
        constant = constant * MULT_B & 0xFFFFFFFF
        value = value * np.uint32(constant)
        halves.append((value ^ (value >> XSHIFT)).astype(np.uint64))
    return [halves[i] | (halves[i + 1] << SHIFT_32) for i in range(0, 2 * POOL, 2)]


def _mixed(a: U32, b: U32) -> U32:
    mixed = a * MIX_L - b * MIX_R
    return np.asarray(mixed ^ (mixed >> XSHIFT))
