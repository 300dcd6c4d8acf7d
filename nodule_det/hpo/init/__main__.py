"""``python -m nodule_det.hpo.init``: the files to start your own study.

out=FOLDER                ──▶ space.yaml, tune.sh            for nodule_det.train
out=FOLDER example=true   ──▶ train.py, space.yaml, tune.sh  for any other program
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from nodule_det.cli import command
from nodule_det.config.files import CONF_DIR
from nodule_det.config.hpo_tools import InitConfig
from nodule_det.errors import ConfigError
from nodule_det.files import write_text

PROGRAM = '''\
"""A program to tune: it receives NAME=VALUE arguments and writes a number to result.json."""
import json
import sys
from pathlib import Path

given = dict(word.split("=", 1) for word in sys.argv[1:])
x, y = float(given["x"]), float(given["y"])
loss = (x - 1) ** 2 + (y + 2) ** 2 + (0.5 if given["shape"] == "square" else 0)
result = {"status": "complete", "loss": loss}
Path(given["run_dir"], "result.json").write_text(json.dumps(result))
'''
SPACE = """\
# Tuned parameters: each is passed to the program as an argument NAME=VALUE.
parameters:
  x: {kind: float, low: -5, high: 5}
  y: {kind: float, low: -5, high: 5}
  shape: {kind: categorical, values: [round, square]}
first:                      # points to try before all others
  - {x: 0, y: 0, shape: square}
"""
TUNE_PROGRAM = """\
#!/bin/sh
# Starts or resumes the study.  Arguments are additional settings: sh tune.sh trials=50
cd "$(dirname "$0")" || exit 1
exec {python} -m nodule_det.hpo study=study 'command=[python3,train.py]' \\
    search_space=space.yaml objective=loss direction=minimize \\
    workers=2 trials=20 dispatcher.poll_s=0.5 dispatcher.grace_s=2 "$@"
"""
TUNE_TRAINING = """\
#!/bin/sh
# Starts or resumes the study.  Arguments are additional settings: sh tune.sh trials=50
cd "$(dirname "$0")" || exit 1
exec {python} -m nodule_det.hpo study=study search_space=space.yaml \\
    train.store=store train.limits.epochs=12 workers=1 trials=12 "$@"
"""


@command("hpo init", InitConfig)
def main(config: InitConfig) -> None:
    """Write the files into a new folder, and print how to start."""
    folder = Path(config.out).expanduser()
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise ConfigError(f"out={folder} already exists; use a new folder") from None
    python = shlex.quote(sys.executable)
    if config.example:
        write_text(folder / "train.py", PROGRAM)
        write_text(folder / "space.yaml", SPACE)
        write_text(folder / "tune.sh", TUNE_PROGRAM.format(python=python))
    else:
        space = Path(CONF_DIR, "space", "small.yaml").read_text(encoding="utf-8")
        write_text(folder / "space.yaml", space)
        write_text(folder / "tune.sh", TUNE_TRAINING.format(python=python))
    print(f"{folder}: to start, run  sh {shlex.quote(str(folder / 'tune.sh'))}")


if __name__ == "__main__":
    main()
