"""The folder that predict fills: a record per scan as soon as it is done, one CSV of all.

    ScanCandidates ──write()──▶ UID.mrk.json, scans/UID.json ──join()──▶ candidates.csv

A scan is done once its record exists, so a command that was stopped at any moment can resume.  The
CSV is written last: one with half of the scans would look complete and silently cost sensitivity.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from nodule_det.candidates import (
    NO_COLUMNS,
    ScanCandidates,
    ScoreColumns,
    checked,
    write_candidates,
)
from nodule_det.errors import ConfigError
from nodule_det.files import read_sealed, write_sealed
from nodule_det.locking import Lock
from nodule_det.predict.markups import SUFFIX, write_markups
from nodule_det.progress import counted
from nodule_det.untrusted import printable

FORMAT = 1
MADE_BY = "predict.json"
DICOM_ENDINGS = (".sr.dcm", ".seg.dcm")
MAX_BYTES = 256 * 2**20
LONGEST_STEM = 120
"""Characters; file systems allow 255 bytes, including endings and temporary names."""

MadeBy = dict[str, Any]
"""What candidates depend on: setting -> value."""


class Predictions:
    """Candidates of scans on disk, all made by the same checkpoint and settings.

    Args:
        path: Folder.
        markups_max: Points in a Markups file.
        extra: Further columns of ``candidates.csv`` and of the Markups' descriptions.
    """

    def __init__(self, path: Path, markups_max: int, extra: ScoreColumns = NO_COLUMNS) -> None:
        self.path = path
        self._records = path / "scans"
        self._markups_max = markups_max
        self._extra = extra

    @property
    def candidates(self) -> Path:
        """The candidates of all scans, as CSV."""
        return self.path / "candidates.csv"

    @contextmanager
    def claimed(self, made_by: MadeBy, series_uids: Sequence[str]) -> Iterator[None]:
        """Hold the folder for one command, which resumes the results in it.

        Args:
            made_by: What the candidates depend on.
            series_uids: The scans.

        Raises:
            ConfigError: If the folder holds something else, candidates of another checkpoint,
                other settings or other scans, or it cannot be written.
            BusyError: If another command is writing to it.
        """
        self._refuse_foreign()
        self._refuse_other(made_by)
        self._refuse_strangers(series_uids)
        with ExitStack() as held:
            with self.writing():
                self._records.mkdir(parents=True, exist_ok=True)
                held.enter_context(
                    Lock(self.path / ".lock", f"out={self.path} is in use by another predict")
                )
                for folder in (self.path, self._records):
                    for left in folder.glob(".*.tmp"):  # by a command that was killed
                        left.unlink(missing_ok=True)
                write_sealed(self.path / MADE_BY, {"format": FORMAT, "made_by": made_by})
            yield

    def _refuse_foreign(self) -> None:
        if (self.path / MADE_BY).exists():
            return
        for strange in (self.candidates, self._records):
            if strange.exists():
                raise ConfigError(
                    f"out={self.path} holds {strange.name} but no {MADE_BY}, so predict did not "
                    "write it; use a new folder"
                )

    def _refuse_other(self, made_by: MadeBy) -> None:
        file = self.path / MADE_BY
        if not file.exists():
            return
        try:
            was = dict(read_sealed(file, MAX_BYTES)["made_by"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = printable(str(error).removeprefix(f"{file} "), 300)
            raise ConfigError(f"{file} is damaged ({why}); use another out=") from error
        for name in sorted(was.keys() | made_by.keys()):
            if was.get(name) != made_by.get(name):
                raise ConfigError(
                    f"out={self.path} holds candidates made with {name}="
                    f"{_shown(was, name)} but {name}={_shown(made_by, name)} was requested; use "
                    "another out="
                )

    def _refuse_strangers(self, series_uids: Sequence[str]) -> None:
        known = {f"{file_stem(uid)}.json" for uid in series_uids}
        strange = sorted({p.name for p in self._records.glob("[!.]*.json")} - known)
        if strange:
            raise ConfigError(
                f"out={self.path} holds candidates of {counted(len(strange), 'scan')} that input= "
                f"does not have, the first is {strange[0].removesuffix('.json')}; use another out="
            )

    def read(self, series_uid: str, stamp: str | None = None) -> ScanCandidates | None:
        """Return the candidates of a scan, or None if it has to be done.

        Args:
            series_uid: The scan.
            stamp: Stamp of its present files; None accepts any.
        """
        try:
            content = read_sealed(self._record(series_uid), MAX_BYTES)
            if stamp is not None and content["stamp"] != stamp:
                return None
            if content["series_uid"] != series_uid:
                return None
            return checked(content["candidates"], content["n_dropped"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, OverflowError):  # damaged: done again
            return None

    def write(self, series_uid: str, stamp: str, found: ScanCandidates) -> None:
        """Write the candidates of a scan.

        Raises:
            ConfigError: If the folder cannot be written.
        """
        rows = np.column_stack([found.world_mm, found.score, found.diameter_mm])
        with self.writing():
            write_markups(self._markups(series_uid), found, self._markups_max, self._extra)
            write_sealed(
                self._record(series_uid),
                {
                    "series_uid": series_uid,
                    "stamp": stamp,
                    "columns": ["coordX", "coordY", "coordZ", "probability", "diameter_mm"],
                    "candidates": rows.tolist(),
                    "n_dropped": found.n_dropped,
                },
            )

    def drop(self, series_uid: str) -> None:
        """Delete the results of a scan that can no longer be read.

        Raises:
            ConfigError: If the folder cannot be written.
        """
        with self.writing():
            self._record(series_uid).unlink(missing_ok=True)
            self._markups(series_uid).unlink(missing_ok=True)
            for ending in DICOM_ENDINGS:
                self.dicom(series_uid, ending).unlink(missing_ok=True)

    @property
    def most(self) -> int:
        """Candidates of a scan in its Markups file and DICOM objects."""
        return self._markups_max

    def dicom(self, series_uid: str, ending: str) -> Path:
        """Return the file of a scan's DICOM object, whose name has one of ``DICOM_ENDINGS``."""
        return self.path / f"{file_stem(series_uid)}{ending}"

    def join(self, series_uids: Sequence[str]) -> None:
        """Write the candidates of these scans as one CSV; a scan without a record has no rows.

        Raises:
            ConfigError: If the folder cannot be written.
        """
        done = ((uid, found) for uid in series_uids if (found := self.read(uid)) is not None)
        with self.writing():
            write_candidates(self.candidates, done, self._extra)

    def _record(self, series_uid: str) -> Path:
        return self._records / f"{file_stem(series_uid)}.json"

    def _markups(self, series_uid: str) -> Path:
        return self.path / f"{file_stem(series_uid)}{SUFFIX}"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Name the setting to change if a file cannot be written."""
        try:
            yield
        except OSError as error:
            raise ConfigError(
                f"out={self.path} cannot be written ({error.strerror or error}); use a folder "
                "with free space that you may write to; completed scans are kept, and the same "
                "command resumes"
            ) from error


def _shown(values: MadeBy, name: str) -> str:
    return printable(str(values[name]), 200) if name in values else "(unset)"


def file_stem(series_uid: str) -> str:
    """Turn a series' key into a file name, a different one for each key.

    A DICOM tag may hold anything, including ``../``.

    Example:
        >>> file_stem("1.2.840/../x")
        '1.2.840%2F..%2Fx'
    """
    stem = re.sub(r"^\.|[^\w.\- ]", _quoted, series_uid)  # a leading dot would hide the file
    if len(stem.encode(errors="surrogateescape")) <= LONGEST_STEM:
        return stem
    digest = hashlib.sha256(series_uid.encode(errors="surrogateescape")).hexdigest()
    return f"{quote(stem, safe='%')[:LONGEST_STEM]}%{digest[:16]}"  # longer than any uncut one


def _quoted(character: re.Match[str]) -> str:
    code = quote(character[0], safe="", errors="surrogateescape")
    return "%2E" if code == "." else code
