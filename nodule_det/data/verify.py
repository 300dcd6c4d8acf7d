"""``python -m nodule_det.data.verify``: read every voxel of a store and compare its checksums.

store ──open_store()──▶ every JSON ──problems()──▶ every volume ──▶ one line per damaged file
"""

from __future__ import annotations

from pathlib import Path

from nodule_det.cli import command, print_error
from nodule_det.config.data import VerifyConfig
from nodule_det.progress import counted


@command("data verify", VerifyConfig)
def main(config: VerifyConfig) -> int:
    """Check all files of a store; exits with 1 if any is damaged."""
    from nodule_det.data.store import open_store

    store = open_store(Path(config.store))
    scans = (*store.scans, *store.test)
    problems = [problem for scan in scans for problem in scan.problems()]
    for problem in problems:
        print_error(problem)
    if problems:
        print_error("delete the .json of these scans and run the same ingest again")
    old = sum(not scan.checksums for scan in scans)
    print(
        f"{store.path}: {counted(len(scans), 'scan')} checked, {counted(len(problems), 'problem')}"
        + (f"; {old} were written by an earlier version, without checksums" if old else "")
    )
    return 1 if problems else 0


if __name__ == "__main__":
    main()
