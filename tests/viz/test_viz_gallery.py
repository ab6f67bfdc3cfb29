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


def test_every_command_is_shown():
    for kind in KINDS:
        assert f"`plot {kind}" in TEXT
