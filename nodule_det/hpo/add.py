"""``python -m nodule_det.hpo.add``: points to try, and results of an earlier study.

Both are written to the queue of the study.  Its driver reads them in its next step.
"""

from __future__ import annotations

import os
from pathlib import Path

from nodule_det.cli import command
from nodule_det.config.hpo_tools import AddConfig
from nodule_det.errors import ConfigError
from nodule_det.hpo.space.space import Space
from nodule_det.hpo.study.inbox import enqueue, enqueue_result, result_origin
from nodule_det.hpo.study.study import Header, Study, StudyFolder, read_study
from nodule_det.hpo.study.trial import OUTCOMES, Reason, Source, TrialState
from nodule_det.progress import counted
from nodule_det.untrusted import read_yaml


@command("hpo add", AddConfig)
def main(config: AddConfig) -> None:
    """Queue the points or results, after all of them have been checked."""
    os.umask(0o077)
    folder = StudyFolder(Path(config.study))
    study = read_study(folder.path)
    if config.points:
        n = add_points(folder.queue, study.space, Path(config.points))
        print(f"queued {counted(n, 'point')} for {folder.path}")
        return
    other = read_study(Path(config.results))
    require_comparable(study.header, other.header, config)
    n, known, foreign = add_results(folder.queue, study, other)
    print(
        f"queued {counted(n, 'result')} for {folder.path}; skipped {known} that it already has and "
        f"{foreign} outside its search space"
    )


def require_comparable(mine: Header, other: Header, config: AddConfig) -> None:
    """Refuse results of the study itself, of another objective, or of other trainings.

    Raises:
        ConfigError: If the results are not comparable.  Names the difference.
    """
    if mine.id == other.id:
        raise ConfigError(f"results={config.results} is this study itself; use another one")
    if mine.objective != other.objective:
        raise ConfigError(
            f"results={config.results} optimises {_goal(other)}, but study={config.study} "
            f"optimises {_goal(mine)}; use a study with the same objective"
        )
    for name, here, there in (
        ("train", mine.train, other.train),
        ("command", mine.command, other.command),
    ):
        if here != there and not config.other_trainings:
            raise ConfigError(
                f"results={config.results} used another {name}: {list(there)} there, {list(here)} "
                "here; set other_trainings=true if the values are comparable with those of this "
                "study"
            )


def _goal(header: Header) -> str:
    goal = header.objective
    limits = f", constraints {[c.as_dict() for c in goal.constraints]}" if goal.constraints else ""
    return f"{goal.name} ({goal.direction.value}{limits})"


def add_points(queue_dir: Path, space: Space, path: Path) -> int:
    """Queue the points of a YAML file, a list of mappings.  Returns their number.

    Raises:
        ConfigError: If the file or a point in it is invalid.  Then nothing is queued.
    """
    try:
        content = read_yaml(path)
    except (OSError, ValueError) as error:
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

    These are complete trials, and failures caused by the parameters.  A node crash or a mistake in
    the setup says nothing about a point.  Points that were refused because of memory and time
    limits are not imported either, since the limits may differ here.

    Returns:
        The numbers of results that are queued, already in the study, and outside its space.
    """
    taken = known = foreign = 0
    mine = study.origins
    informative = OUTCOMES - {Reason.REFUSED}
    for trial in other.trials:
        if trial.state is not TrialState.COMPLETE and trial.reason not in informative:
            continue
        try:
            params = study.space.check(trial.params)
        except ConfigError:
            foreign += 1
            continue
        origin = result_origin(other.header.id, trial.number)
        if trial.source == Source.IMPORTED and trial.origin:
            origin = trial.origin  # the same training, imported by both studies
        if origin in mine or origin.startswith(f"result_{study.header.id}_"):
            known += 1
            continue
        value = None if trial.value is None else study.objective.reported(trial.value)
        result = {
            "state": trial.state.value,
            "value": value,
            "value_se": trial.value_se,
            "influence": trial.influence,
            "reason": trial.reason and trial.reason.value,
            "peak_memory_bytes": trial.peak_memory_bytes,
            "imported_seconds": trial.seconds,
        }
        enqueue_result(queue_dir, params, result, origin)
        taken += 1
    return taken, known, foreign


if __name__ == "__main__":
    main()
