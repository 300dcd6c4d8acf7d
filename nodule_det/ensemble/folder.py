"""A model folder: the networks of an ensemble and everything needed to use them.

    checkpoints, figures ──write_model()──▶ model.json, member0.pt, ... ──read_model()──▶ Model

``model.json`` is written last and has the SHA-256 of every member.  A folder without it is not a
model, and one with a damaged or missing member is refused before anything is computed.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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

    Args:
        model: The model to write; ``members`` are the checkpoints to copy.

    Raises:
        ConfigError: If the folder holds another model, or there is no member.
        CheckpointError: If a member cannot be read.
    """
    if not model.members:
        raise ConfigError("a model needs at least one checkpoint")
    model.path.mkdir(parents=True, exist_ok=True)
    (model.path / MODEL).unlink(missing_ok=True)
    members = []
    for i, source in enumerate(model.members):
        copy = model.path / f"member{i}.pt"
        try:
            with replacing(copy) as temporary:
                shutil.copyfile(source, temporary)
        except FileNotFoundError:
            raise CheckpointError(f"checkpoint {source} does not exist") from None
        members.append({"file": copy.name, "sha256": digest(copy)})
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
    content["figures"] = {**content["figures"], name: dict(figures)}
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
    file = path / MODEL
    try:
        content = read_sealed(file, MAX_BYTES)
        if content.get("format") != FORMAT:
            raise CheckpointError(
                f"{file} has format {printable(str(content.get('format')), 40)}, but this version "
                f"reads {FORMAT}; use the nodule_det version that wrote it, or a newer one"
            )
        calibration = content.get("calibration")
        model = Model(
            path=path,
            members=tuple(_member(path, member) for member in _filled(content, "members")),
            thresholds=_thresholds(content.get("thresholds", {})),
            calibration=None if calibration is None else _calibration(calibration),
            figures=dict(content.get("figures", {})),
            settings=dict(content.get("settings", {})),
            data=str(content.get("data", "")),
            scans=ScanRecord.from_dict(content["scans"]) if "scans" in content else UNKNOWN,
            licence=str(content.get("licence", "")),
        )
    except FileNotFoundError:
        raise CheckpointError(
            f"model={path} is not a model folder: it has no {MODEL}; crossval writes one to model/"
        ) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        if isinstance(error, CheckpointError):
            raise
        why = printable(str(error).removeprefix(f"{file} "), 300)
        raise CheckpointError(f"{file} is damaged ({why}); copy the model folder again") from None
    return model


def _filled(content: Mapping[str, Any], name: str) -> Sequence[Any]:
    values = content[name]
    if not isinstance(values, list) or not values:
        raise ValueError(f"{name} must be a list with at least one item")
    return values


def _member(folder: Path, member: Any) -> Path:
    name, expected = str(member["file"]), str(member["sha256"])
    if Path(name).name != name:
        raise ValueError(f"member {name!r} is not a plain file name")
    path = folder / name
    if not path.is_file():
        raise CheckpointError(
            f"model={folder} lacks its member {printable(name, 200)}; copy the folder again"
        )
    if digest(path) != expected:
        raise CheckpointError(
            f"{path} differs from the SHA-256 in {MODEL}: it is damaged or was replaced; copy the "
            "model folder again"
        )
    return path


def _thresholds(values: Any) -> dict[str, float | None]:
    return {str(rate): None if at is None else _number(at) for rate, at in dict(values).items()}


def _calibration(values: Any) -> Calibration:
    scores = tuple(_number(v) for v in values["scores"])
    rates = tuple(_number(v) for v in values["fp_per_scan"])
    falling = all(a > b for a, b in itertools.pairwise(scores))
    rising = all(a <= b for a, b in itertools.pairwise(rates))
    slope = _number(values["slope"])
    if len(scores) != len(rates) or not scores or not falling or not rising or slope <= 0:
        raise ValueError("calibration is not monotone")
    return Calibration(
        slope,
        _number(values["intercept"]),
        scores,
        rates,
        _count(values["n_scans"]),
        _count(values["n_lesions"]),
    )


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is not a count")
    return value


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
