"""Keep freed memory in the process, where the C library lets us say so."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_pages() -> None:
    """Tell glibc to reuse freed memory instead of giving it back to the system.

    A training step frees and takes the same hundreds of megabytes again; fetching them from the
    kernel, page by page, costs a quarter of a step at 64^3 patches.  The process keeps its peak
    memory.  Elsewhere than on glibc this does nothing, and changes nothing but speed.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, -1)
