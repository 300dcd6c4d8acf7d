"""Commands that answer exactly as recorded."""

import os
from pathlib import Path

import pytest

from tests.hpo.dispatch.recordings import read_recordings

REPLAY = Path(__file__).parents[2] / "bin" / "replay.sh"


@pytest.fixture
def replay(tmp_path, monkeypatch):
    """Make a command print what was recorded, call by call."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("REPLAY", str(tmp_path))

    def say(name, *recordings):
        (tmp_path / name).symlink_to(REPLAY)
        for call, recording in enumerate(recordings, 1):
            stem = name if len(recordings) == 1 else f"{name}.{call}"
            (tmp_path / f"{stem}.code").write_text(str(recording.code))
            (tmp_path / f"{stem}.out").write_text(recording.stdout)
            (tmp_path / f"{stem}.err").write_text(recording.stderr)
        return tmp_path / f"{name}.args"

    return say


@pytest.fixture
def recorded(shared):
    def find(file, command):
        return read_recordings(shared / "pbs" / file)[command]

    return find
