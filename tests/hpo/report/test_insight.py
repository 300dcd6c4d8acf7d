"""What is read off the model: slices are points of the space, importance is what it must be."""

import numpy as np
import pytest

from nodule_det.hpo.model.encoding import Features
from nodule_det.hpo.model.gp import fit_surrogate
from nodule_det.hpo.model.outcomes import standardise
from nodule_det.hpo.report.insight import MODEL_FROM, SLICE_POINTS, cut, learn, weigh
from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.study.study import Header, Study

SPACE = parse_space(
    {
        "parameters": {
            "patches.size_vox": {"kind": "ordinal", "values": [32, 64]},
            "augment.copies": {"kind": "int", "low": 0, "high": 4},
            "augment.shift_vox": {
                "kind": "int",
                "low": 0,
                "high": 32,
                "at_most": {"of": "patches.size_vox", "times": 0.5},
                "when": {"augment.copies": [1, 2, 3, 4]},
            },
            "optim.lr": {"kind": "float", "low": 1e-6, "high": 1e-2, "log": True},
            "optim.beta1": {"kind": "float", "low": 0.9, "high": 0.99},
        }
    }
)


def rng():
    return np.random.default_rng(0)


def told(worth, count):
    """Return a study whose trials are worth what ``worth`` says of their params."""
    study, draw = Study(Header(id="cafe", space=SPACE)), rng()
    for number in range(1, count + 1):
        params = SPACE.sample(draw)
        study.apply({"kind": "asked", "t": 0.0, "trial": number, "params": params, "source": "x"})
        done = {"kind": "finished", "t": 1.0, "trial": number, "state": "complete"}
        study.apply({**done, "value": worth(params), "value_se": 0.01})
    assert not study.problems
    return study


def by_lr(params):
    return 0.7 - 0.1 * (np.log10(params["optim.lr"]) + 4) ** 2


def test_too_few_values_show_no_model():
    assert learn(told(by_lr, 0)) is None
    assert learn(told(by_lr, MODEL_FROM - 1)) is None
    assert learn(told(by_lr, MODEL_FROM)) is not None


def test_failed_trainings_are_read_as_the_last_driver_did():
    study = told(by_lr, 5)
    study.apply(
        {"kind": "asked", "t": 0.0, "trial": 6, "params": SPACE.sample(rng()), "source": "x"}
    )
    failed = {"state": "failed", "reason": "out_of_memory"}
    study.apply({"kind": "finished", "t": 1.0, "trial": 6, **failed})
    assert learn(study).n_values == 5
    session = {"kind": "session", "t": 2.0, "host": "a", "pid": 1, "workers": 1}
    for failures, n_values in (("zero", 6), ("model", 5)):
        study.apply({**session, "dispatcher": "local", "failures": failures})
        assert learn(study).n_values == n_values


def test_an_integer_of_many_values_is_cut_at_some_of_them():
    space = parse_space({"parameters": {"width": {"kind": "int", "low": 1, "high": 999_999}}})
    features = Features(space)
    x = rng().random((8, 1))
    surrogate = fit_surrogate(x, standardise(x[:, 0], None), columns=features.columns)
    values = cut(space.free[0], {"width": 7}, features, surrogate).values
    assert len(set(values)) == len(values) == SLICE_POINTS
    assert (values[0], values[-1]) == (1, 999_999)
    assert all(isinstance(v, int) for v in values)


def test_what_decides_alone_has_all_the_importance():
    insight = learn(told(by_lr, 40))
    assert insight.importance[0].name == "optim.lr"
    assert insight.importance[0].total == pytest.approx(1.0, abs=0.1)
    assert all(other.total < 0.1 for other in insight.importance[1:])
    assert all(i.low <= i.total <= i.high for i in insight.importance)


def test_a_slice_follows_the_function_and_passes_the_best_trial():
    study = told(by_lr, 40)
    insight = learn(study)
    lr = next(s for s in insight.slices if s.parameter.name == "optim.lr")
    truth = [by_lr({"optim.lr": v}) for v in lr.values]
    assert np.abs(lr.mean - truth).max() < 0.05
    assert insight.expected == pytest.approx(study.best().value, abs=0.02)
    assert insight.most_expected.mean >= insight.expected - 1e-9


def test_every_place_of_a_slice_is_a_point_of_the_space():
    seen = []

    class Noted(Features):
        def matrix(self, points):
            seen.extend(points)
            return super().matrix(points)

    features, draw = Noted(SPACE), rng()
    params = {"patches.size_vox": 64, "augment.copies": 2, "augment.shift_vox": 32,
              "optim.lr": 1e-4, "optim.beta1": 0.95}  # fmt: skip
    x = features.matrix([SPACE.sample(draw) for _ in range(10)])
    surrogate = fit_surrogate(x, standardise(draw.random(10), None))
    seen.clear()
    for p in SPACE.free:
        one = cut(p, params, features, surrogate)
        assert len(one.mean) == len(one.sd) == len(one.values)
    assert all(SPACE.check(point) == point for point in seen)
    narrow = [point for point in seen if point["patches.size_vox"] == 32]
    assert [point["augment.shift_vox"] for point in narrow] == [16]  # the same share of W/2
    without = [point for point in seen if point["augment.copies"] == 0]
    assert all("augment.shift_vox" not in point for point in without)


def test_a_parameter_that_the_best_trial_lacks_has_an_empty_slice():
    features = Features(SPACE)
    params = {"patches.size_vox": 32, "augment.copies": 0, "optim.lr": 1e-4, "optim.beta1": 0.95}
    surrogate = fit_surrogate(features.matrix([params]), standardise(np.array([0.5]), None))
    shift = next(p for p in SPACE.free if p.name == "augment.shift_vox")
    assert cut(shift, params, features, surrogate).values == ()


class Sum:
    """A model that is a weighted sum of its inputs, whose indices are known."""

    def __init__(self, weights):
        self._weights = np.array(weights)

    def predict(self, x):
        return x @ self._weights, np.zeros(len(x))


def test_indices_of_a_sum_are_shares_of_its_variance():
    space = parse_space(
        {"parameters": {n: {"kind": "float", "low": 0, "high": 1} for n in ("a", "b", "c")}}
    )
    found = weigh(space, Features(space), [Sum([3.0, 1.0, 0.0])], rng())
    assert [i.name for i in found] == ["a", "b", "c"]
    assert found[0].total == pytest.approx(9 / 10, abs=0.02)  # variances 9/12, 1/12, 0
    assert found[1].total == pytest.approx(1 / 10, abs=0.01)
    assert found[2].total == 0


def test_a_constant_has_no_important_parameter():
    space = parse_space({"parameters": {"a": {"kind": "float", "low": 0, "high": 1}}})
    assert [i.total for i in weigh(space, Features(space), [Sum([0.0])], rng())] == [0.0]
