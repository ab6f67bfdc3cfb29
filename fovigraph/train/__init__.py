"""Training: from a folder of images to a foveated classifier, resumable and distributed."""

from fovigraph.train.recipe import Recipe, load_recipe, network_of

__all__ = ["Recipe", "load_recipe", "network_of"]
