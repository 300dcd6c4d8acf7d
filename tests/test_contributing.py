"""The table of layers in CONTRIBUTING.md is the one that test_layers.py checks.

``python -m tests.test_contributing`` writes it anew.
"""

from __future__ import annotations

from pathlib import Path

from tests.test_layers import MAY_IMPORT

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"
HEADING = "## Layers\n"


def table() -> str:
    rows = [f"| `{part}` | {others} |" for part, others in MAY_IMPORT.items()]
    return "\n".join(["| part | may import |", "| --- | --- |", *rows]) + "\n"


def page(text: str) -> str:
    """Return the page with the table as it is now."""
    above, _, below = text.partition("| part | may import |")
    return above + table() if below else text


def test_contributing_has_the_current_table_of_layers():
    text = PAGE.read_text(encoding="utf-8")
    assert HEADING in text
    assert text == page(text), "run python -m tests.test_contributing"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
