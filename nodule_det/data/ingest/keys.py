"""Keys that replace the names of patients and scans, computed with a secret beside the store.

    PatientID ──sha256 (in memory only)──▶ ──BLAKE2b with the secret──▶ key of the patient
    series UID ──BLAKE2b with the secret──▶ 2.25.N, a valid UID            (anonymise=true)

A plain hash of a hospital number can be reversed by trying all numbers.  A keyed hash cannot be
reversed without the secret.  The secret is a file that only its owner can read.  It is outside the
store, so a copied or shared store does not contain it.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nodule_det.data.scan import Finding, ScanEntry
from nodule_det.errors import StoreError
from nodule_det.tables import SERIES, write_table
from nodule_det.untrusted import read_text

PLAIN_KEY = re.compile(r"[0-9a-f]{16}")
"""A patient's key in stores of earlier versions: a hash that can be reversed."""
COLUMNS = (
    *("kind", "texture", "attachment", "spiculation", "calcified", "readers", "component"),
    "segment",
    *("subtlety", "internalStructure", "calcification", "sphericity", "margin", "lobulation"),
    "malignancy",
)
"""Columns of annotations that describe a lesion; they are kept even if ``columns`` omits them."""
LONGEST_VALUE = 64


@dataclass(frozen=True)
class Keys:
    """Converts names in a data set to keys in a store."""

    secret: bytes
    anonymise: bool

    @property
    def secret_id(self) -> str:
        """Fingerprint of the secret, recorded in the store."""
        return self._hash("secret", "")[:16]

    def patient(self, plain_key: str) -> str:
        """Return the key of a patient from the hash that readers compute in memory."""
        return f"p{self._hash('patient', plain_key)[:20]}"

    def scan(self, series_uid: str) -> str:
        """Return the key of a scan: its own UID or name, or a random UID if anonymised."""
        if not self.anonymise:
            return series_uid
        return f"2.25.{int(self._hash('scan', series_uid)[:32], 16)}"

    def stamp(self, source_stamp: str) -> str:
        """Return the keyed stamp of a scan's files, from which their names cannot be guessed."""
        return f"s{self._hash('stamp', source_stamp)[:32]}"

    def entry(self, entry: ScanEntry) -> ScanEntry:
        """Return an entry with the keys that the store may contain."""
        return replace(
            entry,
            series_uid=self.scan(entry.series_uid),
            patient_key=self.patient(entry.patient_key),
        )

    def _hash(self, use: str, text: str) -> str:
        data = text.encode(errors="surrogateescape")
        return hashlib.blake2b(
            data, key=self.secret, person=use.encode(), digest_size=32
        ).hexdigest()


def secret_file(out: str, secret: str | None) -> Path:
    """Return the file of a store's secret: the configured one, or the one beside the store."""
    return Path(secret) if secret else Path(f"{out.rstrip('/')}.secret")


def names_file(out: str) -> Path:
    """Return the private table of an anonymised store, beside it."""
    return Path(f"{out.rstrip('/')}.names.csv")


def read_secret(path: Path) -> bytes | None:
    """Read a secret; None if the file does not exist.

    Raises:
        StoreError: If it is damaged or readable by all users.
    """
    if not path.parent.is_dir():
        return None
    try:
        text = read_text(path, 1000).strip()
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise StoreError(f"secret={path} cannot be read ({error})") from error
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise StoreError(
            f"secret={path} is not a secret of 64 hexadecimal digits; restore the file"
        )
    if path.stat().st_mode & 0o007:
        raise StoreError(f"secret={path} can be read by everybody; run: chmod 600 {path}")
    return bytes.fromhex(text)


def open_secret(path: Path, setting: str) -> bytes:
    """Read a secret, or make one.

    Args:
        path: Its file.
        setting: What to change if it cannot be written, such as ``out=stores/a``.

    Raises:
        StoreError: If it is damaged, readable by all users, or cannot be written.
    """
    secret = read_secret(path)
    if secret is not None:
        return secret
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return make_secret(path)
    except OSError as error:
        raise StoreError(
            f"{setting} cannot be written ({error.strerror}: {path}); use a folder that you may "
            "write to, or set secret=FILE to a place for the secret"
        ) from error


def make_secret(path: Path) -> bytes:
    """Write a new secret that only its owner can read, or return one written in the meantime."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        existing = read_secret(path)
        if existing is None:
            raise
        return existing
    with os.fdopen(fd, "w") as file:
        file.write(secrets.token_hex(32) + "\n")
        file.flush()
        os.fsync(fd)
    return read_secret(path) or b""


def allowed(entry: ScanEntry, columns: Sequence[str]) -> ScanEntry:
    """Return an entry whose findings have only allowed attributes, without long texts."""
    return replace(entry, findings=tuple(_allowed(f, columns) for f in entry.findings))


def _allowed(finding: Finding, columns: Sequence[str]) -> Finding:
    kept = {
        name: value
        for name, value in finding.attributes.items()
        if name in COLUMNS or name in columns
    }
    for name, value in kept.items():
        if len(value) > LONGEST_VALUE or not value.isprintable():
            raise StoreError(
                f"column {name} has a value of {len(value)} characters, longer than "
                f"{LONGEST_VALUE} or not printable: is it free text? Leave it out of columns="
            )
    return replace(finding, attributes=kept)


def left_out(entries: Sequence[ScanEntry], columns: Sequence[str]) -> list[str]:
    """Return the columns of annotations that are not kept."""
    seen = {name for e in entries for f in e.findings for name in f.attributes}
    return sorted(seen - set(COLUMNS) - set(columns))


def write_names(
    path: Path, entries: Sequence[ScanEntry], keys: Keys, failures: dict[str, str]
) -> None:
    """Write the private table of an anonymised store: key, name and file of each scan.

    Args:
        path: File to write; only its owner can read it.
        entries: The scans under their own names.
        keys: Converts these names to keys.
        failures: key -> why the scan is not in the store.
    """
    rows = [
        (
            keys.scan(e.series_uid),
            e.series_uid,
            str(e.path),
            failures.get(keys.scan(e.series_uid), ""),
        )
        for e in entries
    ]
    before = os.umask(0o077)
    try:
        write_table(path, (SERIES, "original", "source", "failure"), rows)
    finally:
        os.umask(before)
