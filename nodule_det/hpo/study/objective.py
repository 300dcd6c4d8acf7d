"""The number that a study optimises: its name in ``result.json``, and whether larger is better.

    result.json ──reported value──▶ journal ──Objective.score()──▶ Trial.value, larger is better
                                               Trial.value ──Objective.reported()──▶ tables, CSV

The journal has values as reported by the program.  Trials have scores, of which the largest is
best, so models and rules need not know the direction.
"""

from __future__ import annotations

from dataclasses import dataclass

from nodule_det.config.hpo import Direction

LARGEST = 1e100
"""Largest magnitude of a value, whose square is still finite."""
INTERVAL = 1.96
"""Half width of a 95% CI, in standard errors."""


@dataclass(frozen=True)
class Constraint:
    """Limits of a number that a training reports beside its objective."""

    name: str
    """Key of the number in ``result.json``; dots descend into nested objects."""
    low: float | None = None
    high: float | None = None

    def violation(self, number: float) -> str:
        """Describe how a number violates the limits; "" if it does not.

        Example:
            >>> Constraint("seconds", high=30).violation(41.5)
            'seconds=41.5 is above 30'
        """
        if self.high is not None and number > self.high:
            return f"{self.name}={number:g} is above {self.high:g}"
        if self.low is not None and number < self.low:
            return f"{self.name}={number:g} is below {self.low:g}"
        return ""

    def as_dict(self) -> dict[str, str | float]:
        """Return the constraint as in ``constraints`` of the settings."""
        limits = {"max": self.high, "min": self.low}
        return {"name": self.name, **{k: v for k, v in limits.items() if v is not None}}


@dataclass(frozen=True)
class Objective:
    """What a study optimises."""

    name: str = "pauc"
    """Key of the value in ``result.json``; dots descend into nested objects."""
    direction: Direction = Direction.maximize
    constraints: tuple[Constraint, ...] = ()
    """Limits of other numbers.  A trial that violates one is infeasible."""

    @property
    def title(self) -> str:
        """Name for tables and axes."""
        return "pAUC" if self.name == "pauc" else self.name

    @property
    def title_with_direction(self) -> str:
        """Name for headings, with the direction unless it is the pAUC."""
        better = "larger" if self.direction is Direction.maximize else "smaller"
        return self.title if self.name == "pauc" else f"{self.title} ({better} is better)"

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest legal value as reported: a pAUC is between 0 and 1."""
        return (0.0, 1.0) if self.name == "pauc" else (-LARGEST, LARGEST)

    @property
    def largest_se(self) -> float:
        """Largest legal standard error."""
        return self.bounds[1]

    @property
    def sign(self) -> int:
        """Factor from reported values to scores and back."""
        return 1 if self.direction is Direction.maximize else -1

    def score(self, reported: float) -> float:
        """Return the score of a reported value; larger is better."""
        return self.sign * reported

    def reported(self, score: float) -> float:
        """Return the value that has this score, as the program reported it."""
        return self.sign * score

    def interval(self, score: float, se: float) -> tuple[float, float]:
        """Return the 95% CI of a reported value, within its bounds.

        Example:
            >>> Objective().interval(0.75, 0.25)
            (0.26, 1.0)
        """
        value, half = self.reported(score), INTERVAL * se
        low, high = self.bounds
        return max(low, value - half), min(high, value + half)

    def text(self, score: float, se: float | None = None) -> str:
        """Format a value as reported, with its 95% CI if known.

        Example:
            >>> Objective().text(0.75, 0.25), Objective("rmse", Direction.minimize).text(-12.5)
            ('0.7500 [0.2600, 1.0000]', '12.5')
        """
        style = ".4f" if self.name == "pauc" else ".6g"
        if se is None:
            return format(self.reported(score), style)
        low, high = self.interval(score, se)
        return f"{self.reported(score):{style}} [{low:{style}}, {high:{style}}]"


PAUC = Objective()
"""The objective of our own trainings: the partial area under the FROC curve."""
