"""The gallery page."""

import re
from pathlib import Path

from fovigraph.cli import KINDS

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "gallery.md").read_text(encoding="utf-8")


def test_pictures_are_there_and_small():
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", TEXT)
    assert len(pictures) >= len(KINDS)
    for picture in pictures:
        assert (DOCS / picture).stat().st_size < 150_000, picture
    made = {f"images/gallery/{file.name}" for file in (DOCS / "images" / "gallery").iterdir()}
    assert made == set(pictures)


def test_snippets_run(tmp_path, monkeypatch):
    from fovigraph.viz import read_video

    monkeypatch.chdir(tmp_path)
    (snippet,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(snippet, "gallery.md", "exec"), {})
    assert len(list(read_video("seen.gif"))) == 4


def test_every_command_is_shown():
    for kind in KINDS:
        assert f"`plot {kind}" in TEXT
