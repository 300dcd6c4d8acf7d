"""The user's own networks, built by a callable that a setting names.

    model.factory, model.kwargs ──build_own()──▶ nn.Module, tried on one patch

Importing a factory runs its code, so only a setting that the user typed may name one.  The factory
in a checkpoint is only compared with that setting (``checkpoint.load_model``), never imported.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import nn

from nodule_det.config.train import ModelConfig
from nodule_det.errors import ConfigError
from nodule_det.model.fused import InFullPrecision

SECTION = "model"
"""Parameter of a factory that receives the whole section of settings."""

DETECTOR_METHODS = ("loss", "search", "candidates")


def build_own(config: ModelConfig) -> nn.Module:
    """Call ``model.factory`` with ``model.kwargs``.

    A factory with a parameter named ``model`` also receives the whole :class:`ModelConfig` there.

    Returns:
        Untrained network from (n, 1, z, y, x) in [0, 1] to logits of the same shape.

    Raises:
        ConfigError: If the factory cannot be imported, does not accept the arguments, fails, or
            returns something else than a network with parameters.
    """
    name = f"model.factory={config.factory}"
    factory = _imported(config.factory)
    kwargs: dict[str, Any] = copy.deepcopy(config.kwargs)
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        signature = None
    if signature is not None:
        if SECTION in signature.parameters:
            kwargs[SECTION] = config
        try:
            signature.bind(**kwargs)
        except TypeError as error:
            raise ConfigError(
                f"{name} cannot be called with model.kwargs={config.kwargs} ({error}); set its "
                "arguments in model.kwargs={NAME: VALUE, ...}"
            ) from error
    try:
        network = factory(**kwargs)
    except Exception as error:
        remedy = _remedy(error, "correct its arguments or its code")
        raise ConfigError(
            f"{name} failed with model.kwargs={config.kwargs} ({in_one_line(error)}); {remedy}"
        ) from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{name} returned a {type(network).__name__}, expected a torch.nn.Module")
    missing = [
        method for method in DETECTOR_METHODS if not callable(getattr(network, method, None))
    ]
    if missing in (
        ["loss"],
        ["search"],
        ["candidates"],
        ["loss", "search"],
        ["loss", "candidates"],
    ):
        raise ConfigError(
            f"{name} returned a {type(network).__name__} that lacks {' and '.join(missing)} of the "
            f"methods of a detector ({', '.join(DETECTOR_METHODS)}); add them, or rename the others"
        )
    weights = list(network.parameters())
    if any(nn.parameter.is_lazy(weight) for weight in weights):
        raise ConfigError(
            f"{name} returned a network whose lazy layers have no weights yet; call it once on a "
            "patch in the factory, or use layers with a number of input channels"
        )
    if not any(weight.requires_grad for weight in weights):
        raise ConfigError(
            f"{name} returned a network without trainable parameters: nothing can be trained"
        )
    return network


def _imported(dotted: str) -> Callable[..., Any]:
    module, _, attribute = dotted.rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
    except (Exception, SystemExit) as error:
        remedy = "install its package, or add its folder to PYTHONPATH"
        if not isinstance(error, ImportError | AttributeError):
            remedy = f"correct {module}, or what it imports"
        raise ConfigError(
            f"model.factory={dotted} cannot be imported ({in_one_line(error)}); {remedy}"
        ) from error
    if not callable(found):
        raise ConfigError(f"model.factory={dotted} is a {type(found).__name__}, not a callable")
    return found  # type: ignore[no-any-return]


def finds_candidates(network: nn.Module) -> bool:
    """Return whether a network is a detector by itself (``train/detector.py``), not of logits."""
    return all(callable(getattr(network, name, None)) for name in DETECTOR_METHODS)


def require_same_shape(
    network: nn.Module, config: ModelConfig, patch_vox: int, batch_size: int = 2
) -> None:
    """Try a network on patches; a network that finds its candidates itself is not tried.

    Args:
        network: Network on the CPU; its training mode and its running averages are restored.
        config: Its settings, for the message.
        patch_vox: Edge of the patches.
        batch_size: Patches of a training step; at most two are tried.

    Raises:
        ConfigError: If it fails, returns anything but one logit per voxel, a result that cannot be
            trained, or another one when it is evaluated again.
    """
    if finds_candidates(network):
        return
    name, training = f"model.factory={config.factory}", network.training
    try:
        state = copy.deepcopy(network.state_dict())
        for mode, n in ((True, min(batch_size, 2)), (False, 1)):
            network.train(mode)
            patches = torch.zeros((n, 1, *3 * (patch_vox,))).uniform_()
            with torch.set_grad_enabled(mode):
                out = network(patches)
            _require_logits(out, patches, f"{name} maps", mode)
            if mode:
                network.load_state_dict(state)
                if not out.requires_grad:
                    raise ConfigError(
                        f"{name} returns logits without a gradient in training, so nothing can be "
                        "trained; remove detach(), torch.no_grad() and thresholds from its forward"
                    )
            else:
                with torch.no_grad():
                    again = network(patches)
                if not torch.allclose(again, out, rtol=1e-3, atol=1e-5, equal_nan=True):
                    raise ConfigError(
                        f"{name} returns other logits for the same patch in evaluation; turn off "
                        "its random layers there (if not self.training)"
                    )
    except ConfigError:
        raise
    except Exception as error:
        remedy = _remedy(error, "change patches.size_vox, optim.batch_size or model.kwargs")
        raise ConfigError(
            f"{name} cannot process a patch of {patch_vox} voxels ({in_one_line(error)}); {remedy}"
        ) from error
    finally:
        network.train(training)


def _require_logits(out: object, patches: torch.Tensor, maps: str, training: bool) -> None:
    """Refuse an output that is not one floating-point logit for each voxel of the patches."""
    shape, mode = tuple(patches.shape), "training" if training else "evaluation"
    expected = "expected one logit per voxel, a tensor of the same shape"
    if not isinstance(out, torch.Tensor):
        raise ConfigError(
            f"{maps} {shape} to a {type(out).__name__} in {mode}, {expected}; turn off deep "
            "supervision, or return only the logits"
        )
    found = tuple(out.shape)
    if found != shape:
        remedy = "turn off deep supervision, or return only the logits"
        if len(found) == len(shape):
            channels = found[:2] != shape[:2]
            remedy = "set its output channels to 1" if channels else "pad its convolutions"
        raise ConfigError(f"{maps} {shape} to {found} in {mode}, {expected}; {remedy}")
    if not out.is_floating_point():
        raise ConfigError(
            f"{maps} {shape} to {str(out.dtype).removeprefix('torch.')} in {mode}, {expected}; "
            "return logits, not classes"
        )


def _remedy(error: Exception, otherwise: str) -> str:
    return "install that package" if isinstance(error, ImportError) else otherwise


def logits_in_full_precision(network: nn.Module) -> nn.Module:
    """Copy a network so that its convolutions to one channel compute in fp32: the logits.

    Args:
        network: In evaluation mode.
    """
    copied = copy.deepcopy(network).requires_grad_(False)
    for name, layer in list(copied.named_modules()):
        if name and isinstance(layer, nn.Conv3d | nn.ConvTranspose3d) and layer.out_channels == 1:
            copied.set_submodule(name, InFullPrecision(layer))
    return copied


def in_one_line(error: BaseException) -> str:
    """Return the type and message of an error, without a traceback that it quotes."""
    text = " ".join(str(error).partition("Original traceback:")[0].split())
    return f"{type(error).__name__}: {text}"[:300]
