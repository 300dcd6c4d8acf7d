"""How many processors this process may use."""

from __future__ import annotations

import os


def available_cpus() -> int:
    """Return the processors that the job was granted; all of the machine where none are bound.

    Linux binds processes to processors, which batch systems use; macOS does not.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
