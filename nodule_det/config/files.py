"""The folder of ``conf/*.yaml``, the groups of settings in it, and the settings of earlier runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nodule_det.errors import ConfigError
from nodule_det.untrusted import printable, read_yaml

_PACKAGE = Path(__file__).parents[1]
CONF_DIR = str(_PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf")
"""Beside the package in a checkout, inside it once installed.  Absolute, so that commands find it
from any working directory."""


def groups(command: str) -> dict[str, list[str]]:
    """Return the groups that a command's YAML names, with the choices of each.

    Args:
        command: Name of the command, such as ``hpo report``.
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


def saved_settings(path: Path) -> dict[str, Any]:
    """Read the ``config.yaml`` of a run folder.

    Raises:
        FileNotFoundError: If it does not exist.
        ConfigError: If it is damaged.
    """
    try:
        content = read_yaml(path)
        if not isinstance(content, dict) or not content:
            raise ValueError("it does not hold settings")
        _require_tree(content)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        why = printable(str(error).removeprefix(f"{path} "), 300)
        raise ConfigError(
            f"{path} is damaged ({why}); restore it, or use another run_dir"
        ) from error
    return content


def _require_tree(values: dict[Any, Any]) -> None:
    """Refuse keys that are not text."""
    for key, value in values.items():
        if not isinstance(key, str):
            raise ValueError(f"the name {key!r} is not text")
        if isinstance(value, dict):
            _require_tree(value)
