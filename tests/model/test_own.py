"""Factories that work, and each way in which one cannot."""

import re
from types import ModuleType

import pytest
import torch
from torch import nn

from nodule_det.config.train import ModelConfig
from nodule_det.errors import ConfigError
from nodule_det.model.own import build_own, logits_in_full_precision, require_same_shape


def conv(channels=1):
    return nn.Conv3d(1, channels, 3, padding=1)


def by_section(model):
    return conv(model.filters)


def refuses(channels):
    raise RuntimeError(f"cannot have\n{channels} channels")


def frozen():
    return conv().requires_grad_(False)


def in_a_dict():
    return {"network": conv()}


def half():
    network = conv()
    network.candidates = lambda found, grid, inside: None
    return network


def lazy():
    return nn.Sequential(nn.LazyConv3d(2, 3, padding=1), nn.Conv3d(2, 1, 1))


def needs():
    raise ImportError("No module named 'einops'")


@pytest.fixture(autouse=True)
def package(monkeypatch):
    """Make ``my_package.nets`` importable, with the functions of this file."""
    module = ModuleType("my_package.nets")
    for value in (conv, by_section, refuses, frozen, in_a_dict, half, lazy, needs):
        setattr(module, value.__name__, value)
    module.number, module.empty, module.nothing = 3, nn.Identity, lambda: None
    monkeypatch.setitem(__import__("sys").modules, "my_package", ModuleType("my_package"))
    monkeypatch.setitem(__import__("sys").modules, "my_package.nets", module)


def own(name, **kwargs):
    return ModelConfig(factory=f"my_package.nets.{name}", kwargs=kwargs)


def test_a_factory_gets_its_arguments_by_name():
    assert build_own(own("conv", channels=5)).out_channels == 5
    assert build_own(own("conv")).out_channels == 1


def test_a_factory_with_a_parameter_named_model_gets_the_section():
    config = ModelConfig(factory="my_package.nets.by_section", filters=7)
    assert build_own(config).out_channels == 7


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (own("missing"), "cannot be imported .AttributeError.*install its package, or add"),
        (
            ModelConfig(factory="no_such_package.net"),
            "model.factory=no_such_package.net cannot be imported .ModuleNotFoundError: No module",
        ),
        (own("number"), "is a int, not a callable"),
        (own("by_section", x=1), "cannot be called with model.kwargs=.'x': 1. .got an unexpected"),
        (own("refuses"), "missing a required argument: 'channels'.; set its arguments in"),
        (own("refuses", channels=2), "failed .*RuntimeError: cannot have 2 channels"),
        (own("nothing"), "returned a NoneType, expected a torch.nn.Module"),
        (own("empty"), "without trainable parameters: nothing can be trained"),
        (own("frozen"), "without trainable parameters: nothing can be trained"),
        (own("in_a_dict"), "returned a dict, expected a torch.nn.Module"),
        (own("half"), "returned a Conv3d that lacks loss and search of the methods of a detector"),
        (own("lazy"), "lazy layers have no weights yet; call it once on a patch in the factory"),
        (own("needs"), "failed with .* No module named 'einops'.; install that package"),
    ],
)
def test_a_factory_that_cannot_be_used_is_refused_in_one_line(config, words):
    with pytest.raises(ConfigError, match=words) as caught:
        build_own(config)
    assert "\n" not in str(caught.value)


def test_a_module_that_ends_the_process_on_import_is_refused(tmp_path, monkeypatch):
    (tmp_path / "quits.py").write_text("raise SystemExit(0)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"factory=quits\.net cannot be imported \(SystemExit"):
        build_own(ModelConfig(factory="quits.net"))


def test_a_module_that_fails_on_import_is_refused_without_the_remedy_of_a_missing_one(
    tmp_path, monkeypatch
):
    (tmp_path / "fails.py").write_text("raise RuntimeError('no driver\\nsee the log')")
    monkeypatch.syspath_prepend(tmp_path)
    line = re.escape("(RuntimeError: no driver see the log); correct fails, or what it imports")
    with pytest.raises(ConfigError, match=rf"fails\.net cannot be imported {line}"):
        build_own(ModelConfig(factory="fails.net"))


def test_another_shape_is_refused_with_both_shapes():
    config = own("conv", channels=2)
    words = (
        r"maps \(2, 1, 16, 16, 16\) to \(2, 2, 16, 16, 16\) in training, expected one logit per "
        "voxel, a tensor of the same shape; set its output channels to 1"
    )
    with pytest.raises(ConfigError, match=words):
        require_same_shape(build_own(config), config, 16)


class Changed(nn.Conv3d):
    """A convolution whose output is changed by a function."""

    def __init__(self, change, padding=0):
        super().__init__(1, 1, 1 + 2 * padding)
        self.change = change

    def forward(self, x):
        return self.change(super().forward(x), self.training)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (
            Changed(lambda y, training: [y, y] if training else y),
            "to a list in training, .*; turn off deep supervision",
        ),
        (Changed(lambda y, training: y if training else (y,)), "to a tuple in evaluation"),
        (Changed(lambda y, _: {"out": y}), "to a dict in training"),
        (Changed(lambda y, _: torch.stack([y, y], 1)), "turn off deep supervision"),
        (Changed(lambda y, _: y, padding=1), r"to \(2, 1, 14, 14, 14\) .*; pad its convolutions"),
        (
            Changed(lambda y, _: (y > 0).long()),
            "to int64 in training, .*return logits, not classes",
        ),
        (Changed(lambda y, _: y.detach()), "without a gradient in training.*; remove detach"),
        (
            Changed(lambda y, _: y + torch.rand_like(y)),
            "other logits for the same patch in evaluation; turn off its random layers",
        ),
        (nn.Sequential(conv().double()), "cannot process a patch of 16 voxels .RuntimeError"),
    ],
)
def test_outputs_that_are_not_logits_to_train_are_refused_and_the_mode_is_kept(network, words):
    network.eval()
    with pytest.raises(ConfigError, match=words) as caught:
        require_same_shape(network, own("conv"), 16)
    assert "\n" not in str(caught.value)
    assert not network.training


class Gated(nn.Module):
    """Batch norm of one value per channel and patch, which needs two patches in training."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = conv(4), nn.BatchNorm3d(4), nn.Conv3d(4, 1, 1)

    def forward(self, x):
        y = self.first(x)
        return self.last(y * self.norm(y.mean((2, 3, 4), keepdim=True)))


def test_batch_norm_that_needs_two_patches_is_refused_for_batches_of_one_only():
    require_same_shape(Gated(), own("conv"), 16, batch_size=2)
    with pytest.raises(ConfigError, match=r"Expected more than 1 value.*optim\.batch_size"):
        require_same_shape(Gated(), own("conv"), 16, batch_size=1)
    each_voxel = nn.Sequential(conv(4), nn.BatchNorm3d(4), nn.Dropout3d(), nn.Conv3d(4, 1, 1))
    require_same_shape(each_voxel, own("conv"), 16, batch_size=1)


def test_a_patch_that_the_network_cannot_process_is_refused():
    with pytest.raises(ConfigError, match=r"cannot process a patch of 16 voxels \(RuntimeError"):
        require_same_shape(nn.Conv3d(2, 1, 1), own("conv"), 16)


def test_trying_a_network_leaves_its_running_averages_alone():
    network = nn.Sequential(nn.BatchNorm3d(1), conv())
    require_same_shape(network, own("conv"), 16)
    assert network.training
    assert network[0].num_batches_tracked == 0
    assert network[0].running_mean == 0


def test_logits_are_computed_in_fp32_though_the_rest_is_not():
    torch.manual_seed(0)
    network = nn.Sequential(conv(4), nn.Conv3d(4, 1, 1)).eval()
    exact = logits_in_full_precision(network)
    x = torch.rand(1, 1, 8, 8, 8)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert network(x).dtype is torch.bfloat16
        assert exact(x).dtype is torch.float32
    with torch.inference_mode():
        torch.testing.assert_close(exact(x), network(x))
    assert isinstance(network[1], nn.Conv3d)  # the original is unchanged


def test_a_path_that_is_not_dotted_is_refused():
    for wrong in ("net", "a-b.net", "os.system()", ".x", "a..b"):
        with pytest.raises(ConfigError, match=r"not an import path; use PACKAGE\.MODULE\.NAME"):
            ModelConfig(factory=wrong)
    with pytest.raises(ConfigError, match=r"model\.kwargs is set without model\.factory"):
        ModelConfig(kwargs={"a": 1})
