import os
import sys
from collections import Counter

import pytest

from nodule_det.config.hpo import KeepConfig
from tests.hpo.virtual_lab import Lab

opened: Counter[str] | None = None


def _note(event, args):
    if event == "open" and opened is not None and not isinstance(args[0], int):
        path, _, flags = args
        if flags & os.O_ACCMODE == os.O_RDONLY:
            opened[os.fsdecode(path)] += 1


sys.addaudithook(_note)


@pytest.fixture
def step_opens():
    """Return what the driver reads below the trials of a study in one step, with how often."""
    global opened

    def count(made: Lab) -> Counter[str]:
        global opened
        opened = Counter()
        made.driver.try_step()
        seen, opened = opened, None
        below = f"{made.folder.trials}/"
        return Counter({p.removeprefix(below): n for p, n in seen.items() if p.startswith(below)})

    yield count
    opened = None


def test_every_file_of_a_running_job_is_read_once_per_step(lab, step_opens):
    made = lab(workers=2, trials=2)
    made.start().try_step()
    made.clock.next_event = lambda: None
    made.clock.sleep(60.0)
    names = ["attempt_1/claim", "attempt_1/exit_code", "attempt_1/heartbeat", "metrics.jsonl"]
    files = [f"000{n}/{name}" for n in (1, 2) for name in names]
    assert step_opens(made) == Counter(dict.fromkeys(files, 1))


def test_every_file_of_an_ended_job_is_read_once_in_the_step_that_ends_its_trial(lab, step_opens):
    made = lab(workers=1, trials=1, keep=KeepConfig(pack=False))  # packing reads all of them
    made.start().try_step()
    made.clock.sleep(3600.0)
    seen = step_opens(made)
    assert made.driver.done()
    # then its disk is tidied, which makes sure by the files of the job that it is over
    again = {p for p, n in seen.items() if n > 1}
    assert again <= {f"0001/attempt_1/{name}" for name in ("claim", "exit_code", "heartbeat")}
    assert max(seen.values()) <= 2
    assert seen["0001/result.json"] == seen["0001/metrics.jsonl"] == 1
