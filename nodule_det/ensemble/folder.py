"""A model folder: the networks of an ensemble and everything needed to use them.

    checkpoints, figures ──write_model()──▶ model.json, member0.pt, ... ──read_model()──▶ Model

``model.json`` is written last and has the SHA-256 of every member.  A folder without it is not a
model, and one with a damaged or missing member is refused before anything is computed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from nodule_det import __version__
from nodule_det.ensemble.calibration import Calibration
from nodule_det.errors import CheckpointError, ConfigError
from nodule_det.files import read_sealed, replacing, write_sealed
from nodule_det.origin import UNKNOWN, ScanRecord
from nodule_det.untrusted import printable

FORMAT = 1
MODEL = "model.json"
BUILTIN = Path(__file__).parent / "builtin"
"""The model that comes with the package (docs/builtin-model.md), named by ``model=builtin``."""
MAX_BYTES = 4_000_000
LARGEST = 1e300
KINDS = {int: "an integer", str: "text", list: "a list", dict: "an object"}
"""How messages name the types of JSON."""

T = TypeVar("T", int, str, list[Any], dict[str, Any])


@dataclass(frozen=True, kw_only=True)
class Model:
    """Content of a model folder."""

    path: Path
    members: tuple[Path, ...]
    """Checkpoints of the networks."""
    thresholds: Mapping[str, float | None] = field(default_factory=dict)
    """False positives per scan (as text, "0.125") -> lowest raw score that has at most so many."""
    calibration: Calibration | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    """FROC figures, with a label for the scans on which they were computed."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Overrides of the trainings."""
    data: str = ""
    """Fingerprint of the data set that the members were trained on."""
    scans: ScanRecord = UNKNOWN
    """Scans that any member was trained or selected on."""
    licence: str = ""


def write_model(model: Model) -> None:
    """Copy the members into the folder, and write ``model.json``.

    An earlier model in the folder stays whole until all members have been copied.

    Args:
        model: The model to write; ``members`` are the checkpoints to copy.

    Raises:
        ConfigError: If there is no member, or two are the same network.
        CheckpointError: If a member cannot be read.
    """
    if not model.members:
        raise ConfigError("a model needs at least one checkpoint")
    model.path.mkdir(parents=True, exist_ok=True)
    members: list[dict[str, str]] = []
    with ExitStack() as copies:  # all of them, before the first one replaces an earlier model's
        for i, source in enumerate(model.members):
            copy = model.path / f"member{i}.pt"
            temporary = copies.enter_context(replacing(copy))
            try:
                shutil.copyfile(source, temporary)
            except FileNotFoundError:
                raise CheckpointError(f"checkpoint {source} does not exist") from None
            sha256 = digest(temporary)
            if sha256 in (member["sha256"] for member in members):
                raise ConfigError(f"{source} is the same network as another member; use it once")
            members.append({"file": copy.name, "sha256": sha256})
        (model.path / MODEL).unlink(missing_ok=True)
    for stray in model.path.glob("member*.pt"):
        if stray.name not in {m["file"] for m in members}:
            stray.unlink()
    write_sealed(
        model.path / MODEL,
        {
            "format": FORMAT,
            "version": __version__,
            "created": time.strftime("%Y-%m-%d"),
            "members": members,
            "thresholds": dict(model.thresholds),
            "calibration": model.calibration and model.calibration.as_dict(),
            "figures": dict(model.figures),
            "settings": dict(model.settings),
            "data": model.data,
            "scans": model.scans.as_dict(),
            "licence": model.licence,
            "purpose": "research only; not a medical device",
        },
    )


def add_figures(path: Path, name: str, figures: Mapping[str, Any]) -> None:
    """Add figures to a model that exists, such as those of its test.

    Raises:
        CheckpointError: If the folder is not a model, or a file of it is missing or damaged.
    """
    read_model(path)  # so that damage is named, not sealed
    content = read_sealed(path / MODEL, MAX_BYTES)
    content["figures"] = {**content.get("figures", {}), name: dict(figures)}
    write_sealed(path / MODEL, content)


def named_model(model: str, checkpoints: Sequence[str]) -> Model:
    """Return what the settings ``model`` and ``checkpoint`` name.

    Args:
        model: A model folder, ``builtin`` for the one that comes with the package, or empty.
        checkpoints: Instead of it, checkpoints: a model without figures.

    Raises:
        CheckpointError: If the folder is not a model, or a file of it is missing or damaged.
    """
    if model:
        return read_model(BUILTIN if model == "builtin" else Path(model))
    return Model(path=Path(), members=tuple(map(Path, checkpoints)))


def members_digest(members: Sequence[Path]) -> str:
    """Return a text that changes with any byte of the members, for records of what was made."""
    return "+".join(f"sha256:{digest(member)[:16]}" for member in members)


def read_model(path: Path) -> Model:
    """Read a model folder and check that its members are those that were written.

    Raises:
        CheckpointError: If the folder is not a model, or a file of it is missing or damaged.
    """
    if os.path.isfile(path):
        raise CheckpointError(
            f"model={path} is a file, not a model folder; use checkpoint={path} if it is a network"
        )
    file = path / MODEL
    try:
        content = read_sealed(file, MAX_BYTES)
        if _field(content, "format", int) != FORMAT:
            raise CheckpointError(
                f"{file} has format {_shown(content['format'])}, but this version reads {FORMAT}; "
                "use the nodule_det version that wrote it, or a newer one"
            )
        scans = _field(content, "scans", dict, UNKNOWN.as_dict())
        model = Model(
            path=path,
            members=_members(path, content),
            thresholds=_thresholds(_field(content, "thresholds", dict, {})),
            calibration=_calibration(content),
            figures=_field(content, "figures", dict, {}),
            settings=_field(content, "settings", dict, {}),
            data=_field(content, "data", str, ""),
            scans=ScanRecord.from_dict(scans),
            licence=_field(content, "licence", str, ""),
        )
    except FileNotFoundError:
        raise CheckpointError(
            f"model={path} is not a model folder: it has no {MODEL}; crossval writes one to model/"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        why = printable(str(error).removeprefix(f"{file} "), 300)
        raise CheckpointError(f"{file} is damaged ({why}); copy the model folder again") from None
    return model


def _field(content: Mapping[str, Any], name: str, kind: type[T], default: T | None = None) -> T:
    """Return a value of a JSON object after checking its type.

    Raises:
        ValueError: If it is of another type, or missing where there is no default.
    """
    if name not in content:
        if default is None:
            raise ValueError(f"{name} is missing")
        return default
    value = content[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name} must be {KINDS[kind]}, but it is {_shown(value)}")
    return value


def _members(folder: Path, content: Mapping[str, Any]) -> tuple[Path, ...]:
    members = _field(content, "members", list)
    if not members:
        raise ValueError("it has no members")
    paths: dict[str, Path] = {}
    for member in members:
        if not isinstance(member, dict):
            raise ValueError(f"a member must be an object, but it is {_shown(member)}")
        path, expected = _member(folder, member)
        if expected in paths:
            names = " and ".join(dict.fromkeys([paths[expected].name, path.name]))
            raise ValueError(f"the same network is listed twice, as {names}")
        paths[expected] = path
    return tuple(paths.values())


def _member(folder: Path, member: Mapping[str, Any]) -> tuple[Path, str]:
    """Return the file of a member and its SHA-256."""
    name, expected = _field(member, "file", str), _field(member, "sha256", str)
    if (
        name.strip() in ("", ".", "..")
        or not name.isprintable()
        or re.search(r"[/\\]|.{200}", name)
    ):
        raise ValueError(f"the file of a member, {_shown(name)}, is not a plain file name")
    path = folder / name
    if not os.path.isfile(path):  # False for any name that no file can have
        raise CheckpointError(
            f"model={folder} lacks its member {printable(name, 200)}; copy the folder again"
        )
    if digest(path) != expected:
        raise CheckpointError(
            f"{path} differs from the SHA-256 in {MODEL}: it is damaged or was replaced; copy the "
            "model folder again"
        )
    return path, expected


def _thresholds(values: Mapping[str, Any]) -> dict[str, float | None]:
    for rate in values:
        if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", rate, re.ASCII):
            raise ValueError(f"a threshold is for {_shown(rate)}, which is not a number of FP/scan")
    return {
        rate: None if at is None else _number(at, f"the threshold for {rate} FP/scan")
        for rate, at in values.items()
    }


def _calibration(content: Mapping[str, Any]) -> Calibration | None:
    if content.get("calibration") is None:
        return None
    values = _field(content, "calibration", dict)
    scores = tuple(_number(v, "a score of calibration") for v in _field(values, "scores", list))
    rates = tuple(_number(v, "a rate of calibration") for v in _field(values, "fp_per_scan", list))
    falling = all(a > b for a, b in itertools.pairwise(scores))
    rising = all(a <= b for a, b in itertools.pairwise(rates))
    slope = _number(values.get("slope"), "calibration.slope")
    if len(scores) != len(rates) or not scores or not falling or not rising or slope <= 0:
        raise ValueError("calibration is not monotone")
    return Calibration(
        slope,
        _number(values.get("intercept"), "calibration.intercept"),
        scores,
        rates,
        _count(values.get("n_scans"), "calibration.n_scans"),
        _count(values.get("n_lesions"), "calibration.n_lesions"),
    )


def _number(value: Any, name: str) -> float:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if not numeric or not abs(value) <= LARGEST:
        raise ValueError(f"{name} must be a finite number, but it is {_shown(value)}")
    return float(value)


def _count(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST:
        raise ValueError(f"{name} must be a count, but it is {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    """Return a value as JSON, in one short line."""
    return "missing or null" if value is None else printable(json.dumps(value), 60)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
