"""``python -m nodule_det.train``: one training run."""

from __future__ import annotations

from nodule_det.cli import command
from nodule_det.config.train import TrainConfig
from nodule_det.errors import UnwrittenError
from nodule_det.files import FULL_DISK


@command("train", TrainConfig)
def main(config: TrainConfig) -> int | None:
    """Run one training; heavy imports are delayed until the settings have been checked."""
    from nodule_det.train.run import run

    try:
        return run(config)
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        raise UnwrittenError(
            f"{error.filename or 'a file of the run'} cannot be written ({error.strerror}); free "
            "disk space and run the same command again, which resumes from the last checkpoint"
        ) from error


if __name__ == "__main__":
    main()
