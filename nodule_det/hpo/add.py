"""``python -m nodule_det.hpo.add``: points to be tried, and results that are known already.

Both are left in the queue of the study; its driver takes them in at its next step.
"""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from nodule_det.cli import command
from nodule_det.config.hpo_tools import AddConfig
from nodule_det.errors import ConfigError
from nodule_det.hpo.space.space import Space
from nodule_det.hpo.study.inbox import enqueue, enqueue_result, result_origin
from nodule_det.hpo.study.study import Header, Study, StudyFolder, read_study
from nodule_det.hpo.study.trial import OUTCOMES, Reason, Source, TrialState


@command("hpo add", AddConfig)
def main(config: AddConfig) -> None:
    """Check everything first, then queue it, so that a mistake queues nothing."""
    os.umask(0o077)
    folder = StudyFolder(Path(config.study))
    study = read_study(folder.path)
    if config.points:
        n = add_points(folder.queue, study.space, Path(config.points))
        print(f"{n} points are queued for {folder.path}")
        return
    other = read_study(Path(config.results))
    require_comparable(study.header, other.header, config)
    n, known, foreign = add_results(folder.queue, study, other)
    print(
        f"{n} results are queued for {folder.path}; {known} it has already, {foreign} do not fit "
        "its search space"
    )


def require_comparable(mine: Header, other: Header, config: AddConfig) -> None:
    """Refuse the study itself, and values of trainings that had other settings.

    Raises:
        ConfigError: Naming the difference.
    """
    if mine.id == other.id:
        raise ConfigError(f"results={config.results} is this study itself; name another one")
    for name, here, there in (
        ("train", mine.train, other.train),
        ("command", mine.command, other.command),
    ):
        if here != there and not config.other_trainings:
            raise ConfigError(
                f"results={config.results} is of trainings with another {name}: {list(there)} "
                f"there, {list(here)} here; their values count as if they were this study's.  "
                "Give other_trainings=true if they can be compared all the same"
            )


def add_points(queue_dir: Path, space: Space, path: Path) -> int:
    """Queue the points of a YAML file, a list of mappings; returns how many.

    Raises:
        ConfigError: If the file or a point in it is wrong; nothing is queued then.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"points={path} cannot be read as YAML: {error}") from None
    if not isinstance(content, list) or not all(isinstance(point, dict) for point in content):
        raise ConfigError(f"points={path} must be a list of points, each a mapping of values")
    points = []
    for number, point in enumerate(content, 1):
        try:
            points.append(space.check(point))
        except ConfigError as error:
            raise ConfigError(f"points={path}, point {number}: {error}") from None
    for params in points:
        enqueue(queue_dir, params)
    return len(points)


def add_results(queue_dir: Path, study: Study, other: Study) -> tuple[int, int, int]:
    """Queue the outcomes of an earlier study.

    Complete trials and failures that belong to their parameters are taken over; a crash of a node
    or a mistake in the setup says nothing about a point, and what that study refused was a matter
    of its own limits.

    Returns:
        How many are queued, how many the study has already, and how many do not fit its space.
    """
    taken = known = foreign = 0
    mine = study.origins
    taught = OUTCOMES - {Reason.REFUSED}
    for trial in other.trials:
        if trial.state is not TrialState.COMPLETE and trial.reason not in taught:
            continue
        try:
            params = study.space.check(trial.params)
        except ConfigError:
            foreign += 1
            continue
        origin = result_origin(other.header.id, trial.number)
        if trial.source == Source.IMPORTED and trial.origin:
            origin = trial.origin  # one training, on whatever way it came
        if origin in mine or origin.startswith(f"result_{study.header.id}_"):
            known += 1
            continue
        result = {
            "state": trial.state.value,
            "value": trial.value,
            "value_se": trial.value_se,
            "reason": trial.reason and trial.reason.value,
            "peak_memory_bytes": trial.peak_memory_bytes,
            "imported_seconds": trial.seconds,
        }
        enqueue_result(queue_dir, params, result, origin)
        taken += 1
    return taken, known, foreign


if __name__ == "__main__":
    main()
