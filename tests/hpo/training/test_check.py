import pytest

from nodule_det.config.train import Device, TrainConfig
from nodule_det.errors import ConfigError
from nodule_det.hpo.space.parsing import parse_space, read_space
from nodule_det.hpo.training.check import check_space, with_params


def test_nomura_fits_the_train_command():
    check_space(read_space("nomura"), TrainConfig())


@pytest.mark.parametrize(
    ("name", "parameter", "words"),
    [
        ("optim.lrr", {"kind": "bool"}, "optim.lrr, which is not a setting of the train command"),
        (
            "model.filters",
            {"kind": "int", "low": 0, "high": 32},
            r"allows model.filters=0, which the train command refuses: model.filters=0 must",
        ),
        ("model.residual", {"kind": "int", "low": 0, "high": 1}, "must be of type bool"),
        (
            "augment.shift_vox",
            {"kind": "int", "low": 0, "high": 32},
            "is more than half of patches.size_vox=32",
        ),
    ],
)
def test_a_space_that_the_training_refuses_is_refused_before_submission(name, parameter, words):
    space = parse_space({"parameters": {name: parameter}})
    with pytest.raises(ConfigError, match=words):
        check_space(space, TrainConfig())


def test_settings_are_changed_by_their_dotted_names():
    config = with_params(TrainConfig(), {"optim.lr": 1e-4, "fold": 3, "device": "cpu"})
    assert (config.optim.lr, config.fold, config.device) == (1e-4, 3, Device.cpu)
