"""The short form of ``make fuzz`` for our own files, with one seed."""

from collections import Counter

from tests.fuzz.mutations import failures, run
from tests.fuzz.stores import SEEDS


def test_mutated_files_of_ours_are_read_as_written_or_refused_in_one_line():
    counts = run(SEEDS, n=8 * len(SEEDS), rng=7)
    total = sum(counts.values(), Counter())
    assert sum(total.values()) == 8 * len(SEEDS)
    assert failures(counts) == {}
    assert total["read"] > len(SEEDS)
    assert total["refused"] > 0
