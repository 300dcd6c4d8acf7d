"""The forecast of a training, with figures that a reader can redo."""

from dataclasses import replace

import pytest

from nodule_det.config.train import Device, LimitConfig, TrainConfig
from nodule_det.data.store import open_store
from nodule_det.forecast.cost import footprint
from nodule_det.forecast.forecast import (
    Data,
    Rate,
    data_at,
    data_of,
    forecast,
    hours,
    lines,
    nominal_rate,
    quantity,
    warnings,
)
from tests.train.tiny_run import tiny

TRAIN = TrainConfig(device=Device.cpu)
LUNA16 = Data(n_scans=799, n_lesions=1067, n_validated=89, validated_voxels=89 * 3e7)
"""Nine tenths of LUNA16's 888 scans and 1186 nodules."""


def test_the_defaults_show_each_lesion_of_luna16_19_times():
    expected = forecast(TRAIN, LUNA16, None)
    assert expected.patches == 512 * 2 * 40  # patches.per_epoch, with one copy, epochs
    assert expected.steps == 512 * 2 * 40 / 8  # optim.batch_size
    assert expected.views == pytest.approx(512 * 2 * 40 * 0.5 / 1067)  # 19.2
    assert expected.validations == 40 / 5
    assert expected.seconds is None


def test_the_time_is_the_operations_over_the_rates():
    needs = footprint(TRAIN, gpu=False)
    expected = forecast(TRAIN, LUNA16, Rate(2e10, 4e10, "test"))
    training = needs.operations_per_step * needs.steps
    validation = needs.validation * LUNA16.validated_voxels
    assert expected.operations == pytest.approx(training + validation)
    assert expected.seconds == pytest.approx(training / 2e10 + validation / 4e10)


def test_two_lines_say_what_a_training_does(three_folds):
    train = replace(TRAIN, store=str(three_folds), limits=LimitConfig(epochs=5))
    data = data_of(open_store(three_folds), train)
    assert (data.n_scans, data.n_lesions, data.n_validated) == (4, 8, 2)
    assert data.validated_voxels == 2 * 48 * 56 * 64
    first, second = lines(forecast(train, data, Rate(1e10, 1e10, "a test")))
    # 5120 patches, half of them around one of 8 lesions
    assert first == (
        "5 epochs, 640 steps, 5,120 patches, each of 8 lesions seen about 320 times, "
        "1 validation of 2 scans"
    )
    assert second.startswith("0.28 M weights, ")
    assert second.endswith("(a test)")
    one = lines(forecast(train, replace(data, n_validated=1), None))[0]
    assert one.endswith("1 validation of 1 scan")


def test_a_store_that_cannot_be_read_leaves_the_views_out(tmp_path):
    train = replace(TRAIN, store=str(tmp_path / "nowhere"))
    assert data_at(train) is None
    first, second = lines(forecast(train, None, None))
    assert first == "40 epochs, 5,120 steps, 40,960 patches, 8 validations"
    assert second.endswith(
        "time unknown (nodule-det train with dry_run=true measures it where it runs)"
    )


def test_the_scans_of_a_test_fold_do_not_count(three_folds, tmp_path):
    train = tiny(three_folds, tmp_path, fold=0, test_fold=1)
    assert data_at(train).n_scans == 2


def test_a_day_and_more_than_a_session_are_warned_of():
    expected = forecast(TRAIN, LUNA16, Rate(1e9, 1e9, "slow"))
    assert expected.seconds > 86_400
    day, session = warnings(expected, session_s=3600)
    assert day.startswith("one training is forecast to take ")
    assert "lower limits.epochs" in day
    assert "more than the 1.0 h of limits.wall_s: it needs about " in session
    assert warnings(replace(expected, seconds=3000.0), session_s=3600) == []
    assert warnings(replace(expected, seconds=None), session_s=3600) == []


def test_a_cpu_has_a_rough_rate_for_each_of_its_cores():
    one, two = nominal_rate(TRAIN, 1), nominal_rate(TRAIN, 2)
    assert two.training == 2 * one.training
    assert two.source == "rough, assuming 20 GFLOP/s on 2 cores"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(40, "0:40 min"), (3600, "1.0 h"), (86_399, "24.0 h"), (172_800, "2.0 days")],
)
def test_times_are_written_as_a_person_would(seconds, text):
    assert hours(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(12.4e15, "12 P"), (1.24e12, "1.2 T"), (999e12, "999 T"), (5, "5 ")]
)
def test_large_numbers_get_a_prefix(value, text):
    assert quantity(value) == text
