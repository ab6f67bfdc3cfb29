"""Attention: what it computes, its two paths, and what a graph leaves out."""

import math

import pytest
import torch

import fovigraph as fg
from fovigraph.nn import CyclicShift, GraphAttention, Rotary

PATCHES = fg.SensorArray.matched(6)
GRAPH = fg.knn_graph(PATCHES, PATCHES, 7)
ALONE = fg.knn_graph(PATCHES, PATCHES, 1)


def layer(**options):
    torch.manual_seed(0)
    made = GraphAttention(12, 3, **options).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return made


def tokens(before=2, batch=(2,)):
    torch.manual_seed(1)
    return torch.randn(*batch, before + len(PATCHES), 12, dtype=torch.float64)


def by_definition(attention, x, graph, positions):
    """Attention of one sample, token by token and head by head."""
    count, before = len(x), len(x) - len(PATCHES)
    q, k, v = (part.view(count, 3, 4) for part in attention.qkv(x).chunk(3, dim=-1))
    if positions is not None:
        q, k = (positions(part.transpose(0, 1)).transpose(0, 1) for part in (q, k))
    out = torch.zeros(count, 3, 4, dtype=x.dtype)
    for i in range(count):
        near = list(range(count))
        if graph is not None and i >= before:
            sources = graph.edge_index[0][graph.edge_index[1] == i - before]
            near = [*range(before), *(sources + before).tolist()]
        for head in range(3):
            fit = (k[near, head] @ q[i, head]) / math.sqrt(4)
            out[i, head] = fit.softmax(0) @ v[near, head]
    return attention.proj(out.flatten(1))


@pytest.mark.parametrize("graph", [None, GRAPH, ALONE], ids=["full", "near", "alone"])
@pytest.mark.parametrize("rotary", [False, True])
def test_paths_and_definition_agree(graph, rotary):
    attention = layer(bias=True)
    positions = Rotary(PATCHES, 4).double() if rotary else None
    results = []
    for fused in (True, False):
        x, attention.fused = tokens().requires_grad_(), fused
        out = attention(x, graph, positions)
        inputs = [x, *attention.parameters()]
        results.append((out, *torch.autograd.grad(out.sin().sum(), inputs)))
    for ours, definition in zip(*results, strict=True):
        torch.testing.assert_close(ours, definition, rtol=1e-10, atol=1e-10)
    for sample, out in zip(tokens(), results[0][0], strict=True):
        expected = by_definition(attention, sample, graph, positions)
        torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("batch", [(), (2, 3)])
@pytest.mark.parametrize("before", [0, 1])
def test_any_batch_and_any_tokens_before_the_nodes(batch, before):
    attention, x = layer(), tokens(before, batch)
    out = attention(x, GRAPH)
    assert out.shape == x.shape
    attention.fused = False
    torch.testing.assert_close(attention(x, GRAPH), out)


def test_nodes_without_edges_do_not_reach_one_another():
    x = tokens(before=0, batch=()).requires_grad_()
    gradient = torch.autograd.grad(layer()(x, GRAPH)[5].sum(), x)[0]
    reached = gradient.abs().sum(1).nonzero()[:, 0].tolist()
    assert reached == GRAPH.edge_index[0][GRAPH.edge_index[1] == 5].tolist()
    one_hop = tokens(before=1, batch=()).requires_grad_()
    gradient = torch.autograd.grad(layer()(one_hop, GRAPH)[0].sum(), one_hop)[0]
    assert gradient.abs().sum(1).all()


def test_dropout_leaves_weights_of_attention_out_in_training_only():
    attention = layer(dropout=0.5)
    x = tokens()
    for fused in (True, False):
        attention.fused = fused
        assert not attention.train()(x, GRAPH).equal(attention(x, GRAPH))
        assert attention.eval()(x, GRAPH).equal(attention(x, GRAPH))


def test_hooks_see_messages_and_it_compiles():
    attention, seen = layer(), []
    hook = attention.register_message_forward_hook(lambda *args: seen.append(args[-1].shape))
    out = attention(tokens(), GRAPH)
    hook.remove()
    edges = GRAPH.num_edges + 2 * len(PATCHES) * 2 + 4
    assert seen == [(2, 3, edges, 4)]
    torch.testing.assert_close(attention(tokens(), GRAPH), out)
    torch.compiler.reset()
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(tokens(), GRAPH), out)


def test_a_rotation_keeps_norms_and_depends_on_differences_alone():
    array = fg.SensorArray.matched(6, layout="uniform_disc")
    rotary = Rotary(array, 8, base=10.0).double()
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 8, dtype=torch.float64).expand(2, len(array), 8)
    torch.testing.assert_close(rotary(q).norm(dim=-1), q.norm(dim=-1))
    fit = rotary(q) @ rotary(k).T
    step = (array.cartesian[:, None] - array.cartesian[None]).mul(1e6).round()
    same = (step[0, 1] == step).all(-1)
    assert same.sum() > 5
    torch.testing.assert_close(fit[same], fit[0, 1].expand(int(same.sum())), rtol=1e-5, atol=1e-5)
    shifted = CyclicShift(array, 8).double()(q).norm(dim=-1)
    assert (shifted - q.norm(dim=-1)).abs().max() > 0.01


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GraphAttention(12, 5), r"heads must divide the 12 channels .* got 5"),
        (lambda: GraphAttention(12, 24), r"heads must divide the 12 channels .* got 24"),
        (lambda: layer()(tokens()[..., :5]), r"x must have shape \[\*, T, 12\], got"),
        (lambda: layer()(tokens()[..., :3, :], GRAPH), r"number of tokens must be at least"),
        (lambda: Rotary(PATCHES, 5), "head_channels must be even and at least 4"),
        (lambda: Rotary(PATCHES, 4, "cortical"), "at least 6 for positions on 3 axes, got 4"),
        (lambda: CyclicShift(PATCHES, 6), "head_channels must be a multiple of 4, got 6"),
        (lambda: Rotary(PATCHES, 8, "retinal"), "space must be one of 'cortical', 'visual'"),
    ],
)
def test_what_cannot_be_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_graph_between_two_arrays_is_refused():
    with pytest.raises(ValueError, match="graph must lead from an array to itself"):
        layer()(tokens(), fg.knn_graph(fg.SensorArray.matched(8), PATCHES, 3))
