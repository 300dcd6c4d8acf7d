"""One driver per study, even if several login nodes share the file system.

StudyLock ──beat() at every step──▶ still held, or this driver stops

``nodule_det.locking`` describes when a lock is taken over.
"""

from __future__ import annotations

from pathlib import Path

from nodule_det.errors import BusyError
from nodule_det.locking import STALE_S, Lock, read_holder


class StudyLock(Lock):
    """A lock to hold while writing to a study.

    Args:
        path: The lock file.
        stale_s: Silence of a holder on another machine after which its lock is taken over.

    Raises:
        BusyError: On entering, if another driver holds it.
    """

    def __init__(self, path: Path, stale_s: float = STALE_S) -> None:
        super().__init__(
            path,
            f"study {path.parent} already has a driver",
            on_lost=lambda: None,  # beat() notices it, and the driver exits properly
            stale_s=stale_s,
        )

    def beat(self) -> None:
        """Show that the driver is alive.

        Raises:
            BusyError: If another driver has taken the lock over.  Nothing more may be written.
        """
        if not self.touch():
            holder = read_holder(self.path) or "another process"
            raise BusyError(
                f"{self.path} was taken over by {holder}; this driver stops, its jobs continue"
            )
