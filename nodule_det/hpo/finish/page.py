"""The result of finish, for a terminal and as an HTML page.

record of finish.json ──summary()──▶ lines
                      └─write_page()──▶ finish.html
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nodule_det import __version__
from nodule_det.config.crossval import Selection
from nodule_det.crossval.pool import LABEL
from nodule_det.files import write_text
from nodule_det.progress import counted

HERE = Path(__file__).parent
FIRST_SEED = "pAUC is the mean over the seeds; CIs, CPM and differences are of the first seed"


def summary(record: Mapping[str, Any]) -> str:
    """Return a line for each setting, best first, and the optimism of the best trial."""
    rows = sorted(record["settings"], key=lambda row: -row["pauc"])
    lines = [LABEL[Selection(record["selection"])]]
    if len(record["seeds"]) > 1:
        lines.append(FIRST_SEED)
    for row in rows:
        text = f"trial {row['trial']}: pAUC {row['pauc']:.3f} ({_ci(row)})"
        text += f", in the study {row['observed']:.3f}"
        if row["expected"] is not None:
            text += f", expected by the model {row['expected']:.3f}"
        lines.append(text + (" <- chosen" if row["chosen"] else _against(row)))
    lucky = next(row for row in rows if row["largest_observed"])
    side = "above" if lucky["optimism"] >= 0 else "below"
    lines.append(
        f"{_largest(record)} (trial {lucky['trial']}) was {abs(lucky['optimism']):.3f} {side} its "
        "cross-validated pAUC"
    )
    lines.append(_test(record, lucky["observed"]))
    return "\n".join(lines)


def _largest(record: Mapping[str, Any]) -> str:
    """Name the largest value of the study, among the trials that may be retrained."""
    left_out = ", ".join(map(str, record["excluded"]))
    return f"the largest value of the study{left_out and f' (without trial {left_out})'}"


def _ci(figures: Mapping[str, Any]) -> str:
    if figures["few_scans"]:
        return "too few scans for a CI"
    low, high = figures["pauc_interval"]
    return f"95% CI {low:.3f} to {high:.3f}"


def _test(record: Mapping[str, Any], best: float) -> str:
    """Write the figure of the test set, and how far the study's best value was above it."""
    test = record.get("test")
    if test is None:
        why = "the test set has no lesions" if record["test_scans"] else "the store has no test set"
        return (
            f"not tested: {why}, so no figure is free of the choices made here "
            "(store.test_fraction=0.2 holds one out)"
        )
    gap = best - test["pauc"]
    found = f"{counted(test['n_lesions'], 'lesion')} in {counted(test['n_scans'], 'scan')}"
    return (
        f"{test['label']}: pAUC {test['pauc']:.3f} ({_ci(test)}), {found}; {_largest(record)} was "
        f"{abs(gap):.3f} {'above' if gap >= 0 else 'below'} that"
    )


def _against(row: Mapping[str, Any]) -> str:
    low, high = row["difference_interval"]
    return (
        f", difference {row['difference']:+.3f} ({low:+.3f} to {high:+.3f}), p {row['p_value']:.3f}"
    )


def write_page(path: Path, record: Mapping[str, Any], study: str) -> None:
    """Write the page atomically."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from nodule_det.plots.optimism import draw_optimism
    from nodule_det.plots.style import as_svg

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined
    )
    rows = sorted(record["settings"], key=lambda row: -row["pauc"])
    html = environment.get_template("page.html.j2").render(
        study=study,
        label=LABEL[Selection(record["selection"])],
        of_seeds=FIRST_SEED if len(record["seeds"]) > 1 else "",
        ci=_ci,
        test=_test(record, next(row["observed"] for row in rows if row["largest_observed"])),
        settings=counted(len(rows), "setting"),
        seeds=counted(len(record["seeds"]), "seed"),
        tested="test" in record,
        rows=rows,
        picture=as_svg(draw_optimism(rows, record.get("test")), "optimism"),
        version=__version__,
    )
    write_text(path, html)
