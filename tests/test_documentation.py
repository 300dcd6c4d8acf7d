"""Commands and links in README and docs: each command is accepted, each link leads somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from nodule_det.cli import to_config, with_new_keys
from nodule_det.commands import COMMANDS, load
from nodule_det.config.files import CONF_DIR
from tests.conftest import REPOSITORY

PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")])
NAMES = [page.relative_to(REPOSITORY).as_posix() for page in PAGES]
COMMAND = re.compile(r"(?:nodule-det |python -m nodule_det\.)[a-z][^\n`─|]*")
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def documented(page: Path) -> Iterator[str]:
    """Find the command lines in the code blocks of a page."""
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        for found in COMMAND.finditer(block.replace("\\\n", " ")):
            yield found.group().strip()


def name_and_settings(line: str) -> tuple[str, list[str]]:
    """Split a command line into the command's name and its settings, up to the first plain word."""
    words = shlex.split(line.replace("python -m nodule_det.", "nodule-det ", 1), comments=True)[1:]
    words[0:1] = words[0].split(".")
    name = ""
    while words and f"{name} {words[0]}".strip() in COMMANDS:
        name = f"{name} {words.pop(0)}".strip()
    settings = []
    for word in words:
        if "=" not in word:
            break
        settings.append(word)
    return name, [w for w in settings if not w.startswith("-") and not w.endswith(("=", "=NAME"))]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_documented_command_is_accepted(page):
    for line in documented(page):
        name, settings = name_and_settings(line)
        assert name, f"{page.name}: {line}: no such command"
        if not settings or "--config-dir" in line:  # a mention, or a site of the reader's own
            continue
        schema = load(name).schema
        with initialize_config_dir(CONF_DIR, version_base="1.3"):
            words = with_new_keys(settings, schema)
            config = compose(name.replace(" ", "_"), overrides=words)
        to_config(config, schema)


def test_documented_commands_are_found():
    lines = [line for page in PAGES for line in documented(page)]
    assert "nodule-det report run=runs/DATE_TIME" in {line.split("#")[0].strip() for line in lines}
    assert len(lines) > 25


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_to_a_file(page):
    text = page.read_text(encoding="utf-8")
    for target in LINK.findall(text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"
