"""Every error that the package raises on purpose, and every exit code of its commands.

NoduleDetError
├── ConfigError       a setting is missing, misspelt or impossible         (also a ValueError)
├── TableError        a CSV file lacks columns or rows, or has bad values  (also a ValueError)
├── ScanError         an image file is damaged, incomplete or not a CT     (also a ValueError)
├── GeometryError     spacing, axes or extent do not fit                   (also a ValueError)
├── LayoutError       a data set on disk is not what its layout promises   (also a ValueError)
├── StoreError        the resampled store is missing, incompatible or damaged
├── CheckpointError   a checkpoint is damaged or of another architecture
│   └── UnwrittenError    it cannot be written: the disk is full or over its quota
├── FrocInputError    candidates or lesions that cannot be scored          (also a ValueError)
├── TrainingError     a training run cannot continue
│   ├── DivergedError     the loss is no longer a number
│   ├── DeviceMemoryError the device has no memory left
│   └── OwnCodeError      the code of model.factory fails or returns something unusable
├── BusyError         another process holds the folder
├── StudyError        the study journal contradicts itself
└── DispatchError     the batch system refused or lost a job

A message names the file or setting and its value as the user typed it, why that cannot work, and
what to do about it.  Commands print it as one line and exit with its ``exit_code``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Exit codes of all commands.  Job scripts and the tuning driver act on these numbers."""

    COMPLETE = 0
    ERROR = 1
    """Failed, or completed with failures that were printed."""
    BAD_INPUT = 2
    """A setting, or a file that a setting names, was refused before anything was written."""
    STOPPED = 85
    """A training stopped by SIGTERM, Ctrl-C or its time limit, with a checkpoint: run it again to
    resume."""
    DIVERGED = 86
    OUT_OF_MEMORY = 87
    UNWRITTEN = 88
    """A file could not be written, for instance on a full disk: free space and run it again."""
    BUSY = 89
    """The run folder is held by another process."""
    INTERRUPTED = 130
    """Ctrl-C, as a shell reports it: 128 + SIGINT."""
    BROKEN_PIPE = 141
    """The reader of the output closed it early: 128 + SIGPIPE."""

    @property
    def reason(self) -> str:
        """The name of this code in ``result.json``.

        Example:
            >>> ExitCode.OUT_OF_MEMORY.reason
            'out_of_memory'
        """
        return self.name.lower()

    @classmethod
    def of(cls, reason: str | None) -> ExitCode:
        """Return the code named in ``result.json``, or ERROR if the name is unknown."""
        return cls.__members__.get((reason or "").upper(), cls.ERROR)


class NoduleDetError(Exception):
    """Base class: catch this to catch everything the package raises on purpose."""

    exit_code: ClassVar[ExitCode] = ExitCode.ERROR
    """Exit code of a command that ends with this error."""


class ConfigError(NoduleDetError, ValueError):
    exit_code = ExitCode.BAD_INPUT


class TableError(NoduleDetError, ValueError): ...


class ScanError(NoduleDetError, ValueError): ...


class GeometryError(NoduleDetError, ValueError): ...


class LayoutError(NoduleDetError, ValueError): ...


class StoreError(NoduleDetError): ...


class CheckpointError(NoduleDetError): ...


class UnwrittenError(CheckpointError):
    exit_code = ExitCode.UNWRITTEN


class FrocInputError(NoduleDetError, ValueError): ...


class TrainingError(NoduleDetError): ...


class DivergedError(TrainingError):
    exit_code = ExitCode.DIVERGED


class DeviceMemoryError(TrainingError):
    exit_code = ExitCode.OUT_OF_MEMORY


class OwnCodeError(TrainingError): ...


class BusyError(NoduleDetError):
    exit_code = ExitCode.BUSY


class StudyError(NoduleDetError): ...


class DispatchError(NoduleDetError): ...
