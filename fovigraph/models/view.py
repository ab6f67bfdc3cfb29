"""A network from the samples of one view on, as PyG's tools call a model."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from fovigraph._tensors import if_channels_first, real_tensor
from fovigraph.models.fovinet import FoviNet, check_fovinet


class OneView(nn.Module):
    """A :class:`FoviNet` that takes the samples of one view: ``model(x, edge_index)``.

    What PyG's ``Explainer`` needs, whose node masks are then the importance of the retina's
    samples. The weights are the network's own.

    Args:
        net: The network.

    Raises:
        TypeError: If ``net`` is something else.

    Example:
        >>> import torch, fovigraph as fg
        >>> net = fg.FoviNet(fg.load_config("fovi_tiny")).eval()
        >>> x = net.retina(torch.rand(1, 3, 96, 96), [[0.5, 0.5]])[0, 0]
        >>> fg.models.OneView(net)(x).shape
        torch.Size([1, 10])
    """

    def __init__(self, net: FoviNet):
        super().__init__()
        check_fovinet("net", net)
        self.net = net

    def forward(
        self, x: Float[Tensor, "*batch N C"], edge_index: Tensor | None = None
    ) -> Float[Tensor, "*views classes"]:
        """Classify samples.

        Args:
            x: Samples of the retina's nodes, ``[N, C]``, or ``[*, N, C]`` of several views.
            edge_index: Not used: the network has its own graphs.

        Returns:
            Logits of each view, ``[1, classes]`` or ``[*, classes]``.

        Raises:
            ValueError: If ``x`` has another number of nodes or channels than the retina's samples.
            TypeError: If it is not a tensor.
        """
        nodes = len(self.net.pyramid.levels[0])
        real_tensor("x", x)
        if x.dim() < 2 or x.shape[-2] != nodes:
            raise ValueError(
                f"x must be [..., {nodes} nodes, channels], got shape {list(x.shape)}"
                f"{if_channels_first(x.shape, nodes)}"
            )
        views = x[None] if x.dim() == 2 else x
        logits = self.net.head(self.net.projector(self.net.backbone(views).flatten(-2)))
        return self.net.aggregation.alone(logits)
