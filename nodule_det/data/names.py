"""``python -m nodule_det.data.names``: results of an anonymised store under the original names.

candidates.csv + OUT.names.csv ──▶ the same table with the series UIDs of the data set
"""

from __future__ import annotations

import os
from pathlib import Path

from nodule_det.cli import command
from nodule_det.config.data import NamesConfig
from nodule_det.errors import TableError
from nodule_det.progress import counted
from nodule_det.tables import SERIES, read_table, write_table


@command("data names", NamesConfig)
def main(config: NamesConfig) -> None:
    """Write a table with the original names; only its owner can read it."""
    names = read_table(Path(config.names), (SERIES, "original"))
    original = dict(zip(names.text(SERIES), names.text("original"), strict=True))
    table = read_table(Path(config.table), (SERIES,), allow_empty=True)
    keys = table.text(SERIES)
    unknown = [key for key in keys if key not in original]
    if unknown:
        raise TableError(
            f"table={config.table} has {counted(len(set(unknown)), 'scan')} that "
            f"names={config.names} does not list, the first is {unknown[0]}; is it the table of "
            "another store?"
        )
    columns = table.columns | {SERIES: [original[key] for key in keys]}
    os.umask(0o077)
    Path(config.out).unlink(missing_ok=True)
    write_table(Path(config.out), list(columns), zip(*columns.values(), strict=True))
    print(f"{counted(len(keys), 'row')}  {config.out}")


if __name__ == "__main__":
    main()
