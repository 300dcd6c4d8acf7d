import pytest

from nodule_det.config.train import Device, ModelConfig, TrainConfig
from nodule_det.errors import ConfigError
from nodule_det.hpo.space.parsing import parse_space, read_space
from nodule_det.hpo.training.check import check_space, with_params

OWN = TrainConfig(model=ModelConfig(factory="monai.networks.nets.SegResNet"))


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


@pytest.mark.parametrize("name", ["model.factory", "model.kwargs"])
def test_a_space_cannot_name_code_to_run(name):
    parameters = {"optim.lr": {"kind": "float", "low": 0.001, "high": 0.1}}
    parameters[name] = {"kind": "fixed", "value": "os.system"}
    with pytest.raises(ConfigError, match=f"has {name}, which names code to run; set train.{name}"):
        check_space(parse_space({"parameters": parameters}), OWN)


def test_arguments_of_a_network_of_ones_own_are_tuned_by_name():
    filters = {"kind": "int", "low": 4, "high": 8, "step": 4}
    space = parse_space({"parameters": {"model.kwargs.init_filters": filters}})
    check_space(space, OWN)
    with pytest.raises(ConfigError, match="is not a setting of the train command"):
        check_space(space, TrainConfig())
    params = {"model.kwargs.init_filters": 4, "model.kwargs": {"norm": "batch"}}
    config = with_params(OWN, params)
    assert config.model.kwargs == {"norm": "batch", "init_filters": 4}


def test_settings_are_changed_by_their_dotted_names():
    config = with_params(TrainConfig(), {"optim.lr": 1e-4, "fold": 3, "device": "cpu"})
    assert (config.optim.lr, config.fold, config.device) == (1e-4, 3, Device.cpu)


def test_batches_that_the_processes_of_a_job_cannot_share_are_refused():
    batch_size = {"kind": "ordinal", "values": [4, 6]}
    space = parse_space({"parameters": {"optim.batch_size": batch_size}})
    check_space(space, TrainConfig(), processes_per_job=2)
    message = r"optim.batch_size=6 cannot be shared equally by dispatcher.processes_per_job=4"
    with pytest.raises(ConfigError, match=message):
        check_space(space, TrainConfig(), processes_per_job=4)
