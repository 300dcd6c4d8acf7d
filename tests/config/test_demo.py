"""Settings of the demo: the commands that it runs must accept what they pass on."""

from __future__ import annotations

from hydra import compose, initialize_config_dir

import nodule_det.data.__main__
import nodule_det.train.__main__
from nodule_det.cli import to_config
from nodule_det.config.demo import DemoConfig
from nodule_det.config.files import CONF_DIR


def test_the_commands_accept_what_the_demo_passes_on():
    demo = DemoConfig()
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        for module, words in (
            (nodule_det.data.__main__, ["source=phantom", *demo.data]),
            (nodule_det.train.__main__, [f"seed={demo.seed}", *demo.train]),
        ):
            command = module.main
            to_config(compose(command.name, words), command.schema)
