"""Run by torchrun in test_distributed.py: process 1 fails at its third step."""

from __future__ import annotations

import os
import sys

from nodule_det.errors import DeviceMemoryError
from nodule_det.train import __main__, loop

ERRORS = {
    "memory": DeviceMemoryError("cuda:1 has no memory left"),
    "odd": KeyError("an error that nobody expects"),
}


def main(kind: str) -> None:
    step = loop._step

    def failing(trainer, forward, batch):
        if os.environ["RANK"] == "1" and trainer.state.step == 2:
            raise ERRORS[kind]
        return step(trainer, forward, batch)

    loop._step = failing
    __main__.main()


if __name__ == "__main__":
    main(sys.argv.pop(1))
