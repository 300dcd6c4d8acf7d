"""The wheel, built and unpacked, has everything that is beside the package in a checkout."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel by ``python -m build``, from a copy, since building leaves files behind."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("nodule_det", "conf", "scripts"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run(words, cwd=source, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Unpack the wheel."""
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def run(installed, folder, *words):
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,  # not the checkout
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def test_every_module_setting_file_and_page_is_in_the_wheel(installed):
    def files(folder):
        found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        return {name for name in found if "__pycache__" not in name}

    package = installed / "nodule_det"
    beside = {f"conf/{name}" for name in files(REPOSITORY / "conf")} | {"scripts/submit_pbs.sh"}
    assert files(package) == files(REPOSITORY / "nodule_det") | beside


def test_the_installed_package_finds_its_settings_space_and_job_script(installed, tmp_path):
    words = ["search_space=nomura", "study=s", "train.store=st", "dispatcher=pbs", "dry_run=true"]
    said = run(installed, tmp_path, "nodule_det.hpo", *words)
    assert said.rstrip().endswith(str(installed / "nodule_det" / "scripts" / "submit_pbs.sh"))
    assert list(tmp_path.iterdir()) == []


def test_the_lock_has_a_hashed_version_of_every_dependency_that_satisfies_it():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dicom"]]
    text = (REPOSITORY / "requirements.lock").read_text()
    entries = re.findall(
        r"^([\w.-]+)==(\S+)[^\n]*\\\n((?: +--hash=sha256:\w{64}[ \\]*\n?)+)", text, re.M
    )
    locked: dict[str, list[str]] = {}
    for name, version, _ in entries:
        locked.setdefault(name.lower(), []).append(version)
    assert len(entries) == len(re.findall(r"^\w", text, re.M))  # none without a hash
    for requirement in map(Requirement, wanted):
        if requirement.name == "torch":  # chosen by the user: CPU, CUDA or ROCm
            assert not {"torch", "triton"} & set(locked)
            continue
        versions = locked[requirement.name.lower()]
        assert all(requirement.specifier.contains(version) for version in versions), requirement


def test_the_wheel_works_in_an_empty_environment_without_the_checkout(wheel, tmp_path):
    environment = tmp_path / "env"
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=120
    )
    python = environment / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index",
         "--no-deps", "--disable-pip-version-check", wheel],
        check=True, timeout=120,
    )  # fmt: skip
    # its dependencies, whose download takes gigabytes, come from where the tests have them
    (site,) = environment.glob("lib/python*/site-packages")
    others = [p for p in sys.path if p.endswith("site-packages") and Path(p).is_dir()]
    (site / "dependencies.pth").write_text(
        "".join(f"import sys; sys.path.append({path!r})\n" for path in others)
    )

    def said(*words):
        return subprocess.run(
            [str(word) for word in words], cwd=tmp_path, env={"PATH": "/usr/bin:/bin"},
            capture_output=True, text=True, timeout=120, check=True,
        ).stdout  # fmt: skip

    where = said(python, "-c", "import nodule_det; print(nodule_det.__file__)")
    assert Path(where.strip()).is_relative_to(site)
    assert said(environment / "bin" / "nodule-det", "--version").startswith("nodule_det ")
    help_text = said(environment / "bin" / "nodule-det", "train", "--help")
    assert "experiment=" in help_text  # found in the YAML files that the wheel brings
    code = "import nodule_det as nd; print(nd.read_scan.__module__, nd.TrainConfig().model.depth)"
    assert said(python, "-c", code) == "nodule_det.data.readers.read 3\n"


def test_the_metadata_names_licence_python_and_types(installed):
    (metadata,) = installed.glob("nodule_det-*.dist-info/METADATA")
    text = metadata.read_text(encoding="utf-8")
    for line in (
        "License-Expression: MIT", "License-File: LICENSE", "Requires-Python: >=3.11",
        "Classifier: Typing :: Typed", "Description-Content-Type: text/markdown",
        "Provides-Extra: dicom", "Provides-Extra: onnx",
    ):  # fmt: skip
        assert f"\n{line}\n" in text
    assert (installed / "nodule_det" / "py.typed").exists()
