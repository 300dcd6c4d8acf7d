"""How a command line becomes a checked dataclass, and how a command ends.

    command line + conf/*.yaml ──Hydra──▶ DictConfig ──to_config()──▶ dataclass ──▶ main()

A command is a function under ``@command("train", TrainConfig)``.  That adds ``--help`` from the
docstrings of the settings, Hydra's ``--cfg job`` and ``--multirun``, errors as one line, and exit
codes.  Together with ``usage.py`` this is the only module that knows Hydra.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nodule_det import __version__
from nodule_det.commands import COMMANDS
from nodule_det.config.fields import settings
from nodule_det.config.files import CONF_DIR
from nodule_det.errors import ConfigError, ExitCode, NoduleDetError
from nodule_det.untrusted import printable
from nodule_det.usage import as_text, explain, help_text

Config = TypeVar("Config")


def calculate_in_one_thread() -> None:
    """Load NumPy and SciPy so that their linear algebra uses one core of a shared machine.

    The matrices of tuning have a few hundred rows.  On a login node more threads gain nothing, and
    on a busy one they only spin.  The environment is restored, since jobs must not inherit this.
    """
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    absent = [name for name in names if name not in os.environ]
    os.environ.update(dict.fromkeys(absent, "1"))
    try:
        import scipy.linalg  # noqa: F401  # and NumPy; each ships its own BLAS
    finally:
        for name in absent:
            del os.environ[name]


@dataclass(frozen=True)
class Command(Generic[Config]):
    """A command: call it to run it on ``sys.argv``."""

    name: str
    """As typed, such as ``hpo report``; with underscores, the stem of its YAML in ``conf/``."""
    schema: type[Config]
    """The dataclass of its settings."""
    main: Callable[[Config], int | None]
    """The function to run; returns an exit code, or None for 0."""

    def __call__(self) -> None:
        """Run on ``sys.argv``, and exit with the code that ``main`` or an error sets.

        Raises:
            SystemExit: Always.
        """
        flags = set(sys.argv[1:])
        if {"-h", "--help"} & flags:
            print(help_text(self.name, self.schema), end="")
            sys.exit(0)
        if "--version" in flags:
            print(f"nodule_det {__version__}")
            sys.exit(0)
        sys.exit(_run_hydra(self))


def command(
    name: str, schema: type[Config]
) -> Callable[[Callable[[Config], int | None]], Command[Config]]:
    """Turn a function of one checked dataclass into a command.

    Args:
        name: Name of the command as typed, such as ``hpo report``; a key of ``commands.COMMANDS``.
        schema: The dataclass of its settings.  Its YAML starts with ``- {name}_schema``, with
            blanks replaced by underscores.

    Raises:
        KeyError: If the table of commands lacks the name.
    """
    if name not in COMMANDS:
        raise KeyError(f"add {name!r} to COMMANDS in nodule_det/commands.py")
    ConfigStore.instance().store(name=f"{name.replace(' ', '_')}_schema", node=schema)
    return lambda main: Command(name, schema, main)


def _run_hydra(this: Command[Config]) -> int:
    codes: list[int] = []

    def job(cfg: DictConfig) -> None:
        sweep = HydraConfig.get().mode is RunMode.MULTIRUN
        if sweep:  # so that each run records only its own command
            sys.argv[1:] = HydraConfig.get().overrides.task
        codes.append(_run_once(this, cfg))
        if sweep and codes[-1] in (ExitCode.STOPPED, ExitCode.BROKEN_PIPE):
            print_error("the remaining runs of --multirun were not started")
            sys.exit(codes[-1])  # Hydra would collect any other exception and start the next run

    sys.argv[1:] = _settings_first(as_text(with_new_keys(sys.argv[1:], this.schema), this.schema))
    if isinstance(sys.stdout, io.TextIOWrapper):  # print a path that is not UTF-8 as it is
        sys.stdout.reconfigure(errors="surrogateescape")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise the exception instead of printing half of it
    # Threads that busy-wait for one on a shared core make a training twenty times slower
    # (docs/training.md).  Set here because it is read when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    config_name = this.name.replace(" ", "_")
    try:
        hydra.main(config_path=CONF_DIR, config_name=config_name, version_base="1.3")(job)()
        sys.stdout.flush()
    except (HydraException, OmegaConfBaseException) as error:
        print_error(explain(error, this.schema, this.name))
        return ExitCode.BAD_INPUT
    except BrokenPipeError:
        return _after_broken_pipe()
    except KeyboardInterrupt:
        print_error("interrupted")
        return ExitCode.INTERRUPTED
    return max(codes, default=0)


def _run_once(this: Command[Config], cfg: DictConfig) -> int:
    """Run a command's function on one set of settings; print an error and return its exit code."""
    before = os.umask(0o077)
    os.umask(before)
    try:
        config = to_config(cfg, this.schema)
        if not getattr(config, "shared", False):  # only the owner may read images and results
            os.umask(before | 0o077)
        code = this.main(config) or ExitCode.COMPLETE
        sys.stdout.flush()  # here, so that a closed pipe is noticed
        return code
    except NoduleDetError as error:
        print_error(str(error))
        return error.exit_code
    except BrokenPipeError:
        return _after_broken_pipe()
    except OSError as error:
        where = error.filename or "a file of this command"
        print_error(
            f"cannot read or write {where} ({error.strerror or error}); check that it exists, that "
            "the disk is not full, and that you have permission"
        )
    except MemoryError as error:
        print_error(f"out of memory ({error}); request more memory for the job")
    finally:
        os.umask(before)
    return ExitCode.ERROR


def _after_broken_pipe() -> int:
    """Discard pending output: nothing reads it any more, and Python would complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.BROKEN_PIPE


def with_new_keys(words: Sequence[str], schema: type) -> list[str]:
    """Write ``++`` before settings that take any key, such as ``model.kwargs={a: 1}``.

    Hydra wants these plus signs to add a key, but does not say so where a value is a dictionary.
    """
    free = tuple(name for name, (default, _) in settings(schema) if isinstance(default, dict))
    return [
        f"++{word}" if word.startswith(tuple(f"{name}{c}" for name in free for c in "=.")) else word
        for word in words
    ]


def _settings_first(words: Sequence[str]) -> list[str]:
    """Sort ``a=1 --cfg job b=2``: Hydra accepts settings only in one block."""
    return sorted(words, key=lambda word: word.startswith("-") or "=" not in word)


def print_error(message: str) -> None:
    """Print an error as every command does: one line on standard error."""
    print(f"error: {printable(message, 4000)}", file=sys.stderr)


def to_config(cfg: DictConfig, schema: type[Config]) -> Config:
    """Convert to the plain, validated dataclass that the rest of the package works with.

    Raises:
        ConfigError: If a value is refused.
    """
    try:
        result = OmegaConf.to_object(cfg)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error, schema)) from error
    if not isinstance(result, schema):
        raise ConfigError(f"the YAML in conf/ must start from {schema.__name__}: add its schema")
    return result
