"""Batch systems that run the trainings.  ``make_dispatcher`` selects one from the settings."""

from __future__ import annotations

import shutil
from pathlib import Path

from nodule_det.config.hpo import DispatcherConfig, DispatcherKind
from nodule_det.errors import DispatchError
from nodule_det.hpo.dispatch.base import Dispatcher, MissingCommand
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


def require_commands(kind: DispatcherKind) -> None:
    """Refuse a batch system whose commands are not installed here.

    Raises:
        MissingCommand: If a command is missing.
    """
    for name in DISPATCHERS[kind].COMMANDS:
        if shutil.which(name) is None:
            raise MissingCommand(
                f"dispatcher.kind={kind.value} needs the command {name}, which is not on the PATH; "
                "load the module of the batch system, or choose another dispatcher"
            )


def make_dispatcher(config: DispatcherConfig) -> Dispatcher:
    """Return the dispatcher selected by the settings."""
    return DISPATCHERS[config.kind](config, job_script())
