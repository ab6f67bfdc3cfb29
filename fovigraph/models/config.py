"""The schema of a whole network; that of each section stands with the class it describes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from fovigraph._schema import Section
from fovigraph.models._registry import BackboneConfig
from fovigraph.models.alexnet import AlexNetConfig
from fovigraph.models.heads import HeadConfig, ProjectorConfig
from fovigraph.sensing import FixationConfig, RetinaConfig

TRAINING = ("data", "augment", "objective", "optimizer", "train")
"""The sections that a training recipe (:mod:`fovigraph.train`) adds to a network's."""


@dataclass(frozen=True)
class FoviConfig(Section):
    """The configuration of a whole network.

    Attributes:
        retina: The sensor array, and how it samples images.
        fixation: How many fixations, and where.
        backbone: The network on the samples, of the schema that its name is registered with.
        projector: The MLP after it.
        head: The linear probe.
    """

    IGNORED: ClassVar[tuple[str, ...]] = TRAINING

    retina: RetinaConfig = field(default_factory=RetinaConfig)
    fixation: FixationConfig = field(default_factory=FixationConfig)
    backbone: BackboneConfig = field(default_factory=AlexNetConfig)
    projector: ProjectorConfig = field(default_factory=ProjectorConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
