"""The short form of ``make fuzz``: a few mutations of every kind of file, with one seed."""

from collections import Counter

from tests.fuzz.readers import BAD, SEEDS, run


def test_mutated_files_are_read_right_or_refused_in_one_line():
    counts = run(n=12 * len(SEEDS), rng=7)
    total = sum(counts.values(), Counter())
    assert sum(total.values()) == 12 * len(SEEDS)
    assert {kind: total[kind] for kind in BAD} == dict.fromkeys(BAD, 0)
    assert total["read"] > 0
    assert total["refused"] > total["read"]
