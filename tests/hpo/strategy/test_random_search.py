import numpy as np

from nodule_det.config.hpo import AcquisitionConfig
from nodule_det.hpo.space.parsing import parse_space, read_space
from nodule_det.hpo.strategy.random_search import propose_random, propose_sobol
from nodule_det.hpo.study.trial import Trial

SPACE = read_space("nomura")
CONFIG = AcquisitionConfig(seed=3)
TINY = parse_space({"parameters": {"a": {"kind": "bool"}, "b": {"kind": "bool"}}})


def ask_all(propose, space, n):
    trials = []
    for number in range(1, n + 1):
        params = propose(space, trials, CONFIG, np.random.default_rng([3, number]))
        trials.append(Trial(number=number, params=params))
    return trials


def test_proposals_are_valid_and_depend_only_on_the_trials_and_the_seed():
    for propose in (propose_random, propose_sobol):
        trials = ask_all(propose, SPACE, 8)
        assert all(SPACE.check(t.params) == t.params for t in trials)
        assert trials == ask_all(propose, SPACE, 8)


def test_a_small_space_is_exhausted_before_a_point_repeats():
    for propose in (propose_random, propose_sobol):
        points = {tuple(t.params.items()) for t in ask_all(propose, TINY, 4)}
        assert len(points) == 4
        assert len(ask_all(propose, TINY, 5)) == 5


def test_sobol_fills_every_quarter_of_every_axis_equally():
    units = np.array([SPACE.to_unit(t.params) for t in ask_all(propose_sobol, SPACE, 32)])
    lr = units[:, 6]
    assert [int(((lr >= q / 4) & (lr < (q + 1) / 4)).sum()) for q in range(4)] == [8] * 4


def test_only_allowed_points_are_drawn_and_checking_changes_no_draw():
    def small(params):
        return params["model.filters"] <= 8

    for propose in (propose_random, propose_sobol):
        for number in range(20):
            trials = [Trial(number=1, params=SPACE.sample(np.random.default_rng(0)))] * number

            def draw(allowed, propose=propose, trials=trials, number=number):
                return propose(
                    SPACE, trials, CONFIG, np.random.default_rng(number), allowed=allowed
                )

            assert small(draw(small))
            assert draw(None) == draw(lambda params: True)
            assert draw(small) == draw(None) or not small(draw(None))


def test_when_all_allowed_points_were_tried_one_is_repeated():
    trials = [Trial(number=1, params={"a": True, "b": True})]
    for propose in (propose_random, propose_sobol):
        rng = np.random.default_rng(0)
        params = propose(TINY, trials, CONFIG, rng, allowed=lambda p: p["a"] and p["b"])
        assert params == {"a": True, "b": True}
        assert propose(TINY, trials, CONFIG, rng, allowed=lambda p: False) in [
            {"a": a, "b": b} for a in (True, False) for b in (True, False)
        ]


def test_the_draws_of_a_seed_stay_the_same():
    rng = np.random.default_rng(5)
    units = np.random.default_rng(5).random(SPACE.dimension)
    assert propose_random(SPACE, [], CONFIG, rng) == SPACE.from_unit(units)
