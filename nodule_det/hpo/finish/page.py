"""The result of finish, for a terminal and as an HTML page.

record of finish.json ──summary()──▶ lines
                      └─write_page()──▶ finish.html
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nodule_det import __version__
from nodule_det.files import write_text
from nodule_det.progress import counted

HERE = Path(__file__).parent
LABEL = {
    "other": "cross-validated: each fold evaluated once, its checkpoint chosen on another fold",
    "same": "cross-validated, optimistic: each fold also chose its own checkpoint",
}


def summary(record: Mapping[str, Any]) -> str:
    """Return a line for each setting, best first, and the optimism of the best trial."""
    rows = sorted(record["settings"], key=lambda row: -row["pauc"])
    lines = [LABEL[record["selection"]]]
    for row in rows:
        low, high = row["pauc_interval"]
        text = f"trial {row['trial']}: pAUC {row['pauc']:.3f} (95% CI {low:.3f} to {high:.3f})"
        text += f", in the study {row['observed']:.3f}"
        if row["expected"] is not None:
            text += f", expected by the model {row['expected']:.3f}"
        lines.append(text + (" <- chosen" if row["chosen"] else _against(row)))
    lucky = next(row for row in rows if row["largest_observed"])
    lines.append(
        f"the largest value of the study (trial {lucky['trial']}) was {lucky['optimism']:+.3f} "
        "above its cross-validated pAUC"
        if lucky["optimism"] >= 0
        else f"the largest value of the study (trial {lucky['trial']}) was "
        f"{-lucky['optimism']:.3f} below its cross-validated pAUC"
    )
    lines.append(_test(record, lucky["observed"]))
    return "\n".join(lines)


def _test(record: Mapping[str, Any], best: float) -> str:
    """Write the figure of the test set, and how far the study's best value was above it."""
    test = record.get("test")
    if test is None:
        return (
            "not tested: the store has no test set, so no figure is free of the choices made here "
            "(store.test_fraction=0.2 holds one out)"
        )
    if test["few_scans"]:
        ci = "too few scans for a CI"
    else:
        low, high = test["pauc_interval"]
        ci = f"95% CI {low:.3f} to {high:.3f}"
    gap = best - test["pauc"]
    return (
        f"{test['label']}: pAUC {test['pauc']:.3f} ({ci}), {test['n_lesions']} lesions in "
        f"{test['n_scans']} scans; the largest value of the study was {abs(gap):.3f} "
        f"{'above' if gap >= 0 else 'below'} that"
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
        label=LABEL[record["selection"]],
        test=_test(record, next(row["observed"] for row in rows if row["largest_observed"])),
        settings=counted(len(rows), "setting"),
        seeds=counted(len(record["seeds"]), "seed"),
        tested="test" in record,
        rows=rows,
        picture=as_svg(draw_optimism(rows, record.get("test")), "optimism"),
        version=__version__,
    )
    write_text(path, html)
