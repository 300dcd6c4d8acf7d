"""Damage files in a seeded way, read them, and count what comes of it.

    Seed (files, how they are read and judged) ──run()──▶ counts ──main()──▶ a table, exit code

Bits are flipped, bytes overwritten, parts cut, doubled or swapped, numbers in text replaced, and
whole files replaced by something that is not a file (a FIFO, a socket, a folder, a device, a link
to itself).  Counted are tracebacks (anything but the package's own errors), hangs (more than
``SLOW_S`` seconds) and wrong content: what was accepted differs from what it must be.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import socket
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nodule_det.errors import NoduleDetError

SLOW_S = 60
ODD_SHARE = 0.06
"""Share of the mutations that replace a file by something that is not a file."""
NUMBERS = [
    "nan", "inf", "-inf", "1e999", "-1", "0", "1e-9", "99999999999", "1,5", "x", "", "1" * 400,
    "[" * 50, "../x", "-0.0", "2", "7.25",
]  # fmt: skip
HEADER_BYTES = 700
"""More than half of the mutations go to where headers are."""
BAD = ("traceback", "hang", "wrong content", "memory")


@dataclass(frozen=True)
class Seed:
    """Files to damage, how to read them, and how to judge what was read."""

    name: str
    write: Callable[[Path], object]
    read: Callable[[Path], Sequence[Any]]
    judge: Callable[[Path, Any], str]
    """What is wrong with an item that was accepted; empty if nothing."""


def mutate(content: bytes, generator: np.random.Generator) -> bytes:
    """Damage a file in one of nine ways."""
    data = bytearray(content)
    reach = min(len(data), HEADER_BYTES) if generator.random() < 0.6 else len(data)
    at = int(generator.integers(max(reach, 1)))
    kind = int(generator.integers(9))
    if not data:
        return b"x"
    if kind == 0:
        data[at] ^= 1 << int(generator.integers(8))
    elif kind == 1:
        data[at] = int(generator.integers(256))
    elif kind == 2:
        n = int(generator.integers(1, 9))
        data[at : at + n] = bytes([int(generator.choice([0, 255, 127, 128]))]) * n
    elif kind == 3:
        del data[int(generator.integers(len(data))) :]
    elif kind == 4:
        data[at:at] = data[at : at + int(generator.integers(1, 64))]
    elif kind == 5:
        del data[at : at + int(generator.integers(1, 64))]
    elif kind == 6:
        data += bytes(data[: int(generator.integers(1, 200))])
    elif kind == 7:
        n = int(generator.integers(2, 40))
        data[at : at + n] = generator.bytes(n)
    else:
        return _other_number(bytes(data), generator)
    return bytes(data)


ODDITIES = ("fifo", "folder", "socket", "device", "loop", "nothing")


def replace_by_oddity(path: Path, kind: str) -> None:
    """Replace a file by something that is not one."""
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(path.parent):
            made.bind(path.name)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path)


class Hang(BaseException):
    """Raised by the alarm clock: no handler of the package catches it."""


@contextlib.contextmanager
def alarm_clock() -> Iterator[None]:
    """Raise :class:`Hang` in what takes too long, also in a call that waits."""

    def ring(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SLOW_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _other_number(content: bytes, generator: np.random.Generator) -> bytes:
    found = list(re.finditer(rb"-?\d+(\.\d+)?", content[:HEADER_BYTES]))
    if not found:
        return content
    match = found[int(generator.integers(len(found)))]
    word = str(generator.choice(NUMBERS)).encode()
    if generator.random() < 0.5:  # the same length, as binary formats need
        word = word[: len(match[0])].ljust(len(match[0]))
    return content[: match.start()] + word + content[match.end() :]


def one_line(error: BaseException) -> None:
    """Raise if an error is not one line, or a page long."""
    text = str(error)
    if "\n" in text or len(text) > 2000:
        raise ValueError(f"an error of {len(text)} characters in {text.count(chr(10)) + 1} lines")


def mutations(seed: Seed, n: int, rng: int) -> Iterator[tuple[str, str]]:
    """Damage the files of a seed; yields what became of each: kind and message.

    The first one is undamaged."""
    generator = np.random.default_rng([rng, sum(seed.name.encode())])
    with tempfile.TemporaryDirectory() as name:
        good, bad = Path(name) / "good", Path(name) / "bad"
        good.mkdir()
        seed.write(good)
        files = sorted(p.relative_to(good) for p in good.rglob("*") if p.is_file())
        yield attempt(seed, good)  # undamaged
        for _ in range(n - 1):
            shutil.rmtree(bad, ignore_errors=True)
            shutil.copytree(good, bad)
            target = bad / files[int(generator.integers(len(files)))]
            if generator.random() < ODD_SHARE:
                replace_by_oddity(target, str(generator.choice(ODDITIES)))
            else:
                for _ in range(int(generator.choice([1, 1, 1, 2, 5]))):
                    target.write_bytes(mutate(target.read_bytes(), generator))
            yield attempt(seed, bad)


def attempt(seed: Seed, folder: Path) -> tuple[str, str]:
    """Read a damaged folder, and say what it came to."""
    try:
        with alarm_clock():
            scans = seed.read(folder)
    except Hang:
        return "hang", traceback.format_exc()
    except NoduleDetError as error:
        with contextlib.suppress(ValueError):
            one_line(error)
            return "refused", str(error)
        return "traceback", f"an error of {len(str(error))} characters: {str(error)[:300]}"
    except MemoryError:
        return "memory", ""
    except Exception:
        return "traceback", traceback.format_exc()
    for scan in scans:
        try:
            wrong = seed.judge(folder, scan)
        except Exception as error:  # the other reader refuses what we take
            return "only ours", f"{type(error).__name__}: {error}"[:200]
        if wrong:
            return "wrong content", wrong
    return "read", ""


BAD = ("traceback", "hang", "wrong content", "memory")


def run(seeds: Sequence[Seed], n: int, rng: int) -> dict[str, Counter[str]]:
    """Damage every seed in turn, n mutations in all; prints each bad one."""
    counts: dict[str, Counter[str]] = {}
    for seed in seeds:
        counts[seed.name] = Counter()
        for i, (kind, message) in enumerate(mutations(seed, -(-n // len(seeds)), rng)):
            counts[seed.name][kind] += 1
            if kind in BAD or (i == 0 and kind != "read"):
                counts[seed.name]["seed refused"] += kind not in BAD
                print(f"{seed.name} mutation {i}: {kind}: {message}", flush=True)
    return counts


def failures(counts: dict[str, Counter[str]]) -> dict[str, int]:
    """Return how often each bad thing happened, without zeros."""
    total: Counter[str] = sum(counts.values(), Counter())
    return {kind: total[kind] for kind in (*BAD, "seed refused") if total[kind]}


def main(seeds: Sequence[Seed], description: str, n: int) -> int:
    """Run as a command, and print a table."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--mutations", type=int, default=n)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    counts = run(seeds, args.mutations, args.seed)
    for name, count in counts.items():
        print(f"{name:18} " + "  ".join(f"{k} {v}" for k, v in sorted(count.items())))
    total = sum(sum(count.values()) for count in counts.values())
    print(f"{total} mutations: " + (str(failures(counts)) if failures(counts) else "none bad"))
    return int(bool(failures(counts)))
