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
BUILD = "import setuptools.build_meta as b, sys; b.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Build the wheel from a copy, since building leaves files behind, and unpack it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("nodule_det", "conf", "scripts"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    words = [sys.executable, "-c", BUILD, str(folder)]
    subprocess.run(words, cwd=source, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


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
