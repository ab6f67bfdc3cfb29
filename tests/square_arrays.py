"""Uniform arrays of nodes as the images that dense networks take."""


def pixels(level):
    """Row and column of every node in the square image of a uniform level."""
    size = level.resolution
    x, y = level.cartesian.unbind(1)
    return (((1 - y) * size - 1) / 2).round().long(), (((1 + x) * size - 1) / 2).round().long()
