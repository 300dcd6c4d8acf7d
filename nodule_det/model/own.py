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
        raise ConfigError(
            f"{name} failed with model.kwargs={config.kwargs} ({_line(error)}); correct its "
            "arguments or its code"
        ) from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{name} returned a {type(network).__name__}, expected a torch.nn.Module")
    if next(network.parameters(), None) is None:
        raise ConfigError(f"{name} returned a network without parameters: nothing can be trained")
    return network


def _imported(dotted: str) -> Callable[..., Any]:
    module, _, attribute = dotted.rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"model.factory={dotted} cannot be imported ({_line(error)}); install its package, or "
            "add its folder to PYTHONPATH"
        ) from error
    if not callable(found):
        raise ConfigError(f"model.factory={dotted} is a {type(found).__name__}, not a callable")
    return found  # type: ignore[no-any-return]


def finds_candidates(network: nn.Module) -> bool:
    """Return whether a network is a detector by itself (``train/detector.py``), not of logits."""
    return all(callable(getattr(network, name, None)) for name in DETECTOR_METHODS)


def require_same_shape(network: nn.Module, config: ModelConfig, patch_vox: int) -> None:
    """Try a network on one patch; a network that finds its candidates itself is not tried.

    Args:
        network: Network on the CPU; its training mode is restored.
        config: Its settings, for the message.
        patch_vox: Edge of the patches.

    Raises:
        ConfigError: If it fails, or returns anything but one logit per voxel.
    """
    if finds_candidates(network):
        return
    name, shape = f"model.factory={config.factory}", (1, 1, *3 * (patch_vox,))
    training = network.training
    try:
        for mode in (True, False):
            network.train(mode)
            with torch.no_grad():
                before = copy.deepcopy(network.state_dict()) if mode else None
                out = network(torch.zeros(shape).uniform_())
            if before is not None:
                network.load_state_dict(before)
            if not isinstance(out, torch.Tensor) or tuple(out.shape) != shape:
                is_tensor = isinstance(out, torch.Tensor)
                what = tuple(out.shape) if is_tensor else f"a {type(out).__name__}"
                raise ConfigError(
                    f"{name} maps {shape} to {what} in {'training' if mode else 'evaluation'}, "
                    "expected one logit per voxel, the same shape; set its output channels to 1"
                )
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{name} cannot process a patch of {patch_vox} voxels ({_line(error)}); change "
            "patches.size_vox or model.kwargs"
        ) from error
    finally:
        network.train(training)


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


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300]
