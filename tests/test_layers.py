"""Who may import whom, checked against the source, and where each module has its test.

A name is a module or package directly in ``nodule_det``, or ``data.X``, ``hpo.X`` or ``plots.X``
for a part of a package that has more than one layer.
"""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "nodule_det"
SPLIT = ("data", "hpo", "plots")
MAY_IMPORT = {
    "errors": "",
    "progress": "",
    "arrays": "errors progress",
    "cpus": "",
    "untrusted": "",
    "files": "untrusted",
    "runs": "untrusted",
    "packing": "errors files runs untrusted",
    "origin": "errors files untrusted progress",
    "locking": "errors progress untrusted",
    "geometry": "arrays errors",
    "commands": "errors",
    "config": "errors untrusted",
    "usage": "commands config errors",
    "cli": "commands config errors usage untrusted",
    "completion": "commands config errors",
    "__main__": "commands completion errors",
    "tables": "arrays errors files",
    "froc": "arrays errors progress",
    "analysis": "arrays errors froc progress",
    "candidates": "arrays config geometry tables",
    "plots.style": "files",
    "plots.froc_curve": "analysis arrays errors files plots.style",
    "plots.optimism": "plots.style",
    "plots.training": "plots.style",
    "plots.folds": "analysis plots.style progress",
    "plots.reliability": "arrays plots.style progress",
    "data.scan": "arrays errors geometry progress",
    "data.blocks": "arrays data.scan errors",
    "data.store": "arrays data.blocks data.scan errors files geometry untrusted",
    "data.roles": "config data.scan data.store errors",
    "forecast": "config data.roles data.store errors progress",
    "data.feed": "arrays config cpus data.blocks data.scan errors geometry progress",
    "plots.findings": "arrays candidates data.scan data.store files froc geometry plots.style",
    "data.readers": "arrays data.scan errors geometry progress",
    "evaluate": "arrays analysis cli config data.readers data.store errors files froc geometry "
    "plots.froc_curve tables origin progress",
    "data.layouts": "arrays config data.readers data.scan errors geometry progress tables "
    "untrusted",
    "data.preprocess": "arrays config data.scan errors geometry",
    "data.phantom": "arrays config cpus data.scan errors files geometry progress tables untrusted",
    "data.verify": "cli config data.store errors progress",
    "data.names": "cli config errors tables progress",
    "data.ingest": "config cpus data.layouts data.preprocess data.readers data.scan data.store "
    "errors files locking progress tables untrusted",
    "data.__main__": "cli config data.ingest data.layouts data.phantom progress",
    "model": "arrays candidates config errors geometry",
    "checkpoint": "config errors files model origin untrusted",
    "inference": "arrays candidates config data.scan errors model",
    "baseline": "arrays candidates cli config data.ingest data.store errors geometry "
    "progress tables",
    "train": "analysis arrays candidates checkpoint cli config cpus data.feed data.scan "
    "data.store errors files froc geometry inference model plots.findings plots.froc_curve "
    "plots.training progress runs tables locking untrusted origin forecast data.roles",
    "ensemble": "arrays candidates checkpoint config data.scan errors files froc geometry "
    "inference model untrusted origin progress",
    "predict": "arrays candidates ensemble cli config data.blocks data.ingest data.layouts "
    "data.preprocess data.readers data.scan errors files inference model locking "
    "untrusted origin progress",
    "export": "candidates checkpoint cli config data.blocks data.ingest data.readers data.scan "
    "ensemble errors files inference model progress",
    "score": "analysis candidates cli config data.store ensemble errors files model origin "
    "predict progress runs train",
    "report": "arrays analysis cli config data.readers data.scan data.store errors evaluate files "
    "froc geometry packing plots.froc_curve plots.style progress runs tables "
    "untrusted origin",
    "demo": "cli config errors files runs tables progress",
    "hpo.space": "arrays config errors untrusted",
    "hpo.study": "config errors files hpo.space locking progress untrusted",
    "hpo.dispatch": "config errors",
    "hpo.training": "cli config errors files hpo.dispatch hpo.space hpo.study packing runs "
    "untrusted progress",
    "hpo.model": "arrays config files hpo.space hpo.study untrusted",
    "hpo.strategy": "arrays config hpo.model hpo.space hpo.study",
    "hpo.view": "hpo.model hpo.space hpo.study progress untrusted",
    "hpo.driver": "config errors hpo.dispatch hpo.model hpo.space hpo.strategy hpo.study "
    "hpo.training hpo.view progress forecast runs untrusted",
    "hpo.simulate": "arrays cli config errors files hpo.dispatch hpo.driver hpo.model hpo.space "
    "hpo.strategy hpo.study plots.style progress runs",
    "hpo.report": "arrays cli config files hpo.model hpo.space hpo.study hpo.view plots.style "
    "progress locking",
    "crossval": "analysis checkpoint cli config data.store ensemble errors evaluate files froc "
    "hpo.driver hpo.space hpo.study hpo.training plots.folds plots.froc_curve plots.reliability "
    "runs tables origin progress untrusted",
    "hpo.finish": "analysis cli config crossval data.store ensemble errors files hpo.driver "
    "forecast hpo.model hpo.study hpo.training model origin plots.optimism plots.style progress "
    "runs usage",
    "hpo.__main__": "cli config hpo.driver",
    "hpo.init": "cli config errors files",
    "hpo.prune": "cli config hpo.study hpo.training progress",
    "hpo.add": "cli config errors hpo.space hpo.study untrusted progress",
    "hpo.cancel": "cli config errors hpo.dispatch hpo.study locking",
    "hpo.export": "cli config errors files hpo.space hpo.study untrusted progress",
    "hpo.show": "cli config errors hpo.model hpo.study hpo.training hpo.view packing untrusted",
    "hpo.status": "cli config hpo.model hpo.study hpo.view locking",
}


def part(dotted):
    """Return the row of the table that a dotted name below ``nodule_det`` belongs to."""
    names = dotted.split(".")
    return ".".join(names[:2]) if names[0] in SPLIT else names[0]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            package = SRC.parent.joinpath(*node.module.split("."))
            if package.is_dir():
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module


def parts_imported(path):
    for name in imported(path):
        below = name.removeprefix("nodule_det.")
        if below == name or below == "__version__":
            continue
        inside = SRC.joinpath(*below.split("."))
        known = inside.is_dir() or inside.with_suffix(".py").is_file()
        yield part(below if known else below.rpartition(".")[0] or below)


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda p: str(p.relative_to(SRC)))
def test_imports_follow_the_table(path):
    dotted = ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")
    if dotted not in ("__init__", *SPLIT):
        here = part(dotted)
        allowed = {here, *MAY_IMPORT[here].split()}
        assert set(parts_imported(path)) <= allowed


def test_the_table_has_no_cycle():
    rank = {name: i for i, name in enumerate(MAY_IMPORT)}
    for name, others in MAY_IMPORT.items():
        for other in others.split():
            assert rank[other] < rank[name], f"{name} stands above {other}, which it imports"


def test_every_module_has_its_test_at_the_mirrored_path():
    """The test of ``nodule_det/a/b.py`` is ``tests/a/test_b.py``, of ``__main__.py`` test_main."""
    missing = set()
    for path in SRC.rglob("*.py"):
        inside = path.relative_to(SRC)
        test = inside.with_name(f"test_{inside.stem.strip('_')}.py")
        if inside.name != "__init__.py" and not Path(__file__).parent.joinpath(test).is_file():
            missing.add(inside.as_posix())
    assert not missing
