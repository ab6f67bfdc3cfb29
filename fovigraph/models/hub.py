"""Networks on the Hugging Face Hub, from here to there."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fovigraph._checks import instance, shown
from fovigraph._names import HUB_ID
from fovigraph.models.card import model_card
from fovigraph.models.pretrained import save_pretrained

if TYPE_CHECKING:
    from fovigraph.models.fovinet import FoviNet


def push_to_hub(
    net: FoviNet,
    repo_id: str,
    *,
    card: str | None,
    private: bool | None,
    revision: str | None,
    token: str | None,
    commit_message: str,
) -> str:
    """Upload a network; see :meth:`fovigraph.FoviNet.push_to_hub`."""
    instance("repo_id", repo_id, str)
    if not HUB_ID.fullmatch(repo_id):
        raise ValueError(f"repo_id must be 'owner/name', got {shown(repo_id)}")
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise ImportError(
            "push_to_hub needs huggingface_hub: pip install 'fovigraph[hub]'"
        ) from error
    if card is None:
        card = model_card(net, repo_id, "uploaded")
        card = card.replace('"path/to/this/folder"', json.dumps(repo_id))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_pretrained(net, folder)  # whatever is wrong with the network is said before an upload
        (folder / "README.md").write_text(card, encoding="utf-8")
        hub = HfApi(token=token)
        hub.create_repo(repo_id, private=private, exist_ok=True)
        done = hub.upload_folder(
            repo_id=repo_id, folder_path=folder, commit_message=commit_message, revision=revision
        )
    return str(done.commit_url)
