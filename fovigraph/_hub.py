"""What is said where the Hugging Face Hub does not give a network."""

from __future__ import annotations

_TOKEN = "a token that has access is needed (HF_TOKEN, or `hf auth login`)"

_KNOWN = {
    "RepositoryNotFoundError": f"there is no such repository, or it is private: {_TOKEN}",
    "GatedRepoError": f"its owner must grant access first, on its page: {_TOKEN}",
    "RevisionNotFoundError": "there is no such revision",
    "LocalEntryNotFoundError": "there is no network, and it is not in the cache",
    "OfflineModeIsEnabled": "the Hub is switched off (HF_HUB_OFFLINE), and it is not in the cache",
}
"""What errors of huggingface_hub mean, by their names: it need not be installed."""


def hub_problem(error: Exception) -> str:
    """Return, in a line, why the Hub did not give something, from huggingface_hub's error."""
    kind = type(error).__name__
    if kind in _KNOWN:
        return _KNOWN[kind]
    if getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
        return f"access is refused: {_TOKEN}"
    return f"{kind}: {str(error).strip().partition(chr(10))[0]}"
