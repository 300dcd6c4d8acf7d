"""The short form of ``make fuzz``: a few mutations of every kind of file, with one seed."""

from collections import Counter

from tests.fuzz.mutations import failures, run
from tests.fuzz.readers import SEEDS


def test_mutated_files_are_read_right_or_refused_in_one_line():
    counts = run(SEEDS, n=12 * len(SEEDS), rng=7)
    total = sum(counts.values(), Counter())
    assert sum(total.values()) == 12 * len(SEEDS)
    assert failures(counts) == {}
    assert total["read"] > len(SEEDS)
    assert total["refused"] > total["read"]
