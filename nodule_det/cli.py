"""The only module that knows Hydra: where ``conf/`` is, and how a command line becomes a dataclass.

    command line + conf/*.yaml ──Hydra──▶ DictConfig ──to_object()──▶ checked dataclass ──▶ main()

Every command is ``command("train", TrainConfig)(main)``.  It gives ``--help`` from the docstrings
of the settings, Hydra's own ``--cfg job``, ``--multirun`` and ``--shell-completion``, errors as
one line, and exit codes.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import os
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from nodule_det import __version__
from nodule_det.errors import ConfigError, NoduleDetError

Config = TypeVar("Config")
Main = Callable[[], None]

_HERE = Path(__file__).parent
CONF_DIR = str(_HERE / "conf" if (_HERE / "conf").is_dir() else _HERE.parent / "conf")
"""Beside the package in a checkout, inside it once installed; absolute, so any caller finds it."""


def calculate_in_one_thread() -> None:
    """Load NumPy and SciPy so that their linear algebra takes one core of a shared machine.

    Matrices of tuning have some hundred rows: threads for every core of a login node gain nothing,
    and on a busy one they spin.  Jobs must not inherit this, so the environment is left as it was.
    """
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    absent = [name for name in names if name not in os.environ]
    os.environ.update(dict.fromkeys(absent, "1"))
    try:
        import scipy.linalg  # noqa: F401  # and NumPy; each has a library of its own
    finally:
        for name in absent:
            del os.environ[name]


def command(name: str, schema: type[Config]) -> Callable[[Callable[[Config], int | None]], Main]:
    """Turn a function of one checked dataclass into the main function of a command.

    Args:
        name: The command, which is also the stem of its YAML file in ``conf/``.
        schema: The dataclass of its settings; the YAML starts with ``- {name}_schema``.

    Returns:
        A decorator.  The decorated function takes no argument, reads ``sys.argv`` and leaves by
        ``SystemExit``: 0, what the function returned, or the ``exit_code`` of an error, which it
        prints as one line.
    """
    ConfigStore.instance().store(name=f"{name.replace('.', '_')}_schema", node=schema)

    def decorate(main: Callable[[Config], int | None]) -> Main:
        def run() -> None:
            if {"-h", "--help"} & set(sys.argv[1:]):
                print(help_text(name, schema), end="")
                sys.exit(0)
            if "--version" in sys.argv[1:]:
                print(f"nodule_det {__version__}")
                sys.exit(0)
            sys.exit(_run_hydra(name.replace(".", "_"), schema, main))

        return run

    return decorate


def _run_hydra(config_name: str, schema: type[Config], main: Callable[[Config], int | None]) -> int:
    codes: list[int] = []

    def job(cfg: DictConfig) -> None:
        try:
            codes.append(main(to_config(cfg, schema)) or 0)
        except NoduleDetError as error:
            print_error(str(error))
            codes.append(error.exit_code)
        except BrokenPipeError:
            raise
        except OSError as error:
            where = error.filename or "a file of this command"
            print_error(
                f"{where} cannot be read or written ({error.strerror or error}); is it there, is "
                "there room, and may you?"
            )
            codes.append(NoduleDetError.exit_code)
        except MemoryError as error:
            print_error(f"there is not enough memory ({error}); give the job more")
            codes.append(NoduleDetError.exit_code)

    sys.argv[1:] = _settings_first(sys.argv[1:])
    os.environ["HYDRA_FULL_ERROR"] = "1"  # hand us the exception, not a printed half of it
    # Threads that wait busily for one whose core something else uses, too, make a training twenty
    # times slower (docs/training.md).  It is read when torch is loaded, so it is set before.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        hydra.main(config_path=CONF_DIR, config_name=config_name, version_base="1.3")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        print_error(explain(error, schema, config_name))
        return ConfigError.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print_error("interrupted")
        return 128 + signal.SIGINT
    return max(codes, default=0)


def _settings_first(words: Sequence[str]) -> list[str]:
    """Sort ``a=1 --cfg job b=2``: argparse, which Hydra uses, takes settings in one piece only."""
    return sorted(words, key=lambda word: word.startswith("-") or "=" not in word)


def print_error(message: str) -> None:
    """Print an error the way every command does: one line on standard error."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)


def to_config(cfg: DictConfig, schema: type[Config]) -> Config:
    """Leave OmegaConf behind: everything past this line is a plain, validated dataclass."""
    try:
        result = OmegaConf.to_object(cfg)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error, schema)) from error
    if not isinstance(result, schema):
        raise ConfigError(f"conf/ does not start from {schema.__name__}: add its schema")
    return result


def as_plain(config: Any) -> Any:
    """Write a dataclass of settings as plain values, for YAML; ``to_config`` reads it back."""
    if is_dataclass(config) and not isinstance(config, type):
        return {f.name: as_plain(getattr(config, f.name)) for f in fields(config)}
    if isinstance(config, Enum):
        return config.value
    if isinstance(config, list | tuple):
        return [as_plain(item) for item in config]
    return config


def explain(error: Exception, schema: type, config_name: str = "") -> str:
    """Say in one line what is wrong with a command line, and which words would be right.

    Args:
        error: What Hydra or a dataclass of settings raised.
        schema: The dataclass of the command's settings.
        config_name: Stem of the command's YAML, whose groups may be meant.
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
    groups = _groups(config_name)
    for link in chain:
        if isinstance(link, MissingConfigException) and link.options is not None:
            return _unknown_choice(str(link.missing_cfg_file), link.options)
    for link in chain:
        if isinstance(link, ConfigKeyError | ConfigAttributeError):
            return _unknown_key(str(link.full_key or link.key), schema, groups)
    for link in chain:
        if found := re.match(r"Could not override '([^']+)'", str(link)):
            return _unknown_key(found[1], schema, groups)
    first_lines = [str(link).strip().splitlines()[0] for link in chain if str(link).strip()]
    return ": ".join(dict.fromkeys(first_lines[:1] + first_lines[-1:]))


def _unreadable(word: str) -> str:
    name, equals, value = word.partition("=")
    if not equals:
        return f"{word} is no setting: give NAME=VALUE"
    if value.startswith("["):
        items = ",".join(f'"{item.strip()}"' for item in value.strip("[]").split(","))
        return f"{word} cannot be read: words with = or : in a list need quotes, '{name}=[{items}]'"
    return f"{word} cannot be read: a value with = : or brackets needs quotes, '{name}=\"{value}\"'"


def _groups(config_name: str) -> dict[str, list[str]]:
    """Return the groups that a command's YAML names, and what may be chosen of each."""
    path = Path(CONF_DIR, f"{config_name}.yaml")
    if not path.is_file():
        return {}
    defaults = OmegaConf.to_container(OmegaConf.load(path))
    items = defaults.get("defaults", []) if isinstance(defaults, dict) else []
    names = [str(name) for item in items if isinstance(item, dict) for name in item]
    return {name: sorted(f.stem for f in Path(CONF_DIR, name).glob("*.yaml")) for name in names}


def _unknown_choice(missing: str, options: Sequence[str]) -> str:
    group, _, choice = missing.rpartition("/")
    near = difflib.get_close_matches(choice, options, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{group}={choice} is not there; {hint}{group} may be: {', '.join(sorted(options))}"


def _unknown_key(full_key: str, schema: type, groups: dict[str, list[str]]) -> str:
    for name, (default, _) in settings(schema):
        if isinstance(default, dict) and full_key.startswith(f"{name}."):
            return f"{name} takes names of your own, each added by a plus: +{full_key}=VALUE"
    sets = {name: f"{name} ({', '.join(choices)})" for name, choices in groups.items()}
    known = [*dict(settings(schema)), *sets]
    near = difflib.get_close_matches(full_key, known, n=3, cutoff=0.5)
    near += [k for k in known if k.endswith("." + full_key.rsplit(".", 1)[-1]) and k not in near]
    if near:
        return f"there is no setting {full_key}; did you mean {' or '.join(near)}? --help lists all"
    also = f"; and as a whole: {', '.join(sets.values())}" if sets else ""
    names = ", ".join(k for k in known if k not in sets)
    return f"there is no setting {full_key}; the settings are: {names}{also}"


def settings(schema: type, prefix: str = "") -> Iterator[tuple[str, tuple[Any, str]]]:
    """Walk the settings of a dataclass: dotted name, then (default, docstring)."""
    hints = get_type_hints(schema)
    docs = _field_docs(schema)
    for f in fields(schema):
        if is_dataclass(hints[f.name]):
            yield from settings(hints[f.name], f"{prefix}{f.name}.")
            continue
        default = f.default_factory() if f.default_factory is not MISSING else f.default
        yield f"{prefix}{f.name}", (default, docs.get(f.name, ""))


def _field_docs(schema: type) -> dict[str, str]:
    """Read the string under each field, which Python itself throws away."""
    body = ast.parse(textwrap.dedent(inspect.getsource(schema))).body[0]
    if not isinstance(body, ast.ClassDef):
        return {}
    docs = {}
    for node, below in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            docs[node.target.id] = inspect.cleandoc(str(below.value.value))
    return docs


def _as_typed(value: Any) -> str:
    """Write a default the way a user would type it."""
    if isinstance(value, Enum):
        return str(value.value)
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(_as_typed, value))}]"
    return str(value)


def help_text(name: str, schema: type) -> str:
    """Write ``--help``: every setting with its default and what it means."""
    groups = _groups(name.replace(".", "_"))
    lines = [
        f"python -m nodule_det.{name} [SETTING=VALUE ...]",
        "",
        inspect.cleandoc(schema.__doc__ or ""),
        "",
        *(f"{group}={'|'.join(choices)}: a file of settings" for group, choices in groups.items()),
        *([""] if groups else []),
        "Settings (default):",
    ]
    for key, (default, doc) in settings(schema):
        lines.append(f"  {key} ({_as_typed(default)})")
        lines += textwrap.wrap(doc, 96, initial_indent="      ", subsequent_indent="      ")
    lines += [
        "",
        "Flags: --cfg job (print the settings in force), --multirun (a=1,2 runs both),",
        "  --shell-completion install=bash, --version, --hydra-help (all of Hydra's own)",
        "",
    ]
    return "\n".join(lines)
