"""Where ``conf/*.yaml`` lies, and which groups of settings a command offers there."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
CONF_DIR = str(_PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf")
"""Beside the package in a checkout, inside it once installed.  It is absolute, so that it is found
from any working directory."""


def groups(command: str) -> dict[str, list[str]]:
    """Return the groups that a command's YAML names, with the choices of each.

    Args:
        command: Words of the command, such as ``hpo report``.
    """
    import yaml

    path = Path(CONF_DIR, f"{command.replace(' ', '_')}.yaml")
    if not path.is_file():
        return {}
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    names = [
        name for item in content.get("defaults", []) if isinstance(item, dict) for name in item
    ]
    return {name: sorted(f.stem for f in Path(CONF_DIR, name).glob("*.yaml")) for name in names}
