"""Batch systems that run the trainings.  ``make_dispatcher`` picks one by the settings."""

from __future__ import annotations

from pathlib import Path

from nodule_det.config.hpo import DispatcherConfig, DispatcherKind
from nodule_det.errors import DispatchError
from nodule_det.hpo.dispatch.base import Dispatcher
from nodule_det.hpo.dispatch.local import LocalDispatcher
from nodule_det.hpo.dispatch.pbs import PbsDispatcher
from nodule_det.hpo.dispatch.slurm import SlurmDispatcher

DISPATCHERS: dict[DispatcherKind, type[Dispatcher]] = {
    DispatcherKind.local: LocalDispatcher,
    DispatcherKind.pbs: PbsDispatcher,
    DispatcherKind.slurm: SlurmDispatcher,
}
_PACKAGE = Path(__file__).parents[2]


def job_script() -> Path:
    """Find ``submit_pbs.sh``: beside the package in a checkout, inside it once installed."""
    for folder in (_PACKAGE / "scripts", _PACKAGE.parent / "scripts"):
        if (folder / "submit_pbs.sh").is_file():
            return folder / "submit_pbs.sh"
    raise DispatchError(
        f"scripts/submit_pbs.sh is missing beside {_PACKAGE}; reinstall the package"
    )


def make_dispatcher(config: DispatcherConfig) -> Dispatcher:
    """Make the dispatcher that the settings name."""
    return DISPATCHERS[config.kind](config, job_script())
