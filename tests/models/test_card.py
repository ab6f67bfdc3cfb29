"""Model cards: text stays text."""

import pytest

import fovigraph as fg
from fovigraph.models.card import as_text, model_card


@pytest.fixture(scope="module")
def net():
    return fg.FoviNet(fg.load_config("fovi_tiny", ["retina.side=12", "backbone.pool_after=[]"]))


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("a plain name-1.0 (2)", "a plain name-1.0 (2)"),
        ("a | b", "a &#124; b"),
        ("a\n---\nlicense: x\r\n# b", r"a --- license: x \# b"),
        ("`code` *stress* __strong__ ~~gone~~", r"\`code\` \*stress\* \_\_strong\_\_ \~\~gone\~\~"),
        ("<script>&amp;</script>", "&lt;script&gt;&amp;amp;&lt;/script&gt;"),
        ("[link](http://a.b) $x$ \\", r"\[link\](http://a.b) \$x\$ \\"),
        ("\x00\u2028\u202ea\tb ", "a b"),
        ("", ""),
    ],
)
def test_text_is_shown_as_it_is(words, shown):
    assert as_text(words) == shown


def test_no_name_adds_lines_cells_or_front_matter(net):
    wild = "x|y\n---\nlicense: evil\n---\n```\n<img src=x onerror=alert(1)>{}%s{name}"
    card = model_card(net, wild, wild, {wild: wild})
    plain = model_card(net, "x", "x", {"x": "x"})
    assert len(card.splitlines()) == len(plain.splitlines())
    for line, usual in zip(card.splitlines(), plain.splitlines(), strict=True):
        assert line.count("|") == usual.count("|")
        assert line == usual or "evil" in line
    assert "<img" not in card and "{}%s{name}" in card


def test_a_card_says_which_images_a_network_takes(net):
    assert "| RGB in " in model_card(net, "eye", "trained")
    grey = model_card(fg.create_model("fovi_tiny", in_channels=1), "eye", "trained")
    assert "| 1 channel in " in grey
    assert "# [B, 1, H, W]" in grey
    assert "RGB" not in grey
