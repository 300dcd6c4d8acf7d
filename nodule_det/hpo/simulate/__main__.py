"""``python -m nodule_det.hpo.simulate``: the poster's experiment on simulated trainings."""

from __future__ import annotations

from pathlib import Path

from nodule_det.cli import calculate_in_one_thread, command
from nodule_det.config.hpo_tools import SimulateConfig
from nodule_det.hpo.simulate.experiment import check_settings, draw_all, simulate_all
from nodule_det.progress import counted


@command("hpo simulate", SimulateConfig)
def main(config: SimulateConfig) -> None:
    """Run simulated studies in virtual time, and draw the poster's Figs. 7 and 8 from them."""
    calculate_in_one_thread()
    folder = Path(config.out)
    folder.mkdir(parents=True, exist_ok=True)
    check_settings(config, folder / "settings.json")
    runs = simulate_all(config, folder / "runs.csv")
    draw_all(runs, folder)
    print(
        f"{folder}: {counted(len(runs), 'study', 'studies')}; figures as PNG, their numbers in "
        "curves.csv"
    )


if __name__ == "__main__":
    main()
