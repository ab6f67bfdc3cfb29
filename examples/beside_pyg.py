"""kNN convolution and graph attention in one network: fovigraph's layers are PyG's, and mix.

Run it: ``python examples/beside_pyg.py``.
"""

import torch
from torch_geometric.nn import GATv2Conv, Sequential

import fovigraph as fg

retina = fg.SensorArray.matched(32)
v1 = retina.strided(2)
to_v1 = fg.knn_graph(retina, v1, k=49)  # the retina's samples to V1's nodes
within_v1 = fg.knn_graph(v1, v1, k=9)  # every V1 node to its neighbours

net = Sequential(
    "x, to_v1, edge_index, edge_attr",
    [
        (fg.nn.KNNConv(3, 32, kernel_size=14), "x, to_v1 -> x"),
        (fg.nn.BatchNorm(32), "x -> x"),
        torch.nn.ReLU(inplace=True),
        # Attention between V1's nodes; it knows how far apart and in which direction they lie.
        (GATv2Conv(32, 16, heads=4, edge_dim=2), "x, edge_index, edge_attr -> x"),
        torch.nn.ReLU(inplace=True),
        (torch.nn.Linear(64, 10), "x -> x"),
    ],
)

# GATv2Conv takes one graph; a batch of images is one graph of disjoint copies, as always in PyG.
batch = 4
copies = torch.arange(batch).repeat_interleave(within_v1.num_edges)
edge_index = within_v1.edge_index.repeat(1, batch) + copies * len(v1)
edge_attr = within_v1.offset.repeat(batch, 1)

samples = torch.rand(batch, len(retina), 3)
conv, norm, relu, *attention = (net[index] for index in range(len(net)))
x = relu(norm(conv(samples, to_v1))).flatten(0, 1)  # [batch, nodes, C] → [batch · nodes, C]
print(f"V1 features of {batch} images: {list(x.shape)}")

one = net(samples[0], to_v1, within_v1.edge_index, within_v1.offset)
print(f"one image through the whole network: class scores at every V1 node, {list(one.shape)}")
