"""Each command beside the driver reports missing and wrong settings."""

import pytest

from nodule_det.config.hpo import AcquisitionConfig, Strategy
from nodule_det.config.hpo_tools import (
    AddConfig,
    CancelConfig,
    ExportConfig,
    InitConfig,
    PruneConfig,
    ShowConfig,
    SimulateConfig,
    StatusConfig,
    StudyReportConfig,
)
from nodule_det.errors import ConfigError

OF_A_STUDY = [
    AddConfig, CancelConfig, ExportConfig, PruneConfig, ShowConfig, StatusConfig, StudyReportConfig,
]  # fmt: skip


@pytest.mark.parametrize("kind", OF_A_STUDY)
def test_a_command_on_a_study_needs_its_folder(kind):
    with pytest.raises(ConfigError, match="study is missing; add study=FOLDER to the command"):
        kind()


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (InitConfig, {}, "out is missing; add out=FOLDER"),
        (AddConfig, {"study": "s"}, "set either points=FILE.yaml or results=STUDY_FOLDER"),
        (AddConfig, {"study": "s", "points": "p", "results": "r"}, "set either points"),
        (CancelConfig, {"study": "s"}, "trial is missing; add trial=NUMBER"),
        (CancelConfig, {"study": "s", "trial": -1}, "trial=-1 must lie in"),
        (ShowConfig, {"study": "s", "trial": -1}, "trial=-1 must lie in"),
        (PruneConfig, {"study": "s", "keep_best": -1}, "keep_best=-1 must lie in"),
        (StudyReportConfig, {"study": "s", "seed": -1}, "seed=-1 must lie in"),
        (SimulateConfig, {"out": ""}, "out is empty"),
        (SimulateConfig, {"strategies": []}, r"strategies=\[\] and workers=.* at least one each"),
        (SimulateConfig, {"workers": [4, 0]}, "workers=0 must lie in"),
        (
            SimulateConfig,
            {"acquisition": AcquisitionConfig(strategy=Strategy.sobol)},
            r"strategy=sobol has no effect here, .* use strategies=\[sobol\]",
        ),
    ],
)
def test_a_wrong_setting_is_refused(kind, settings, message):
    with pytest.raises(ConfigError, match=message):
        kind(**settings)


def test_show_works_without_a_trial_but_cancel_does_not():
    assert ShowConfig(study="s").trial == 0
    assert CancelConfig(study="s", trial=1).trial == 1
