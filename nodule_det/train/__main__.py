"""``python -m nodule_det.train``: one training run."""

from __future__ import annotations

from nodule_det.cli import command
from nodule_det.config.train import TrainConfig


@command("train", TrainConfig)
def main(config: TrainConfig) -> int | None:
    """Run one training; the heavy imports wait until the settings are known to be right."""
    from nodule_det.train.run import run

    return run(config)


if __name__ == "__main__":
    main()
