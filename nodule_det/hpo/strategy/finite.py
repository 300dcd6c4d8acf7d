"""When a space without floats, which has a finite number of points, has been tried completely.

space, trials ──why_enough()──▶ why another trial would be of no use, or ""
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from itertools import islice

from nodule_det.config.hpo import Strategy
from nodule_det.hpo.space.space import Space, point_key
from nodule_det.hpo.strategy.random_search import Allowed, untried
from nodule_det.hpo.study.trial import Trial

CHECKED = 1000
"""Number of untried points that are checked for being allowed; one of them is assumed to be if the
space has more."""


def why_enough(
    space: Space, trials: Sequence[Trial], strategy: Strategy, allowed: Allowed | None = None
) -> str:
    """Return why another trial would be of no use, or "" if it may be.

    Once all points of a finite space have been tried, another trial can only repeat one.  That is
    useful if equal points give different values, which one repetition of the best point shows.

    Args:
        space: The search space.
        trials: All trials so far.
        strategy: Only strategies with a model can choose a point to repeat.
        allowed: Whether a point may be tried; None allows all.
    """
    if not space.finite:
        return ""
    tried = {point_key(t.params) for t in trials}
    left = list(islice(untried(space, tried), CHECKED)) if allowed else []
    if allowed and (len(left) == CHECKED or any(map(allowed, left))):
        return ""
    if not allowed and next(untried(space, tried), None) is not None:
        return ""
    all_tried = f"every point of the search space ({len(tried)} in all) has been tried"
    if left:
        all_tried = "all points of the search space within the limits of a job have been tried"
    if strategy in (Strategy.random, Strategy.sobol):
        return all_tried
    values: dict[Hashable, list[float]] = defaultdict(list)
    for t in trials:
        if t.value is not None:
            values[point_key(t.params)].append(t.value)
    if not values:
        return f"{all_tried}, and none gave a value"
    repeated = [found for found in values.values() if len(found) > 1]
    if any(len(set(found)) > 1 for found in repeated):
        return ""
    if repeated:
        return f"{all_tried}, and a repetition gave the same value"
    if any(t.pending for t in trials):
        return f"{all_tried}; waiting for the running ones before one is repeated"
    return ""
