"""A small server: a photograph in, classes and their probabilities out (the extra ``serve``)."""

from fovigraph.serve.app import create_app
from fovigraph.serve.limits import Limits
from fovigraph.serve.run import serve

__all__ = ["Limits", "create_app", "serve"]
