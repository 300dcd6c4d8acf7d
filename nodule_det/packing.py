"""Pack the small files of a finished run into one archive, and read them from there.

run folder ──pack()──▶ files.zip instead of logs, tables and figures
files.zip ──unpacked()──▶ a temporary copy of the run folder, for commands that read one
files.zip ──read_packed()──▶ the content of one file

File systems of clusters limit the number of files, and a study has a run folder for each trial.
"""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nodule_det.errors import TableError
from nodule_det.files import replacing
from nodule_det.runs import RunFolder
from nodule_det.untrusted import open_regular, read_bytes

MAX_PACKED_BYTES = 2**30
"""Largest size of all files of an archive together."""

_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""Errors of a damaged or an encrypted archive."""


def pack(run_dir: Path, files: Sequence[Path]) -> int:
    """Move files of a run folder into its archive; returns how many were removed.

    A file is removed only after it is in the archive on the disk, with the right size.  An archive
    that exists is not changed, so a file that it does not have, or of another size, is kept.

    Raises:
        ValueError: If the archive is damaged, or is not a file.
    """
    archive = RunFolder(run_dir).archive
    files = [p for p in files if p.is_file() and not p.is_symlink()]
    if not files:
        return 0
    if not archive.exists():
        with (
            replacing(archive) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as out,
        ):
            for path in files:
                out.write(path, path.relative_to(run_dir).as_posix())
    with _opened(archive) as made:
        sizes = {entry.filename: entry.file_size for entry in made.infolist()}
    packed = 0
    for path in files:
        if sizes.get(path.relative_to(run_dir).as_posix()) == path.stat().st_size:
            path.unlink()
            packed += 1
    return packed


def read_packed(run_dir: Path, name: str, max_bytes: int) -> bytes:
    """Read a file of a run folder, from the archive if it is not there.

    Args:
        run_dir: The run folder.
        name: Path of the file inside the run folder.
        max_bytes: Largest size that is read.

    Raises:
        FileNotFoundError: If the file is in neither of them.
        ValueError: If it is not a regular file, or too large.
        TableError: If the archive is damaged (also a ValueError).
    """
    try:
        return read_bytes(run_dir / name, max_bytes)
    except FileNotFoundError:
        return _from_archive(run_dir, name, max_bytes)


def _from_archive(run_dir: Path, name: str, max_bytes: int) -> bytes:
    archive = RunFolder(run_dir).archive
    with _opened(archive) as packed:
        try:
            entry = packed.getinfo(name)
        except KeyError:
            missing = f"{run_dir / name} does not exist, nor in {archive.name}"
            raise FileNotFoundError(missing) from None
        content = packed.open(entry).read(max_bytes + 1)
    if len(content) > max_bytes:
        raise TableError(f"{name} in {archive} is larger than {max_bytes:,} bytes")
    return content


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with open_regular(archive) as stream, zipfile.ZipFile(stream) as packed:
            yield packed
    except _DAMAGE as error:
        raise TableError(f"{archive} is damaged: {error}; copy the run folder again") from None


@contextmanager
def unpacked(run_dir: Path) -> Iterator[RunFolder]:
    """Yield a run folder whose small files can be opened: itself, or a temporary copy of them.

    Checkpoints are not copied.

    Raises:
        TableError: If the archive is damaged or too large.
    """
    run = RunFolder(run_dir)
    if not run.archive.exists():
        yield run
        return
    with tempfile.TemporaryDirectory(prefix="nodule_det_") as temporary:
        copy, left = Path(temporary), MAX_PACKED_BYTES
        for path in run.tables_and_figures:
            try:
                content = read_packed(run_dir, path.name, left)
            except FileNotFoundError:
                continue
            (copy / path.name).write_bytes(content)
            left -= len(content)
        yield RunFolder(copy)
