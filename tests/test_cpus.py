"""Processors: those the job may use on Linux, all of them on macOS."""

from __future__ import annotations

import os
import subprocess
import sys

from nodule_det.cpus import available_cpus

PRINT = "from nodule_det.cpus import available_cpus; print(available_cpus())"


def test_a_job_bound_to_one_processor_uses_one():
    one = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{one}}}); {PRINT}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_a_system_without_binding_uses_all(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    assert available_cpus() == os.cpu_count()
