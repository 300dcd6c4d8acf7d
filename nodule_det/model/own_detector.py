"""A module of the user's own that finds candidates itself, with each of its results checked.

    module ──OwnDetector──▶ loss, search, candidates, or one line that says what is wrong with them

The protocol is that of ``train/detector.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nodule_det.arrays import BoolArray
from nodule_det.candidates import ScanCandidates, checked
from nodule_det.errors import NoduleDetError, OwnCodeError
from nodule_det.geometry import Grid
from nodule_det.model.device import is_out_of_memory
from nodule_det.model.own import in_one_line


@contextmanager
def own_code(factory: str, part: str) -> Iterator[None]:
    """Convert what code outside the package raises into one line that names it.

    Args:
        factory: The ``model.factory``; nothing is converted if it is empty.
        part: What was being computed.

    Raises:
        OwnCodeError: In place of any error but those of the package, of memory, and of the capture
            of a CUDA graph, which ends in ordinary steps.
    """
    try:
        yield
    except NoduleDetError:
        raise
    except Exception as error:
        passed_on = isinstance(error, MemoryError) or (
            isinstance(error, RuntimeError)
            and (
                is_out_of_memory(error)
                or (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing())
            )
        )
        if passed_on or not factory:
            raise
        raise OwnCodeError(
            f"model.factory={factory} failed in {part} ({in_one_line(error)}); correct its code"
        ) from error


class OwnDetector:
    """A detector of the user's own.

    Args:
        module: What ``model.factory`` returned.
        factory: Its import path, for the messages.
    """

    def __init__(self, module: nn.Module, factory: str) -> None:
        self._module: Any = module
        self._factory = factory

    @property
    def reach_vox(self) -> int | None:
        """How far an output sees, in voxels; None if the module does not say."""
        reach: int | None = getattr(self._module, "reach_vox", None)
        return reach

    def loss(self, forward: nn.Module, image_hu: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return the loss of a batch.

        Raises:
            OwnCodeError: If the module fails, or returns anything but a scalar with a gradient.
        """
        with own_code(self._factory, "loss()"):
            loss = self._module.loss(forward, image_hu, target, weight)
        if not isinstance(loss, Tensor):
            raise self._wrong("loss()", f"a {type(loss).__name__}, expected a scalar tensor")
        if loss.numel() != 1:
            raise self._wrong(
                "loss()", f"a tensor of shape {tuple(loss.shape)}, expected a scalar: its mean"
            )
        if torch.is_grad_enabled() and not loss.requires_grad:
            raise self._wrong(
                "loss()",
                "a tensor without a gradient; remove detach(), item() and torch.no_grad() from it",
            )
        return loss.reshape(())

    def search(self, volume_hu: Tensor) -> Any:
        """Search a (z, y, x) volume in HU on its device; the result is for :meth:`candidates`.

        Raises:
            OwnCodeError: If the module fails.
        """
        with own_code(self._factory, "search()"):
            return self._module.search(volume_hu)

    def candidates(self, found: Any, grid: Grid, inside: BoolArray) -> ScanCandidates:
        """Return the candidates of a scan, the best first.

        Raises:
            OwnCodeError: If the module fails, or returns anything but candidates.
        """
        with own_code(self._factory, "candidates()"):
            result = self._module.candidates(found, grid, inside)
        if not isinstance(result, ScanCandidates):
            raise self._wrong(
                "candidates()", f"a {type(result).__name__}, expected nodule_det.ScanCandidates"
            )
        try:
            rows = np.column_stack([result.world_mm, result.score, result.diameter_mm])
            valid = checked(rows.tolist(), result.n_dropped)
        except ValueError as error:
            raise self._wrong(
                "candidates()",
                f"ScanCandidates that no scan can have ({error}); expected world_mm (n, 3), score "
                "(n,) from 0 to 1 and diameter_mm (n,)",
            ) from error
        order = np.argsort(-valid.score, kind="stable")
        return ScanCandidates(
            valid.world_mm[order], valid.score[order], valid.diameter_mm[order], valid.n_dropped
        )

    def _wrong(self, part: str, what: str) -> OwnCodeError:
        return OwnCodeError(f"{part} of model.factory={self._factory} returned {what}")
