"""Where the YAML files are, and the groups of settings they offer."""

from __future__ import annotations

from pathlib import Path

from nodule_det.commands import COMMANDS
from nodule_det.config.files import CONF_DIR, groups


def test_every_command_has_its_yaml_file():
    assert Path(CONF_DIR).is_absolute()
    for name in COMMANDS:
        assert Path(CONF_DIR, f"{name.replace(' ', '_')}.yaml").is_file()


def test_groups_are_read_from_the_yaml_of_a_command():
    assert groups("train") == {"experiment": ["builtin", "demo", "luna16", "luna16_16gb"]}
    assert {"local", "pbs", "slurm"} <= set(groups("hpo")["dispatcher"])
    assert groups("evaluate") == {}
    assert groups("hpo status") == {}
    assert groups("no such command") == {}
