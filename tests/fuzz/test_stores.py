"""The short form of ``make fuzz`` for our own files, with one seed."""

from collections import Counter

from tests.fuzz.readers import BAD
from tests.fuzz.stores import SEEDS, run


def test_mutated_files_of_ours_are_read_as_written_or_refused_in_one_line():
    counts = run(n=8 * len(SEEDS), rng=7)
    total = sum(counts.values(), Counter())
    assert sum(total.values()) == 8 * len(SEEDS)
    assert {kind: total[kind] for kind in BAD} == dict.fromkeys(BAD, 0)
    assert total["read"] > 0
    assert total["refused"] > 0
