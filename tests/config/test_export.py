"""Settings of export that cannot be."""

import pytest

from nodule_det.config.export import ExportConfig
from nodule_det.errors import ConfigError


def test_a_network_and_an_output_must_be_named():
    with pytest.raises(ConfigError, match="selects the network, but neither is set"):
        ExportConfig(out="a.onnx")
    with pytest.raises(ConfigError, match="out is not set; add out=PATH"):
        ExportConfig(checkpoint="a.pt")
    assert ExportConfig(checkpoint=["a.pt", "b.pt"], out="x").checkpoints == ("a.pt", "b.pt")
