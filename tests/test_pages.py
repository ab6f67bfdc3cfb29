"""Web pages of one file each."""

import pytest

from fovigraph import _pages


def test_what_is_filled_in_is_not_a_template():
    parts = {"a": "{{b}} {{a}} {{c}} \\1", "b": "B"}
    assert _pages.fill("{{a}}-{{b}}-{{a}}", parts) == f"{parts['a']}-B-{parts['a']}"


def test_braces_that_hold_no_name_stay():
    assert _pages.fill("{{ a }} {a} {{", {}) == "{{ a }} {a} {{"


def test_a_name_without_a_part():
    with pytest.raises(KeyError, match="missing"):
        _pages.fill("{{missing}}", {})


def test_a_page_can_always_be_written():
    assert _pages.fill("{{a}}", {"a": "é\ud800"}).encode("utf-8") == "é?".encode()


def test_a_title_is_text_and_the_style_follows_the_shared_one():
    page = _pages.page("{{title}}|{{style}}|{{theme}}|{{more}}", "a < b", "h1{}", more="<p>")
    title, style, theme, more = page.split("|")
    assert title == "a &lt; b"
    assert "color-scheme" in style and style.endswith("h1{}")
    assert theme.startswith("<label") and more == "<p>"
