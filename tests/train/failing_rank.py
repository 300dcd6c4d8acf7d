"""Run by torchrun in test_distributed.py: process 1 fails at its third step."""

from __future__ import annotations

import os
import sys

from nodule_det.errors import DeviceMemoryError
from nodule_det.train import __main__
from nodule_det.train.step import Stepper

ERRORS = {
    "memory": DeviceMemoryError("cuda:1 has no memory left"),
    "odd": KeyError("an error that nobody expects"),
}


def main(kind: str) -> None:
    step = Stepper.__call__

    def failing(stepper, batch):
        if os.environ["RANK"] == "1" and stepper._trainer.state.step == 2:
            raise ERRORS[kind]
        step(stepper, batch)

    Stepper.__call__ = failing
    __main__.main()


if __name__ == "__main__":
    main(sys.argv.pop(1))
