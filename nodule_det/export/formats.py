"""One network as a file that other programs run: HU in, probability out.

    members ──Exported──▶ (n, 1, z, y, x) HU ──▶ (n, 1, z, y, x) probability
    Exported ──write()──▶ .ts, .pt2 or .onnx ──check()──▶ the same values, to 1e-4

z, y and x must be multiples of the stride, or equal to the window of a network of unbounded reach.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nodule_det.config.export import Format
from nodule_det.data.scan import HuVolume
from nodule_det.errors import ConfigError
from nodule_det.model import WINDOW_HU, ReceptiveField

TOLERANCE = 1e-4
"""Largest difference in probability between a written network and the original."""

LARGEST_VOX = 160
"""Edges of the part of a scan to compare on: as much as any machine computes in one piece."""

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Exported(nn.Module):
    """The mean probability of networks, from HU.

    Args:
        networks: Members of the ensemble, in evaluation mode.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, volume_hu: Tensor) -> Tensor:
        """Map (n, 1, z, y, x) float HU to the probability of a lesion at each voxel."""
        low, high = WINDOW_HU
        x = (volume_hu.clamp(low, high) - low) / (high - low)
        total = torch.sigmoid(self.networks[0](x))
        for network in self.networks[1:]:
            total = total + torch.sigmoid(network(x))
        return total / len(self.networks)


def write(network: Exported, fields: Sequence[ReceptiveField], kind: Format, path: Path) -> None:
    """Write a network to a file.

    Args:
        network: The network.
        fields: Receptive fields of its members.
        kind: Any format but ``monai_bundle``.
        path: File to write.

    Raises:
        ConfigError: If the installed torch cannot write the format, or its extra is missing.
    """
    writers = {
        Format.torchscript: _torchscript,
        Format.torch_export: _torch_export,
        Format.onnx: _onnx,
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own notes on its exporters
            writers[kind](network, _example(fields), _shapes(fields), path)
    except ImportError as error:
        raise ConfigError(
            f"format={kind.value} needs a package that is not installed ({error}); run "
            "pip install 'nodule_det[onnx]'"
        ) from error
    except OSError:
        raise
    except Exception as error:
        why = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"torch {torch.__version__} cannot write this network as format={kind.value} "
            f"({type(error).__name__}: {why}); try another format"
        ) from error


def multiple(fields: Sequence[ReceptiveField]) -> int:
    """Return what sizes must be multiples of for every member."""
    return max(field.stride_vox for field in fields)


def _windows(fields: Sequence[ReceptiveField]) -> bool:
    return any(field.radius_vox is None for field in fields)


def _example(fields: Sequence[ReceptiveField]) -> Tensor:
    step = multiple(fields)
    edge = max(f.window_vox for f in fields) if _windows(fields) else step * max(4, 32 // step)
    return torch.linspace(-1000, 400, edge**3).reshape(1, 1, edge, edge, edge)


def _shapes(fields: Sequence[ReceptiveField]) -> dict[str, dict[int, Any]] | None:
    """Return the sizes that may vary; None for a network that is searched by windows."""
    if _windows(fields):
        return None
    step = multiple(fields)
    dims = {axis: torch.export.Dim(name, min=2, max=256) for axis, name in enumerate("zyx", 2)}
    return {"volume_hu": {axis: step * dim for axis, dim in dims.items()}}


def _torchscript(network: Exported, example: Tensor, shapes: Any, path: Path) -> None:
    torch.jit.save(torch.jit.trace(network, (example,)), str(path))  # type: ignore[no-untyped-call]


def _torch_export(network: Exported, example: Tensor, shapes: Any, path: Path) -> None:
    torch.export.save(torch.export.export(network, (example,), dynamic_shapes=shapes), path)


def _onnx(network: Exported, example: Tensor, shapes: Any, path: Path) -> None:
    import onnxscript  # noqa: F401

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it says that torchvision is missing
    torch.onnx.export(
        network, (example,), path, dynamo=True, dynamic_shapes=shapes, external_data=False,
        input_names=["volume_hu"], output_names=["probability"], verbose=False,
    )  # fmt: skip


def opened(kind: Format, path: Path) -> Run:
    """Open a written network; returns a function from HU to probability, float32 arrays.

    Raises:
        ConfigError: If onnxruntime is missing.
    """
    if kind is Format.onnx:
        try:
            import onnxruntime
        except ImportError as error:
            raise ConfigError(
                f"format=onnx is checked with onnxruntime, which is not installed ({error}); run "
                "pip install 'nodule_det[onnx]'"
            ) from error
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return lambda hu: np.asarray(session.run(None, {"volume_hu": hu})[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = (
            torch.jit.load(str(path))  # type: ignore[no-untyped-call]
            if kind is Format.torchscript
            else torch.export.load(path).module()
        )
    return lambda hu: np.asarray(module(torch.from_numpy(hu)).detach().numpy())


def check(network: Exported, run: Run, volume_hu: NDArray[np.float32]) -> float:
    """Return the largest difference in probability between a written network and the original.

    Args:
        network: The original.
        run: The written one.
        volume_hu: (z, y, x) HU to compare on.

    Raises:
        ConfigError: If they differ by more than ``TOLERANCE``.
    """
    batch = volume_hu[None, None]
    with torch.inference_mode():
        expected = network(torch.from_numpy(batch)).numpy()
    off = float(np.abs(run(batch) - expected).max())
    if not off <= TOLERANCE:
        raise ConfigError(
            f"the written network differs from the original by {off:.2g} in probability, more "
            f"than {TOLERANCE:g}, so it was deleted; try another format"
        )
    return off


def check_volume(fields: Sequence[ReceptiveField]) -> NDArray[np.float32]:
    """Return noise with structure, of another size than the example where sizes may vary."""
    step = multiple(fields)
    edges = [step * max(3, 24 // step) + step * k for k in range(3)]
    if _windows(fields):
        edges = [max(field.window_vox for field in fields)] * 3
    rng = np.random.default_rng(0)
    return rng.normal(-700, 300, edges).astype(np.float32)


def middle(volume_hu: HuVolume, fields: Sequence[ReceptiveField]) -> NDArray[np.float32]:
    """Return the middle of a scan, of a size that all members accept.

    Args:
        volume_hu: (z, y, x) HU.
        fields: Receptive fields of the members.

    Raises:
        ConfigError: If the scan is too small for them.
    """
    step = multiple(fields)
    edges = [min(n, LARGEST_VOX) // step * step for n in volume_hu.shape]
    if _windows(fields):
        edges = [max(field.window_vox for field in fields)] * 3
    if any(edge > n or edge < step for edge, n in zip(edges, volume_hu.shape, strict=True)):
        raise ConfigError(
            f"the scan has {volume_hu.shape} voxels around its lungs, too few for a network that "
            f"takes blocks of {edges}; use another scan="
        )
    first = [(n - edge) // 2 for n, edge in zip(volume_hu.shape, edges, strict=True)]
    part = volume_hu[tuple(slice(a, a + edge) for a, edge in zip(first, edges, strict=True))]
    return np.ascontiguousarray(part, np.float32)
