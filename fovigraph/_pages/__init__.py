"""Web pages of one file each: a template, filled in, and the look that all of them share."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Mapping
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image


def fill(template: str, parts: Mapping[str, str]) -> str:
    """Return a template with every ``{{name}}`` in it replaced by ``parts[name]``.

    What is filled in is never read as a template itself, and what UTF-8 cannot hold (half of a
    surrogate pair, as in the name of a file that is not UTF-8) becomes a question mark.

    Args:
        template: The text, with names in double braces.
        parts: What they stand for, in HTML: :func:`html.escape` what is not.

    Raises:
        KeyError: If a name has no part.

    Example:
        >>> from fovigraph._pages import fill
        >>> fill("<h1>{{title}}</h1>", {"title": "{{style}}"})
        '<h1>{{style}}</h1>'
    """
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)
    return page.encode("utf-8", "replace").decode("utf-8")


def page(template: str, title: str, style: str, *, allows: str = "", **parts: str) -> str:
    """Return a page with a title, which is plain text, in the look that all pages share.

    Args:
        template: The text, which also names ``head``, what stands in the element of that name, and
            ``title`` and ``theme``.
        title: The page's name.
        style: Its own CSS, which follows what all pages share.
        allows: What it may do besides showing pictures that it holds: directives of its
            Content-Security-Policy, each with a semicolon and a space after it.
        **parts: As for :func:`fill`.
    """
    package = "fovigraph._pages"
    shared = {"title": escape(title), "style": asset(package, "shared.css") + style}
    head = fill(asset(package, "head.html").strip(), {**shared, "allows": allows})
    theme = asset(package, "theme.html").strip()
    return fill(template, {**parts, **shared, "head": head, "theme": theme})


def as_json(value: Any) -> str:
    """Return a value as JSON that can stand in an element ``script``, which ``<`` could end."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def png_url(picture: Image) -> str:
    """Return a picture of Pillow's as the address of a PNG file that the page itself holds."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def asset(package: str, *path: str) -> str:
    """Return the text of a file that comes with a package."""
    return resources.files(package).joinpath(*path).read_text(encoding="utf-8")
