"""Whether a recipe names data that may exist: found out before anything heavy is imported."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from fovigraph._checks import nearest

if TYPE_CHECKING:
    from fovigraph.train.recipe import DataConfig

BUILT_IN = ("digits",)
"""Sources that need no files."""

HUB_ID = r"\w[\w.-]*/\w[\w.-]*"


class DataError(ValueError):
    """Data that cannot be used: in one line where, what was found, and what is expected."""


def check_source(config: DataConfig) -> str:
    """Return ``data.source``, if it names a folder or file that exists, or may be on the Hub.

    Args:
        config: The section ``data`` of a recipe.

    Raises:
        DataError: If it does not, or there is none.
    """
    source = config.source
    if source is None:
        raise DataError(
            "data.source must say what to learn from, and the configuration does not: "
            "data.source=FOLDER of images (a subfolder for every class), a parquet file or a "
            "folder of them, owner/name of a dataset on the Hugging Face Hub, or digits"
        )
    path = Path(source).expanduser()
    if source in BUILT_IN or os.path.lexists(path) or re.fullmatch(HUB_ID, source):
        return source
    hint = nearest(source, BUILT_IN)
    raise DataError(
        f"data.source: there is no file or folder {source!r}, and it is no id of a dataset on the "
        "Hugging Face Hub, owner/name" + (f" (did you mean {hint!r}?)" if hint else "")
    )
