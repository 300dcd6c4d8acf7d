"""One run from its settings to its result: folder, lock, resume, training.

    TrainConfig ──▶ run_dir ──fit()──▶ best.pt, last.pt, metrics.jsonl ──▶ result.json

``result.json`` exists from the first second (status running) and always has the current outcome.
The exit code reports the same to a job script.
"""

from __future__ import annotations

import logging
import os
import resource
import sys
import time
from contextlib import nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from nodule_det.analysis.influence import influence
from nodule_det.analysis.interval import few_units
from nodule_det.checkpoint import load_checkpoint
from nodule_det.config.train import TrainConfig
from nodule_det.data.feed.plan import EpochPlan
from nodule_det.data.roles import require_lesions, trained_on
from nodule_det.data.store import open_store
from nodule_det.errors import ConfigError, ExitCode, NoduleDetError, OwnCodeError, StoreError
from nodule_det.files import write_json
from nodule_det.forecast.forecast import data_of, forecast, lines, nominal_rate, warnings
from nodule_det.model import (
    build_model,
    choose_device,
    choose_precision,
    keep_freed_pages,
    memory_errors,
    require_same_shape,
    set_up_backends,
)
from nodule_det.origin import TEST_FOLD, Origin, validation_kind, write_origin
from nodule_det.progress import counted
from nodule_det.runs import RunFolder, RunResult, RunStatus, new_run_dir
from nodule_det.train.assemble import assemble
from nodule_det.train.distributed import (
    World,
    clear_failures,
    lost_another,
    report_failure,
    why_lost,
    world,
)
from nodule_det.train.interrupt import Stop
from nodule_det.train.loop import fit
from nodule_det.train.partial import n_scans_done
from nodule_det.train.probe import measure
from nodule_det.train.provenance import command_line, environment
from nodule_det.train.publish import publish
from nodule_det.train.run_folder import (
    cut_metrics,
    describe,
    earlier_result,
    held,
    logging_to,
    refuse_other_settings,
)
from nodule_det.train.step import too_large
from nodule_det.train.tracker import make_tracker
from nodule_det.train.trainer import Trainer
from nodule_det.train.validate import Validation, validate

RUNS = Path("runs")
"""Parent of the run folders by default, relative to the working directory."""

log = logging.getLogger("nodule_det.train")
PACKAGE_LOG = logging.getLogger("nodule_det")
"""What model, feed and inference report belongs in ``train.log`` as well."""


def run(config: TrainConfig) -> int:
    """Start or resume a run, and print its result in one line.

    Returns:
        Exit code: ``ExitCode.COMPLETE`` or ``ExitCode.STOPPED``.

    Raises:
        NoduleDetError: If settings, store or checkpoint are unusable, or the training fails.
    """
    started_s = time.monotonic()
    config = smoke(config) if config.fast else config
    device = choose_device(config.device, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    dtype = choose_precision(config.precision, device)
    if config.run_dir is None or not RunFolder(Path(config.run_dir)).result.exists():
        refuse_unfit(config)
    keep_freed_pages()
    if config.dry_run:
        dry_run(config, device, dtype)
        return ExitCode.COMPLETE
    with world(device.type) as processes:
        folder = RunFolder(Path(config.run_dir or processes.from_first(_new_dir(processes))))
        with held(folder) if processes.first else nullcontext():
            if processes.first:
                clear_failures(folder.path)
            processes.from_first(None)  # the others must not touch a folder that is not locked
            refuse_other_settings(folder, config)
            result = earlier_result(folder)
            if result is None or result.status is not RunStatus.COMPLETE:
                session = Session(config, folder, processes, device, dtype, started_s)
                result = session.train(result or RunResult(status=RunStatus.RUNNING))
            if processes.first:
                print(in_one_line(result, folder))
        return ExitCode.STOPPED if result.status is RunStatus.STOPPED else ExitCode.COMPLETE


def refuse_unfit(config: TrainConfig) -> None:
    """Refuse unusable data and networks before a run folder is created.

    Raises:
        ConfigError: If the store or a fold of it does not exist, there is no lesion to validate on,
            patches do not fit the scans, or ``model.factory`` does not return a network that maps a
            patch to its logits.
    """
    try:
        store = open_store(config.store)
        EpochPlan(trained_on(store, config), config)
        require_lesions(store, config)
        if config.model.factory:
            require_same_shape(
                build_model(config.model),
                config.model,
                config.patches.size_vox,
                config.optim.batch_size,
            )
    except StoreError as error:
        raise ConfigError(str(error)) from error


def dry_run(config: TrainConfig, device: torch.device, dtype: torch.dtype) -> None:
    """Measure some steps, and print what the run would do and take."""
    set_up_backends(device, dtype)
    rate = measure(config, device, dtype)
    expected = forecast(config, data_of(open_store(config.store), config), rate)
    if config.run_dir is not None:
        folder = RunFolder(Path(config.run_dir))
        folder.path.mkdir(parents=True, exist_ok=True)
        write_json(folder.forecast, {**expected.as_dict(), "measured": asdict(rate)})
    print("\n".join(lines(expected)))
    for line in warnings(expected, config.limits.wall_s):
        print(f"warning: {line}", file=sys.stderr)


def what_it_does(config: TrainConfig) -> list[str]:
    """Say what a run does, before anything of it was timed."""
    rate = nominal_rate(config, torch.get_num_threads())
    expected = forecast(config, data_of(open_store(config.store), config), rate)
    return [*lines(expected), *warnings(expected, config.limits.wall_s)]


def smoke(config: TrainConfig) -> TrainConfig:
    """Shrink a run to two steps of a tiny network and two held-out scans."""
    return replace(
        config,
        patches=replace(config.patches, size_vox=32, per_epoch=4),
        augment=replace(config.augment, copies=0, shift_vox=4),
        optim=replace(config.optim, batch_size=2),
        model=replace(config.model, depth=2, filters=4, kernel_size=3),
        validation=replace(config.validation, max_scans=2),
        limits=replace(config.limits, epochs=1),
    )


def _new_dir(processes: World) -> str:
    return str(new_run_dir(RUNS)) if processes.first else ""


class Session:
    """The work of one process on a run, from its start or last checkpoint.

    Args:
        config: Settings of the run.
        folder: Its run folder.
        processes: The processes that share the work; the first one writes.
        device: Where to compute.
        dtype: Type of the forward pass.
        started_s: Start of the session, by ``time.monotonic``.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        processes: World,
        device: torch.device,
        dtype: torch.dtype,
        started_s: float,
    ) -> None:
        self.config, self.folder, self.processes = config, folder, processes
        self.device, self.dtype = device, dtype
        self._stop = Stop(config.limits.wall_s, started_s)
        self._result = RunResult(status=RunStatus.RUNNING)
        self._trainer: Trainer | None = None

    def train(self, so_far: RunResult) -> RunResult:
        """Train until the end or a stop, and keep ``result.json`` up to date.

        Args:
            so_far: Outcome of the earlier sessions.

        Raises:
            NoduleDetError: If the training fails.  ``result.json`` has the error as well.
        """
        self._result = replace(so_far, status=RunStatus.RUNNING, reason=None, message=None)
        first = self.processes.first
        with (
            self._stop.listening(),
            logging_to(self.folder, PACKAGE_LOG) if first else nullcontext(),
        ):
            try:
                with memory_errors(too_large(self.config, self.device)):
                    reason = self._work()
            except Exception as error:
                if self.processes.size == 1 or not lost_another(error):
                    self._fail(error)
                    raise
                cause = why_lost(self.folder.path)
                if first:
                    self._fail(cause)
                raise cause from error
            status = RunStatus.COMPLETE if reason is None else RunStatus.STOPPED
            if status is RunStatus.COMPLETE and first:
                write_origin(self.folder.candidates, self._origin())
            self._write(status=status, reason=reason)
            log.info("%s at step %d", reason or "complete", self._result.step)
        return self._result

    def _work(self) -> str | None:
        """Train, and test if that is due; returns why it stopped early."""
        first = self.processes.first
        set_up_backends(self.device, self.dtype)
        self._write()
        if first:
            about = environment(self.device, self.dtype, self.processes.size)
            describe(self.folder, self.config, about)
        log.info("%s", command_line())
        self._trainer = self._put_together()
        for line in what_it_does(self.config):
            log.info("%s", line)
            if first and sys.stderr.isatty():  # beside the live progress bar
                print(line, file=sys.stderr)
        reason = fit(self._trainer, self._stop.reason, self._publish)
        self._trainer.tracker.close()
        if reason is None and self.config.test_fold is not None:
            reason = self._test(self._trainer, self.config.test_fold)
        return reason

    def _put_together(self) -> Trainer:
        """Build the trainer, fresh or restored from ``last.pt``."""
        last = self.folder.checkpoint_last
        checkpoint = load_checkpoint(last) if last.exists() else None
        trainer = assemble(
            self.config, self.folder, self.processes, self.device, self.dtype, checkpoint
        )
        if checkpoint is not None:
            trainer.restore(checkpoint, last)
            log.info("resuming at step %d of %d", trainer.state.step, trainer.total_steps)
        if self.processes.first:
            state = trainer.state
            trainer.tracker = make_tracker(self.folder, self.config, state.step)
            cut_metrics(self.folder, step=state.step, validated=state.validated)
        return trainer

    def _publish(self, best: Validation) -> None:
        """Write the results of the best validation so far."""
        if self.processes.first:
            publish(self.folder, best, self._origin())
        patients = {scan.series_uid: scan.patient_key for scan in best.scans}
        self._write(
            pauc=best.froc.pauc,
            pauc_se=best.froc.pauc_se,
            pauc_interval=best.froc.pauc_interval,
            pauc_influence=influence(best.matched, patients) or None,
            cpm=best.froc.cpm,
            n_validation_scans=best.froc.n_scans,
            n_validation_lesions=best.froc.n_lesions,
            n_candidates_dropped=best.n_dropped,
        )

    def _test(self, trainer: Trainer, fold: int) -> str | None:
        """Evaluate the best checkpoint once on the test fold; returns why it was interrupted."""
        best = load_checkpoint(self.folder.checkpoint_best)
        trainer.model.load_state_dict(best.weights)
        found = validate(
            trainer.model,
            open_store(self.config.store).validation(fold),
            self.config,
            trainer.meta.receptive_field,
            device=self.device,
            dtype=self.dtype,
            world=self.processes,
            proceed=lambda _: self._stop.reason(0.0) is None,
        )
        if found is None:
            return self.processes.first_of(self._stop.reason(0.0))
        if self.processes.first:
            self.folder.test.path.mkdir(exist_ok=True)
            publish(self.folder.test, found, Origin(TEST_FOLD, trainer.meta.scans))
        log.info("test fold %d: pAUC %s", fold, _figure(found.froc.pauc))
        return None

    def _origin(self) -> Origin:
        """Say what the figures of the validation are."""
        assert self._trainer is not None  # only called once it trains
        return Origin(validation_kind(self._trainer.n_validations), self._trainer.meta.scans)

    def _write(self, **changes: Any) -> None:
        changes |= peak_memory(self.device)
        if self._trainer is not None:
            state = self._trainer.state
            changes["step"], changes["best_step"] = state.step, state.best_step
            changes["n_scans_validated"] = n_scans_done(self.folder.path)
            changes["seconds"] = round(state.seconds, 3)
            changes["n_validations"] = self._trainer.n_validations
            changes["n_parameters"] = sum(p.numel() for p in self._trainer.model.parameters())
        self._result = replace(self._result, **changes)
        if self.processes.first:
            write_json(self.folder.result, self._result.as_dict())

    def _fail(self, error: Exception) -> None:
        code = error.exit_code if isinstance(error, NoduleDetError) else ExitCode.ERROR
        known = isinstance(error, NoduleDetError)
        message = str(error) if known else f"{type(error).__name__}: {error}"
        if not self.processes.first:
            report_failure(self.folder.path, self.processes.rank, message, code)
            return
        log.error("%s", message, exc_info=not known or isinstance(error, OwnCodeError))
        with suppress(OSError):  # a full disk: the error being raised reports it
            self._write(status=RunStatus.FAILED, reason=code.reason, message=message)


def peak_memory(device: torch.device) -> dict[str, int]:
    """Return the peak memory of the process so far, and of its GPU."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = {"peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if device.type == "cuda":
        peak["peak_gpu_memory_bytes"] = torch.cuda.max_memory_allocated(device)
    return peak


def in_one_line(result: RunResult, folder: RunFolder) -> str:
    """Return the outcome of a run as one line."""
    if result.status is RunStatus.STOPPED:
        return (
            f"stopped ({result.reason}) at step {result.step}; the same command with "
            f"run_dir={folder.path} resumes it"
        )
    interval = ""
    if few_units(result.n_validation_scans or 0):
        interval = " (too few scans for a CI)"
    elif result.pauc_interval is not None:
        interval = " (95% CI {:.3f} to {:.3f})".format(*result.pauc_interval)
    dropped = ""
    if result.n_candidates_dropped:
        dropped = counted(result.n_candidates_dropped, "lower peak")
        dropped = f" ({dropped} not examined: candidates.max_per_scan)"
    return (
        f"pAUC {_figure(result.pauc)}{interval}, CPM {_figure(result.cpm)}, "
        f"{counted(result.n_validation_lesions or 0, 'lesion')} in "
        f"{counted(result.n_validation_scans or 0, 'scan')}{dropped} "
        f"({validation_kind(result.n_validations or 1)}); run folder {folder.path}, figures "
        f"{folder.curve_figure.name} and {folder.findings_figure.name}"
    )


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
