"""``python -m nodule_det.hpo``: create or resume a study, and run it to its end."""

from __future__ import annotations

import os

from nodule_det.cli import calculate_in_one_thread, command
from nodule_det.config.hpo import HpoConfig


@command("hpo", HpoConfig)
def main(config: HpoConfig) -> int | None:
    """Run the driver.  Only the owner can read the files of a study."""
    os.umask(0o077)
    calculate_in_one_thread()
    from nodule_det.hpo.driver.session import drive

    return drive(config)


if __name__ == "__main__":
    main()
