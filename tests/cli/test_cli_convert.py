"""`fovigraph convert`: there, back, and one line for every mistake."""

from pathlib import Path

import pytest
import torch

from fovigraph.cli import main

UPSTREAM = Path(__file__).parent.parent / "data" / "upstream_tiny"


def test_there_and_back_keeps_every_tensor(tmp_path, capsys):
    assert main(["convert", str(UPSTREAM), str(tmp_path / "ours")]) == 0
    assert "FoviNet.from_pretrained" in capsys.readouterr().out
    ours, back = str(tmp_path / "ours"), str(tmp_path / "back")
    assert main(["convert", ours, back, "--to-upstream"]) == 0
    before = torch.load(UPSTREAM / "final_weights.pth", weights_only=True)["state_dict"]
    after = torch.load(tmp_path / "back" / "state_dict.pth", weights_only=True)["state_dict"]
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere/at/all", "out"], "nowhere/at/all"),
        ([str(UPSTREAM)], "required: DST"),
        ([str(UPSTREAM), "out", "more"], "'more'"),
        ([str(UPSTREAM), str(UPSTREAM)], "must not exist or be an empty folder"),
        ([str(UPSTREAM), "out", "--backwards"], "unknown option '--backwards'"),
    ],
)
def test_mistakes_are_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["convert", *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not any(tmp_path.iterdir())
