"""DINOv3's configuration, and what is said where the extra ``vit`` is not installed."""

import sys

import pytest
from torch import nn

import fovigraph as fg
from fovigraph.models.dinov3 import DINOv3Config
from fovigraph.models.lora import add_lora


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "tiny"}, "backbone.size must be one of .* got 'tiny'"),
        ({"options": ["hidden_size"]}, "backbone.options must be like 'key=value', got 'hidden_s"),
        ({"options": ["num_attention_heads=5"]}, r"multiple of 4 · num_attention_heads, got 384"),
        ({"lora_rank": 0}, "backbone.lora_rank must be at least 1, got 0"),
        ({"lora_rank": 2, "lora_blocks": [12]}, "backbone.lora_blocks must be at most 11, got 12"),
        ({"lora_rank": 2, "lora_alpha": 0.0}, "backbone.lora_alpha must be finite and above 0"),
        ({"aggregation": "pooled"}, "backbone.aggregation must be one of"),
        ({"blocks": 3}, "backbone.blocks is not a key"),
        (
            {"options": ["num_hidden_layers=null"]},
            "num_hidden_layers in backbone.options must ",
        ),
        (
            {"options": ["intermediate_size=0"]},
            "intermediate_size in backbone.options must",
        ),
        (
            {"options": ["num_register_tokens=-1"]},
            "num_register_tokens in backbone.options",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_is_named(options, message):
    with pytest.raises(fg.ConfigError, match=message):
        fg.config.as_config({"backbone": {"name": "dinov3", **options}})


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers.models.dinov3_vit", None)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"needs transformers .*pip install 'fovigraph\[vit\]'"):
        fg.models.DINOv3(fg.SensorArray.matched(24), DINOv3Config())
    with pytest.raises(ImportError, match=r"LoRA needs peft: pip install 'fovigraph\[vit\]'"):
        add_lora(nn.Sequential(nn.Linear(2, 2)), ["0"])
