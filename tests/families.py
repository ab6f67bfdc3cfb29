"""What the tests of every family of backbones ask for in the same way."""

import torch

import fovigraph as fg


def count(*modules, trainable=False):
    """Parameters of modules, or those of them that learn."""
    parameters = [p for module in modules for p in module.parameters()]
    return sum(p.numel() for p in parameters if p.requires_grad or not trainable)


def check_both_paths(backbone, x):
    """The fused and the unfused path give the same values and gradients, in double precision."""
    layers = [module for module in backbone.modules() if hasattr(module, "fused")]
    results = []
    for fused in (False, True):
        for layer in layers:
            layer.fused = fused
        out = backbone(x)
        wanted = [x, *backbone.parameters()]
        results.append((out, *torch.autograd.grad(out.square().sum(), wanted)))
    for definition, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, definition, rtol=1e-10, atol=1e-10)


def check_copies(net, images, folder):
    """An optimised network answers alike, a saved one bit for bit, and a pyramid comes back."""
    out = net(images)
    optimised = fg.optimize(net)
    torch.testing.assert_close(optimised(images).logits, out.logits, rtol=1e-4, atol=1e-5)
    net.save_pretrained(folder)
    assert fg.FoviNet.from_pretrained(folder)(images).logits.equal(out.logits)
    other = fg.GraphPyramid.from_hetero_data(net.pyramid.to_hetero_data())
    assert other.relations() == net.pyramid.relations()
    return optimised


def check_grey(folder, images, classes):
    """The network in a folder is made one for grey images."""
    grey = fg.create_model(folder, pretrained=True, in_channels=1)
    assert grey(images[:, :1]).logits.shape == (len(images), classes)


def check_cost(report, keys=("parameters", "flops")):
    """What the parts of a network cost adds up to the whole."""
    parts = [*report["levels"], report["projector"], report["head"]]
    for key in keys:
        assert sum(part[key] for part in parts) == report["total"][key] > 0


def check_compiles(backbone, x, backend="aot_eager"):
    """A backbone compiles in one piece, and exports."""
    torch.compiler.reset()
    compiled = torch.compile(backbone, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(x), backbone(x))
    torch.testing.assert_close(torch.export.export(backbone, (x,)).module()(x), backbone(x))


def check_shares_a_pyramid(backbone, config, x):
    """A second backbone on the same pyramid, with the same weights, gives the same."""
    twin = type(backbone)(backbone.pyramid, config)
    assert twin.pyramid is backbone.pyramid
    twin.load_state_dict(backbone.state_dict())
    assert twin.eval()(x).equal(backbone(x))
