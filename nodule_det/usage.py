"""``--help`` of every command, and error messages for wrong command lines."""

from __future__ import annotations

import difflib
import inspect
import re
import textwrap
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from nodule_det.commands import listing, sub_commands
from nodule_det.config.fields import as_typed, settings, text_settings
from nodule_det.config.files import groups
from nodule_det.errors import ConfigError


def help_text(command: str, schema: type) -> str:
    """Return the text of ``--help``: every setting with its default and meaning."""
    below, choices = sub_commands(command), groups(command)
    lines = [
        f"nodule-det {command} [NAME=VALUE ...]",
        "",
        inspect.cleandoc(schema.__doc__ or ""),
        "",
        *(["Sub-commands:", listing(below), ""] if below else []),
        *(f"{group}={'|'.join(names)}: a set of settings" for group, names in choices.items()),
        *([""] if choices else []),
        "Settings (default):",
    ]
    for key, (default, doc) in settings(schema):
        lines.append(f"  {key} ({as_typed(default)})")
        lines += textwrap.wrap(doc, 96, initial_indent="      ", subsequent_indent="      ")
    lines += [
        "",
        "Flags: --cfg job (print the settings in effect), --multirun (a=1,2 runs both), --version,",
        "  --hydra-help (all flags of Hydra)",
        "",
    ]
    return "\n".join(lines)


def explain(error: Exception, schema: type, command: str = "") -> str:
    """Explain in one line what is wrong with a command line, and how to fix it.

    Args:
        error: Exception from Hydra or from a dataclass of settings.
        schema: The dataclass of the command's settings.
        command: Name of the command, for the groups of its YAML.
    """
    chain = [error]
    while chain[-1].__cause__ is not None and isinstance(chain[-1].__cause__, Exception):
        chain.append(chain[-1].__cause__)
    for link in chain:
        if isinstance(link, ConfigError):
            return str(link)
    for link in chain:
        if isinstance(link, OverrideParseException):
            return _unreadable(link.override)
    for link in chain:
        if isinstance(link, MissingConfigException) and link.options is not None:
            return _unknown_choice(str(link.missing_cfg_file), link.options)
    for link in chain:
        if isinstance(link, ConfigKeyError | ConfigAttributeError):
            return _unknown_key(str(link.full_key or link.key), schema, groups(command))
    for link in chain:
        if found := re.match(r"Could not override '([^']+)'", str(link)):
            return _unknown_key(found[1], schema, groups(command))
    first_lines = [str(link).strip().splitlines()[0] for link in chain if str(link).strip()]
    return ": ".join(dict.fromkeys(first_lines[:1] + first_lines[-1:]))


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """Parse ``NAME=VALUE`` arguments as Hydra does.  The last value of a name wins.

    Example:
        >>> parse_overrides(["optim.lr=1e-3", "model.residual=true"])
        {'optim.lr': 0.001, 'model.residual': True}

    Raises:
        ConfigError: If an argument cannot be parsed.
    """
    parser = OverridesParser.create()
    values: dict[str, Any] = {}
    for word in words:
        try:
            override = parser.parse_override(word)
        except OverrideParseException:
            raise ConfigError(_unreadable(word)) from None
        values[override.key_or_group] = override.value()
    return values


def as_text(words: Sequence[str], schema: type) -> list[str]:
    r"""Quote the values of text settings for Hydra, which reads ``= , : [`` and blanks as its own.

    A path is then typed as in any other program, ``input='Müller, J. [2]'`` in a shell.  Values
    that are quoted, ``null``, lists or interpolations (``${...}``) are left to Hydra, and so are
    all with ``--multirun``, where commas separate runs.

    Example:
        >>> from nodule_det.config.predict import PredictConfig
        >>> as_text(["input=a=b, [1]", "out='x'", "markups_max=3"], PredictConfig)
        ["input='a=b, [1]'", "out='x'", 'markups_max=3']
    """
    if {"-m", "--multirun"} & set(words):
        return list(words)
    may_be_list = text_settings(schema)
    names = [word.partition("=")[0] for word in words]
    return [
        _quoted(word, may_be_list[name]) if name in may_be_list and "=" in word else word
        for name, word in zip(names, words, strict=True)
    ]


def _quoted(word: str, may_be_list: bool) -> str:
    name, _, value = word.partition("=")
    try:
        read = OverridesParser.create().parse_override(word).value()
    except (HydraException, UnicodeError):
        read = None
    is_list = may_be_list and isinstance(read, list)
    is_quoted = value[:1] in ("'", '"') and value[-1:] == value[:1] and isinstance(read, str)
    if read == value or is_quoted or is_list or "${" in value or value in ("null", ""):
        return word
    text = re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
    return f"{name}='{text}'"


def _unreadable(word: str) -> str:
    name, equals, value = word.partition("=")
    if not equals:
        return f"unrecognised argument '{word}': settings are NAME=VALUE, such as {word}=VALUE"
    if value.startswith("["):
        items = ",".join(f'"{item.strip()}"' for item in value.strip("[]").split(","))
        return f"cannot parse {word}: quote list items that contain = or :, '{name}=[{items}]'"
    return f"cannot parse {word}: quote a value that contains = : or brackets, '{name}=\"{value}\"'"


def _unknown_choice(missing: str, options: Sequence[str]) -> str:
    group, _, choice = missing.rpartition("/")
    near = difflib.get_close_matches(choice, options, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ";"
    return f"{group}={choice} does not exist{hint} {group} can be: {', '.join(sorted(options))}"


def _unknown_key(full_key: str, schema: type, choices: dict[str, list[str]]) -> str:
    sets = {name: f"{name} ({', '.join(options)})" for name, options in choices.items()}
    known = [*dict(settings(schema)), *sets]
    near = difflib.get_close_matches(full_key, known, n=3, cutoff=0.5)
    near += [k for k in known if k.endswith("." + full_key.rsplit(".", 1)[-1]) and k not in near]
    if near:
        return f"unknown setting {full_key}; did you mean {' or '.join(near)}? --help lists all"
    also = f"; and sets of settings: {', '.join(sets.values())}" if sets else ""
    names = ", ".join(k for k in known if k not in sets)
    return f"unknown setting {full_key}; the settings are: {names}{also}"
