"""What can go wrong, as a tree (every error the package raises on purpose is one of these).

NoduleDetError
├── ConfigError       a setting is missing, misspelt or impossible         (also a ValueError)
├── TableError        a CSV file lacks columns, rows or sense              (also a ValueError)
├── ScanError         an image file is damaged, incomplete or not a CT     (also a ValueError)
├── GeometryError     spacing, axes or extent do not fit                   (also a ValueError)
├── LayoutError       a data set on disk is not what its layout promises   (also a ValueError)
├── StoreError        the resampled store is missing, foreign or damaged
├── CheckpointError   a checkpoint is damaged or of another architecture
│   └── UnwrittenError    it could not be written: the disk is full, or over its quota
├── FrocInputError    candidates or lesions that cannot be scored          (also a ValueError)
├── TrainingError     a training run cannot go on
│   ├── DivergedError     the loss is no longer a number
│   └── DeviceMemoryError the device has no memory left
├── StudyError        the study journal contradicts itself
└── DispatchError     the batch system refused or lost a job

A message names what was given (file and value, as the user typed it), why that cannot work,
and what to do about it.  Commands print it as one line and leave with ``exit_code``.
"""


class NoduleDetError(Exception):
    """Base class: catch this to catch everything the package raises on purpose."""

    exit_code = 1
    """What a command leaves with when this error reaches its top."""


class ConfigError(NoduleDetError, ValueError):
    exit_code = 2


class TableError(NoduleDetError, ValueError): ...


class ScanError(NoduleDetError, ValueError): ...


class GeometryError(NoduleDetError, ValueError): ...


class LayoutError(NoduleDetError, ValueError): ...


class StoreError(NoduleDetError): ...


class CheckpointError(NoduleDetError): ...


class UnwrittenError(CheckpointError):
    exit_code = 88


class FrocInputError(NoduleDetError, ValueError): ...


class TrainingError(NoduleDetError): ...


class DivergedError(TrainingError):
    exit_code = 86


class DeviceMemoryError(TrainingError):
    exit_code = 87


class StudyError(NoduleDetError): ...


class DispatchError(NoduleDetError): ...
