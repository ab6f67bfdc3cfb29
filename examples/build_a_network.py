"""From one layer to a whole foveated network, step by step.

The path of the tutorial "Building foveated deep vision models based on kNN-convolution" (FOVI,
Blauch, Alvarez & Konkle 2026) in fovigraph's terms. Run it: ``python examples/build_a_network.py``.
"""

import torch

import fovigraph as fg


def one_layer() -> None:
    """A convolution, a pool, a norm and a ReLU, with the graphs between their nodes."""
    retina = fg.SensorArray.matched(64, fov=16.0, cmf_a=0.5)  # as many samples as a 64² image
    v1 = retina.strided(1)  # the convolution keeps the resolution,
    v2 = v1.strided(2)  # the pool halves it

    to_v1 = fg.knn_graph(retina, v1, k=7 * 7)
    to_v2 = fg.knn_graph(v1, v2, k=3 * 3)
    print(f"{to_v1}\n{to_v2}")

    conv = fg.nn.KNNConv(3, 128, kernel_size=14)  # a kernel grid twice as fine as 7 × 7
    pool = fg.nn.KNNPool("max")
    norm = fg.nn.BatchNorm(128)

    x = torch.rand(64, len(retina), 3)  # features are [batch, nodes, channels]
    y = norm(torch.relu(pool(conv(x, to_v1), to_v2)))
    print(f"one layer: {list(x.shape)} → {list(y.shape)}")

    plan = fg.Plan(retina)  # a block asks a plan for the graphs that it needs
    steps = fg.Step("conv", k=7 * 7, kernel_size=14), fg.Step("pool", k=3 * 3, stride=2)
    block = fg.KNNAlexNetBlock(plan, 3, 128, *steps)
    print(f"the same as a block: {list(block(x, plan.build()).shape)}")


def an_alexnet() -> None:
    """A network is built on a pyramid, which holds every level and every edge."""
    steps = fg.KNNAlexNet.steps(
        strides=[4, 1, 1, 1, 1],
        k=[11**2, 5**2, 3**2, 3**3, 3**2],
        pool_after=[1, 4],
        kernel_multiplier=2,
    )
    pyramid = fg.GraphPyramid(fg.SensorArray.matched(64), steps)
    print(pyramid.summary())

    net = fg.KNNAlexNet(pyramid, channels=[96, 256, 384, 256, 256], num_classes=1000)
    print(f"AlexNet: {net.classifier}")
    print(f"logits: {list(net(torch.rand(2, len(pyramid.levels[0]), 3)).shape)}")


def a_fovinet() -> None:
    """With a retina and somewhere to look, a network takes images."""
    config = fg.load_config("fovi_alexnet", overrides=["fixation.count=4"])
    net = fg.FoviNet(config).eval()
    parameters = sum(parameter.numel() for parameter in net.parameters())
    print(f"{net.pyramid}\n{parameters:,} parameters")

    out = net(torch.rand(1, 3, 256, 256))
    print(f"pooled features {list(out.features.shape)}")
    print(f"embeddings {list(out.embeddings.shape)}")
    print(f"logits, over all fixations {list(out.logits.shape)}")

    field = net.pyramid.receptive_field("conv3", unit=0)
    print(f"the central unit of conv3 sees {len(field.nodes)} of the retina's samples")


if __name__ == "__main__":
    torch.manual_seed(0)
    one_layer()
    an_alexnet()
    a_fovinet()
