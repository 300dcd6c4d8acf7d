"""``python -m nodule_det.score``: FROC figures of a model on the test set of a store.

Model, Store.test ──score()──▶ tables, froc.json, pictures, result.json
"""

from __future__ import annotations

from nodule_det.cli import command
from nodule_det.config.score import ScoreConfig


@command("score", ScoreConfig)
def main(config: ScoreConfig) -> int | None:
    """Score the scans; the heavy imports wait until the settings are known to be right."""
    from nodule_det.score.scoring import score

    return score(config)


if __name__ == "__main__":
    main()
