"""Adapters from the command line: trained, gone on with, evaluated, and saved alone."""

import json

import numpy as np
import pytest
import torch

import fovigraph as fg
from fovigraph.cli import main
from fovigraph.models.lora import adapter_state, load_adapters, save_adapters

pytest.importorskip("transformers", reason="needs the extra vit")
pytest.importorskip("peft", reason="needs the extra vit")

TINY = [
    "retina.side=16",
    "backbone.options=[hidden_size=16,num_attention_heads=2,num_hidden_layers=2,intermediate_size=24]",
    "backbone.lora_blocks=[-1,0]",
    "backbone.lora_rank=2",
    "projector.channels=[]",
    "head.num_classes=2",
    "data.size=32",
    "data.workers=0",
    "train.batch_size=8",
    "train.epochs=1",
    "optimizer.learning_rate=0.02",
    "optimizer.warmup=0",
]


@pytest.fixture
def photos(tmp_path):
    """Two folders of images of another colour each."""
    from PIL import Image

    random = np.random.default_rng(0)
    for name, colour in (("cat", (220, 90, 60)), ("dog", (60, 90, 220))):
        for split, count in (("train", 16), ("test", 4)):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                noise = random.integers(-30, 30, (32, 32, 3))
                pixels = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return tmp_path / "photos"


def frozen(net):
    learnt = {name for name, p in net.named_parameters() if p.requires_grad}
    return {name: value for name, value in net.state_dict().items() if name not in learnt}


@pytest.mark.parametrize("recipe", ["cifar10_lora", "imagenet_dinov3"])
def test_adapters_learn_and_what_is_frozen_stays(recipe, photos, tmp_path, capsys):
    run, start = tmp_path / "run", tmp_path / "start"
    words = [recipe, *TINY, f"data.source={photos}", "train.precision=32-true"]
    torch.manual_seed(0)
    network = [word for word in words if word.split(".")[0] in ("retina", "backbone", "projector")]
    before = fg.FoviNet(fg.load_config(recipe, [*network, "head.num_classes=2"]))
    before.save_pretrained(start)
    words += [f"train.start={start}", "--out", str(run)]
    assert main(["train", *words]) == 0
    first = fg.FoviNet.from_pretrained(run)
    assert main(["train", *words, "--resume", "train.epochs=3"]) == 0
    assert "started from" in capsys.readouterr().out
    after = fg.FoviNet.from_pretrained(run)
    for name, value in frozen(before.backbone).items():
        assert after.backbone.state_dict()[name].equal(value), name
    for name, value in adapter_state(after.backbone).items():
        assert not value.equal(adapter_state(first.backbone)[name]), name

    page = tmp_path / "page"
    assert main(["eval", str(run), str(photos / "test"), "--out", str(page)]) == 0
    capsys.readouterr()
    image = str(photos / "test" / "dog" / "0.png")
    assert main(["predict", str(run), image, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert "dog" in json.dumps(said)

    save_adapters(after.backbone, tmp_path / "adapters")
    with torch.no_grad():
        before.backbone.norm.load_state_dict(after.backbone.norm.state_dict())
    load_adapters(before.backbone, tmp_path / "adapters")
    samples = torch.rand(2, len(after.retina.array), 3)
    assert before.backbone.eval()(samples).equal(after.backbone.eval()(samples))
