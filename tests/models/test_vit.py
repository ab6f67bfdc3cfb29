"""Vision transformers: figures that must come out, and what they compute."""

import math

import pytest
import torch
from torch.nn import functional

import fovigraph as fg
from fovigraph.models import KNNViT
from fovigraph.models.vit import ViTConfig

SMALL = {"channels": 16, "heads": 2, "depth": 2, "patch_size": 4.0, "dropout": 0.0}
RETINA = fg.SensorArray.matched(24)


def count(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


# ---- figures


@pytest.mark.parametrize(
    ("name", "total", "parts"),
    [
        ("fovi_vit_tiny", 7_672_680, (5_399_424, 69_696, 5_329_152, 384, 1_248_256, 1_025_000)),
        (
            "fovi_vit_small",
            23_885_544,
            (21_415_680, 139_392, 21_275_136, 768, 1_444_864, 1_025_000),
        ),
    ],
)
def test_parameters_in_total_and_by_part(name, total, parts):
    with torch.device("meta"):
        net = fg.create_model(name)
    embedding, *blocks, readout = net.backbone.layers
    found = (net.backbone, embedding.conv, *([blocks]), readout, net.projector, net.head)
    assert count(net) == total
    assert tuple(count(*(x if isinstance(x, list) else [x])) for x in found) == parts
    assert [len(level) for level in net.pyramid.levels] == [4085, 83, 1]
    (graph, _), (size, _) = net.pyramid.graphs, net.pyramid.kernel_sizes
    assert (graph.k, size**2, graph.num_edges) == (111, 121, 8395)
    assert net.backbone.num_features == net.backbone.out_channels


def test_covering_takes_the_fewest_neighbours_that_leave_no_sample_out():
    patches = RETINA.with_side(6, at_least=True)
    for metric in ("cortical", "visual"):
        k = fg.graph.covering_k(RETINA, patches, metric)
        reached = [
            len(fg.knn_graph(RETINA, patches, each, metric).edge_index[0].unique())
            for each in (k - 1, k)
        ]
        assert reached[0] < reached[1] == len(RETINA)
    with pytest.raises(ValueError, match="metric must be one of 'cortical', 'visual'"):
        fg.graph.covering_k(RETINA, patches, "geodesic")


@pytest.mark.parametrize("side", [1, 2, 7, 8, 64])
@pytest.mark.parametrize("layout", ["isotropic", "logpolar_cylinder", "uniform_disc"])
def test_arrays_of_at_least_so_many_nodes_are_the_smallest(side, layout):
    array = fg.SensorArray.matched(side, layout=layout, at_least=True)
    assert len(array) >= side**2
    if array.resolution > 1:
        assert len(array.with_resolution(array.resolution - 1)) < side**2


# ---- what it computes


def make(**options):
    torch.manual_seed(0)
    net = KNNViT(RETINA, ViTConfig(**SMALL | options)).eval()
    for parameter in net.parameters():
        parameter.data.normal_(std=0.3)
    return net.double()


@pytest.mark.parametrize("attention_k", [None, 5])
@pytest.mark.parametrize("positions", ["rotary", "rotary_shift", "absolute", "learned", "none"])
def test_fused_and_unfused_agree(attention_k, positions):
    net = make(attention_k=attention_k, positions=positions, register_tokens=2)
    x = torch.rand(2, len(RETINA), 3, dtype=torch.float64, requires_grad=True)
    results = []
    for fused in (True, False):
        for module in net.modules():
            if hasattr(module, "fused"):
                module.fused = fused
        out = net(x)
        results.append((out, *torch.autograd.grad(out.square().sum(), [x, *net.parameters()])))
    for fast, definition in zip(*results, strict=True):
        torch.testing.assert_close(fast, definition, rtol=1e-10, atol=1e-10)


def test_a_block_is_its_definition():
    """Attention written out by heads and tokens, of neighbours and the class token alone."""
    net = make(attention_k=5, positions="none")
    block, pyramid = net.layers[1], net.pyramid
    nodes = len(pyramid.levels[1])
    near = pyramid.between(1, 1, 5).edge_index
    tokens = torch.randn(nodes + 1, 16, dtype=torch.float64)
    y = block.norm1(tokens)
    query, key, value = (y @ block.attention.qkv.weight.T).split(16, dim=1)
    out = torch.zeros_like(tokens)
    for i in range(nodes + 1):
        others = list(range(nodes + 1))
        if i:
            others = [0, *(1 + near[0][near[1] == i - 1]).tolist()]
            assert i in others
        for head in (slice(0, 8), slice(8, 16)):
            score = query[i, head] @ key[others, head].T / math.sqrt(8)
            out[i, head] = score.softmax(0) @ value[others, head]
    x = tokens + out @ block.attention.project.weight.T
    expand, reduce = block.mlp[0], block.mlp[3]
    x = x + reduce(functional.gelu(expand(block.norm2(x))))
    torch.testing.assert_close(block(tokens, pyramid), x, rtol=1e-10, atol=1e-10)


def test_what_a_patch_is_not_near_does_not_change_it():
    net = make(attention_k=5, class_token=False, aggregation="tokens", depth=1)
    x = torch.rand(1, len(RETINA), 3, dtype=torch.float64)
    patches = net.layers[0](x, net.pyramid)
    far = net.pyramid.between(1, 1, 5).edge_index
    neighbours = set(far[0][far[1] == 0].tolist())
    changed = patches.clone()
    others = [i for i in range(patches.shape[1]) if i not in neighbours]
    changed[:, others] += 1
    block = net.layers[1]
    assert block(changed, net.pyramid)[:, 0].equal(block(patches, net.pyramid)[:, 0])
    assert not block(changed, net.pyramid)[:, others].equal(block(patches, net.pyramid)[:, others])


def test_rotary_positions_turn_and_products_depend_on_the_way_between():
    places = fg.SensorArray.matched(8)
    rotary = fg.nn.RotaryPositions(places, 8).double()
    query, key = torch.randn(2, 8, dtype=torch.float64)
    at = [rotary(each.expand(len(places), 1, 8))[:, 0] for each in (query, key)]
    torch.testing.assert_close(
        at[0].norm(dim=1), query.norm().expand(len(places)), rtol=1e-6, atol=0
    )
    unit = places.cartesian - places.cartesian.amin(0)
    unit = unit / unit.amax(0)
    way = (unit[:, None] - unit[None]).permute(2, 0, 1)  # along x and y
    pairs = [torch.view_as_complex(each.view(2, 2, 2)) for each in (query, key)]
    expected = torch.zeros(len(places), len(places), dtype=torch.float64)
    for axis in range(2):
        for pair in range(2):
            turn = torch.exp(2j * math.pi * way[axis] * 100 ** (-4 * pair / 8))
            expected += (pairs[0][axis, pair] * pairs[1][axis, pair].conj() * turn).real
    torch.testing.assert_close(at[0] @ at[1].T, expected, rtol=1e-5, atol=1e-5)


def test_the_packages_rotary_positions_are_its_formula():
    places = fg.SensorArray.matched(8)
    shift = fg.nn.RotaryPositions(places, 8, shift=True)
    x = torch.randn(len(places) + 1, 2, 8)
    unit = places.cartesian - places.cartesian.amin(0)
    unit = (unit / unit.amax(0)).float()
    out = shift(x)
    assert out[0].equal(x[0])  # a token without a place
    for axis in range(2):
        for c in range(4):
            angle = unit[:, axis, None] * 10_000 ** (-4 * (c // 2) / 8)
            half = x[1:, :, 4 * axis : 4 * axis + 4]
            expected = half[..., c] * angle.cos() + half[..., (c - 1) % 4] * angle.sin()
            torch.testing.assert_close(out[1:, :, 4 * axis + c], expected)


def test_absolute_positions_are_their_formula():
    places = fg.SensorArray.matched(8)
    wave = fg.nn.SinePositions(places, 6)(torch.zeros(len(places), 6))
    unit = places.cartesian - places.cartesian.amin(0)
    unit = unit / unit.amax(0)
    for i in range(3):
        rate = 10_000 ** (-2 * i / 6)
        torch.testing.assert_close(wave[:, 2 * i].double(), (unit[:, 0] * rate).sin())
        torch.testing.assert_close(wave[:, 2 * i + 1].double(), (unit[:, 1] * rate).cos())


@pytest.mark.parametrize("aggregation", ["class_token", "mean", "tokens"])
def test_what_is_read_out(aggregation):
    net = make(aggregation=aggregation)
    x = torch.rand(2, len(RETINA), 3, dtype=torch.float64)
    tokens = x
    for block in net.layers[:-1]:
        tokens = block(tokens, net.pyramid)
    tokens = net.layers[-1].norm(tokens)
    expected = {"class_token": tokens[:, :1], "mean": tokens.mean(1, keepdim=True)}
    assert net(x).equal(expected.get(aggregation, tokens))
    assert net(x).flatten(1).shape[1] == net.num_features
    seen = net.intermediates(x)
    nodes = len(net.pyramid.levels[1])
    assert seen["layers.1"].features.shape == (2, nodes, 16)
    assert seen["layers.1"].level == 1
    assert set(net.features_by_level(x)) == ({0, 1} if aggregation == "tokens" else {0, 1, 2})


@pytest.fixture(scope="module", params=[None, 5], ids=["all", "near"])
def small(request):
    config = {
        "retina": {"side": 24},
        "backbone": {"name": "vit", **SMALL, "attention_k": request.param},
        "projector": {"channels": []},
        "head": {"num_classes": 3},
        "fixation": {"count": 2},
    }
    torch.manual_seed(0)
    return fg.FoviNet(config).eval()


def test_it_can_do_what_others_can(small, tmp_path):
    images = torch.rand(2, 3, 40, 50)
    out = small(images)
    assert out.logits.shape == (2, 3)
    torch.testing.assert_close(fg.optimize(small)(images).logits, out.logits)
    small.save_pretrained(tmp_path)
    assert fg.FoviNet.from_pretrained(tmp_path)(images).logits.equal(out.logits)
    grey = fg.create_model(tmp_path, pretrained=True, in_channels=1)
    assert grey(images[:, :1]).logits.shape == (2, 3)
    report = fg.models.cost.describe(small)
    parts = [*report["levels"], report["projector"], report["head"]]
    for key in ("parameters", "flops"):
        assert sum(part[key] for part in parts) == report["total"][key] > 0
    seen = small.features(images, layers=["layers.1"])["layers.1"]
    assert seen.features.shape[:2] == (2, 2)
    other = fg.GraphPyramid.from_hetero_data(small.pyramid.to_hetero_data())
    assert other.relations() == small.pyramid.relations()
    assert other.levels == small.pyramid.levels


def test_effective_fields_go_through_attention(small):
    viz = pytest.importorskip("fovigraph.viz.fields")
    fields = viz.effective_fields(small.backbone, "conv1", [0, 3])
    assert fields.shape == (2, len(small.retina.array))
    reached = (fields > 0).sum(1)
    k = small.pyramid.graphs[0].k
    assert (reached > k).all()  # further than the patch itself


def test_it_compiles_exports_and_learns(small):
    net = small.backbone
    x = torch.rand(2, len(small.retina.array), 3)
    torch.compiler.reset()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), net(x))
    torch.testing.assert_close(torch.export.export(net, (x,)).module()(x), net(x))
    learner = fg.FoviNet(small.config).train()
    learner(torch.rand(4, 3, 40, 50)).logits.square().sum().backward()
    for name, parameter in learner.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all()


def test_from_the_meta_device_positions_come_back():
    with torch.device("meta"):
        net = KNNViT(RETINA, ViTConfig(**SMALL))
    net.to_empty(device="cpu")
    twin = KNNViT(RETINA, ViTConfig(**SMALL)).eval()
    net.load_state_dict(twin.state_dict())
    x = torch.rand(1, len(RETINA), 3)
    assert net.eval()(x).equal(twin(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 5}, "backbone.heads must divide backbone.channels=192, got 5"),
        ({"heads": 32}, "backbone.channels must be a multiple of 4 · backbone.heads=32"),
        ({"patch_size": 0.5}, "backbone.patch_size must be"),
        ({"patch_size": 65.0}, "backbone.patch_size must be at most the retina's side of 64"),
        ({"patches": "square"}, "backbone.patches must be one of"),
        ({"positions": "rope"}, "backbone.positions must be one of"),
        ({"aggregation": "sum"}, "backbone.aggregation must be one of"),
        ({"class_token": False}, "backbone.aggregation must be 'mean' or 'tokens' without"),
        ({"attention_k": 0}, "backbone.attention_k must be at least 1, got 0"),
        ({"register_tokens": -1}, "backbone.register_tokens must be at least 0, got -1"),
        ({"dropout": 1.5}, "backbone.dropout"),
        ({"positions": "absolute", "channels": 9}, "backbone.channels must be even"),
        ({"patches": "covering", "metric": "geodesic"}, "backbone.metric must be 'cortical' or"),
    ],
)
def test_what_is_no_configuration_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fg.FoviNet({"backbone": {"name": "vit", **options}})


def test_tokens_that_do_not_fit_are_refused():
    attention = fg.nn.NodeAttention(8, heads=2)
    near = fg.knn_graph(RETINA, RETINA, 4)
    with pytest.raises(ValueError, match=r"x must be \[\.\.\., tokens, 8 channels\]"):
        attention(torch.rand(2, 5, 7))
    with pytest.raises(ValueError, match="graph must join 5 nodes"):
        attention(torch.rand(2, 5, 8), near)
    with pytest.raises(TypeError, match="graph must be a KNNGraph"):
        attention(torch.rand(2, 5, 8), near.edge_index)
    with pytest.raises(ValueError, match="heads must divide channels=8, got 3"):
        fg.nn.NodeAttention(8, heads=3)
    with pytest.raises(ValueError, match="head_channels must be a multiple of 4, got 6"):
        fg.nn.RotaryPositions(RETINA, 6)
    with pytest.raises(ValueError, match="retina must be matched to a side"):
        KNNViT(fg.SensorArray(12), ViTConfig(**SMALL))
