"""The table of optimism, with means that a reader can redo."""

from bench import optimism

FIGURES = [
    {"best": 0.9, "best_test": 0.7, "finish": 0.8, "finish_test": 0.8},
    {"best": 0.8, "best_test": 0.7, "finish": 0.7, "finish_test": 0.8},
]


def test_one_study_has_no_standard_error():
    head, row = optimism.table(FIGURES[:1]).splitlines()
    assert head.split() == [
        "study",
        "best",
        "its",
        "test",
        "best",
        "-",
        "test",
        "finish",
        "its",
        "test",
        "finish",
        "-",
        "test",
    ]
    assert row.split() == ["0", "0.900", "0.700", "0.200", "0.800", "0.800", "0.000"]


def test_the_mean_differences_have_their_standard_errors():
    last = optimism.table(FIGURES).splitlines()[-1].split()
    # differences 0.2 and 0.1: mean 0.15, standard error 0.05
    assert last[3] == "0.150±0.050"
    assert last[6] == "-0.050±0.050"
