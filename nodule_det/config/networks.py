"""Settings that select the networks of predict, score and export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nodule_det.errors import ConfigError

VIEWS = (1, 8, 48)


@dataclass(kw_only=True)
class NetworkConfig:
    """One network, or an ensemble of several."""

    checkpoint: Any = ""
    """``best.pt`` or ``last.pt`` of a training run.  A list is an ensemble, whose probabilities are
    averaged."""

    model: str = ""
    """A model folder written by crossval or hpo finish, instead of ``checkpoint``.  ``builtin`` is
    the model that comes with the package, trained on phantoms only."""

    factory: str = ""
    """The ``model.factory`` that the checkpoint was trained with, if any.
    Importing it runs its code, so it must be named here as well."""

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """The checkpoint files, empty if ``model`` is set."""
        named = self.checkpoint if isinstance(self.checkpoint, list) else [self.checkpoint]
        return tuple(path for path in named if path)

    def __post_init__(self) -> None:
        """Refuse settings that name no network, two kinds of networks, or one twice."""
        if bool(self.checkpoint) == bool(self.model):
            given = "both are" if self.model else "neither is"
            raise ConfigError(
                f"checkpoint=FILE or model=FOLDER selects the network, but {given} set; set one"
            )
        paths = self.checkpoint if isinstance(self.checkpoint, list) else [self.checkpoint]
        if not all(isinstance(path, str) for path in paths):
            raise ConfigError(f"checkpoint={self.checkpoint} must be a path or a list of paths")
        if len(set(paths)) < len(paths):
            raise ConfigError(f"checkpoint={self.checkpoint} names a file twice")


def require_views(views: int) -> None:
    """Refuse a number of views that is not a group of symmetries."""
    if views not in VIEWS:
        raise ConfigError(f"views={views} must be one of {', '.join(map(str, VIEWS))}")
