"""Upstream's configurations as ours, and back."""

import logging
import math

import pytest
from omegaconf import OmegaConf
from recordings import changed

import fovigraph as fg
from fovigraph.config import as_config
from fovigraph.interop import read_config, write_config

# Every key of the configurations that come with upstream's 1.x, with values of a published AlexNet,
# and those that its 2.x (to 2.4) looks up besides.
ALL_KEYS = """
model: {arch: fovi_alexnet2023, arch_spec: base_lowres, arch_flag: '', mlp: 1024-1024, norm_mlp: 1,
  norm: force_batch, out_grid_size: 1, channel_mult: 1.0, k_mult: 1.0, dropout: 0.5, dropout_all: 1,
  dropout_probes: 0.0, ref_frame_mult: 2, final_grid_size: 6, in_channels: 3, output_mode: null,
  conv_layer_cls: default, stem_conv_stride: 2, stem_kernel_size: 7, stem_pool_stride: 2,
  vit: {patch_size: 8, num_layers: 12, mlp_ratio: 4.0, dropout: 0.2, pos_emb_type: rope,
    patch_overlap_factor: 1.5, force_patches_less_than_matched: false, aggregation: cls_token}}
saccades: {color_sigma: null, fixation_size: 256, fixation_size_min_frac: 1.0,
  fixation_size_max_frac: 1.0, fixation_size_frac_val: 1.0, resize_size: 64,
  auto_match_cart_resources: 1, ssl_policy: none, sup_policy: multi_random_nearcenter,
  nearcenter_dist: 0.25, mode: isotropic, sample_cortex: true, sampler: grid_nn, circular: 1,
  fov: 16.0, rescale_fov: 1, cmf_a: 0.5, fixation_noise: 0, fix_agg: mean, fix_temp: 1,
  fix_ior_width: 20, add_aspect_variation: 0, n_fixations: 4, n_fixations_val: [1, 20], branches: 1,
  nonrandom_first: 0, field_geometry: legacy, fov_type: circular, radius_norm: 2.0,
  isotropic_plotting_type: v1like, sampler_backend: auto, camera_model: null,
  gaze_convention: camera_xyz, fov_reference_side: long}
transforms: {where: pre_warp, flip: 1, color_jitter: 1, gray: 1, blur: 0, foveal_color: 0,
  normalize: true}
data: {train_dataset: '${oc.env:FOVI_DATASETS_DIR}/train.ffcv', val_dataset: '', num_classes: 1000,
  num_workers: null, in_memory: 1, subset: null}
vicreg: {sim_coeff: 25, std_coeff: 25, cov_coeff: 1}
simclr: {temperature: 0.5}
barlow: {lambd: 0.0051}
logging: {folder: '', log_level: 2, base_fn: null, wandb: {project: null}}
validation: {batch_size: 128, do_roc: 0, no_color: 0, repeats: 1, val_every: 1, no_fov_color_val: 0}
training: {loss: supervised, resolution: 256, amp_dtype: float16, load_cpu: 0, num_crops: 1}
dist: {world_size: 1, port: null}
pretrained_model: {name: null, lora: {layers: null}}
"""


@pytest.fixture
def published():
    return OmegaConf.to_container(OmegaConf.create(ALL_KEYS))


def test_a_published_alexnet_is_our_alexnet(published):
    ours = read_config(published)
    assert ours.backbone == fg.load_config("fovi_alexnet").backbone
    assert ours.projector == fg.load_config("fovi_alexnet").projector
    assert ours.head == fg.load_config("fovi_alexnet").head
    random = fg.load_config("fovi_alexnet", ["fixation.in_eval=random"])
    assert ours.fixation == random.fixation
    assert (ours.retina.side, ours.retina.fov, ours.retina.cmf_a) == (64, 16.0, 0.5)
    assert ours.retina.field_geometry == "legacy"
    assert ours.retina.sampling == "nearest"


@pytest.mark.parametrize("policy", ["multi_random", "multi_random_nearcenter", "none"])
def test_every_key_is_mapped_or_known_to_be_irrelevant(published, caplog, policy):
    with caplog.at_level(logging.DEBUG, "fovigraph.interop"):
        read_config(changed(published, saccades__sup_policy=policy))
    assert caplog.text == ""


def test_an_unknown_key_is_named_and_ignored_as_upstream_does(published, caplog):
    assert read_config(changed(published, saccades__wink=3)) == read_config(published)
    assert "unknown keys are ignored: saccades.wink" in caplog.text


def test_only_what_is_looked_up_is_resolved(published, monkeypatch):
    monkeypatch.delenv("FOVI_DATASETS_DIR", raising=False)
    content = changed(published, saccades__fixation_size="${training.resolution}")
    assert read_config(content) == read_config(published)


@pytest.mark.parametrize(
    ("changes", "section", "expected"),
    [
        ({"transforms__normalize": 0}, "retina", {"mean": None, "std": None}),
        ({"saccades__sampler": "grid_bilinear"}, "retina", {"sampling": "bilinear"}),
        ({"saccades__sampler": "pooling"}, "retina", {"sampling": "knn_mean"}),
        ({"saccades__color_sigma": 0.1}, "retina", {"darkening": 0.1, "color_decay": None}),
        ({"validation__no_color": 1}, "retina", {"grey_in_eval": True}),
        ({"saccades__field_geometry": "planar"}, "retina", {"field_geometry": "planar"}),
        (
            {"saccades__sup_policy": "none"},
            "retina",
            {"fixation_size": 256.0},
        ),
        (
            {"saccades__sup_policy": "none"},
            "fixation",
            {"policy": "center", "count": 1},
        ),
        ({"saccades__sup_policy": "multi_random"}, "fixation", {"policy": "random_crop"}),
        ({"saccades__nearcenter_dist": None}, "fixation", {"policy": "random_crop"}),
        (
            {"saccades__sup_policy": "multi_random_nearcenter_train"},
            "fixation",
            {"policy": "near_center", "in_eval": "center"},
        ),
        ({"saccades__nonrandom_first": 1}, "fixation", {"center_first": True}),
        ({"saccades__add_aspect_variation": 1}, "fixation", {"aspect": [0.75, 4 / 3]}),
        (
            {
                "saccades__fixation_size_min_frac": 0.2,
                "saccades__fixation_size_max_frac": 0.9,
                "saccades__fixation_size_frac_val": 0.5,
                "saccades__rescale_fov": 0,
            },
            "fixation",
            {"area": [0.2, 0.9], "eval_area": 0.5},
        ),
        ({"model__mlp": ""}, "projector", {"channels": []}),
        ({"model__mlp": None}, "projector", {"channels": []}),
        ({"model__norm_mlp": 0}, "projector", {"norm": "none"}),
        ({"model__norm": "batch"}, "projector", {"norm": "group"}),
        ({"model__dropout": None}, "head", {"dropout": 0.0}),
        ({"model__norm": "layer_all"}, "backbone", {"norm": "layer"}),
        ({"model__norm": "coord"}, "backbone", {"norm": "node"}),
        ({"model__out_grid_size": -1}, "backbone", {"out_side": None}),
        ({"saccades__sample_cortex": False}, "backbone", {"metric": "visual"}),
        ({"saccades__sample_cortex": "geodesic"}, "backbone", {"metric": "geodesic_from_node"}),
        (
            {"model__arch_spec": "base_4layer"},
            "backbone",
            {"channels": [96, 256, 384, 256], "strides": [4, 1, 1, 1], "pool_after": [0, 1]},
        ),
        (
            {"model__k_mult": 0.7, "model__channel_mult": 0.05},
            "backbone",
            {"k": [49, 9, 4, 4, 4], "channels": [4, 12, 19, 19, 12]},
        ),
        ({"model__arch": "saccadenet_alexnet2023_knn"}, "backbone", {"name": "alexnet"}),
        ({"model__ref_frame_mult": 1}, "backbone", {"kernel_multiplier": 1.0}),
        ({"model__ref_frame_mult": None}, "backbone", {"kernel_multiplier": 1.0}),
        (
            {"model__ref_frame_mult": None, "model__arch_flag": "doubleres"},
            "backbone",
            {"kernel_multiplier": 2.0},
        ),
    ],
)
def test_keys_are_mapped(published, changes, section, expected):
    ours = read_config(changed(published, **changes))
    for key, value in expected.items():
        assert getattr(getattr(ours, section), key) == value


@pytest.mark.parametrize("value", ["auto", -1])
def test_a_magnification_that_upstream_chooses_is_chosen_here(published, value):
    ours = read_config(changed(published, saccades__cmf_a=value))
    assert ours.retina.cmf_a == pytest.approx(0.7628046, abs=1e-7)
    # upstream scales the field of view then, whatever saccades.rescale_fov is
    keys = {"saccades__fixation_size_min_frac": 0.25, "saccades__fixation_size_max_frac": 0.25}
    ours = read_config(changed(published, saccades__cmf_a=value, saccades__rescale_fov=0, **keys))
    assert ours.retina.fov == 8


def test_the_older_key_is_the_diameter_of_the_fovea(published):
    content = changed(published, "saccades.cmf_a", saccades__fovea=1.5)
    assert read_config(content).retina.cmf_a == 0.75


@pytest.mark.parametrize(
    ("changes", "fov"),
    [
        ({"saccades__rescale_fov": 0, "saccades__fixation_size": 128}, 8.0),
        (
            {"saccades__fixation_size_min_frac": 0.25, "saccades__fixation_size_max_frac": 0.25},
            8.0,
        ),
    ],
)
def test_the_field_of_view_is_what_a_fixation_covers(published, changes, fov):
    assert read_config(changed(published, **changes)).retina.fov == pytest.approx(fov)


def test_kernels_without_a_multiplier_are_sized_by_what_is_left_of_k(published):
    content = changed(published, model__ref_frame_mult=None, saccades__resize_size=24)
    ours = read_config(content)
    assert list(ours.backbone.k) == [121, 25, 8, 8, 8]  # levels of 8 nodes
    doubled = changed(content, model__arch_flag="doubleres")
    assert list(read_config(doubled).backbone.k) == [121, 25, 8, 8, 8]
    assert [math.ceil(2 * math.sqrt(k)) for k in (121, 25, 8)] == [22, 10, 6]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__arch": "resnet18"}, "model.arch must be one of .* got 'resnet18'"),
        ({"model__arch_spec": "0"}, "model.arch_spec must be one of 'base'"),
        ({"model__arch_flag": "doubleres"}, "model.arch_flag must be '' with model.ref_frame_mult"),
        (
            {"model__arch_flag": "circref", "model__ref_frame_mult": None},
            "model.arch_flag must be '' or 'doubleres'",
        ),
        ({"model__conv_layer_cls": "dwsep"}, "model.conv_layer_cls must be 'default'"),
        ({"model__in_channels": 6}, "model.in_channels must be 3"),
        ({"model__mlp": "a-b"}, "model.mlp must be whole numbers"),
        ({"model__mlp": "16-16", "model__norm": "batch"}, "model.norm_mlp must be 0"),
        ({"model__norm": "rms"}, "model.norm must be one of 'batch'"),
        ({"model__channel_mult": "wide"}, "model.channel_mult must be a number"),
        ({"saccades__mode": "logpolar_as_grid"}, "saccades.mode must be one of 'isotropic', "),
        ({"saccades__auto_match_cart_resources": 0}, "saccades.auto_match_cart_resources must"),
        ({"saccades__auto_match_cart_resources": -1}, "saccades.auto_match_cart_resources must"),
        ({"saccades__field_geometry": "spherical"}, "saccades.field_geometry must be one of"),
        ({"saccades__field_geometry": "???"}, "saccades.field_geometry cannot be resolved"),
        ({"saccades__sampler": "gaussian_pooling"}, "saccades.sampler must be one of"),
        ({"saccades__color_sigma": "wide"}, "saccades.color_sigma must be a number"),
        ({"saccades__color_sigma": 0}, "retina.darkening must be"),
        (
            {"saccades__cmf_a": "auto", "saccades__fixation_size": 60},
            "saccades.cmf_a cannot be 'auto': view_size must be above 62 pixels",
        ),
        (
            {"saccades__cmf_a": "auto", "saccades__fixation_size_min_frac": 0.5},
            "saccades.rescale_fov must be 0 unless",
        ),
        ({"saccades__cmf_a": [0.1, 1.0]}, "saccades.cmf_a must be one number"),
        ({"saccades__cmf_a": "${training.a}"}, "saccades.cmf_a cannot be resolved"),
        ({"data__num_classes": 0}, "data.num_classes must be at least 1, got 0: for embeddings al"),
        ({"saccades__fix_agg": "lstm"}, "got 'lstm': upstream's cannot run"),
        ({"saccades__fix_agg": "grru"}, "got 'grru' .did you mean 'gru'"),
        ({"saccades__sup_policy": None}, "saccades.sup_policy must be one of"),
        ({"saccades__nearcenter_dist": -0.1}, "fixation.spread must be from 0 to 1"),
        ({"saccades__fixation_size_max_frac": 1.5}, "saccades.rescale_fov must be 0 unless"),
        ({"saccades__resize_size": 0}, "retina.side must be at least 1"),
        ({"saccades__resize_size": 63.5}, "saccades.resize_size must be a whole number"),
        ({"validation__no_color": 2}, "validation.no_color must be 0 or 1"),
        ({"transforms__normalize": 3}, "transforms.normalize must be 0 or 1"),
    ],
)
def test_what_cannot_be_loaded_is_named(published, changes, message):
    with pytest.raises(fg.ConfigError, match=f"^here: .*{message}"):
        read_config(changed(published, **changes), "here")


@pytest.mark.parametrize("key", ["model.arch", "saccades.fov", "data.num_classes", "model.mlp"])
def test_what_is_missing_is_named(published, key):
    with pytest.raises(fg.ConfigError, match=f"{key} is missing"):
        read_config(changed(published, key))


def test_the_magnification_may_be_missing_in_neither_form(published):
    with pytest.raises(fg.ConfigError, match=r"saccades.cmf_a is missing.*saccades\.fovea"):
        read_config(changed(published, "saccades.cmf_a"))


class TestBack:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"transforms__normalize": 0},
            {"saccades__sampler": "grid_bilinear", "saccades__field_geometry": "planar"},
            {"saccades__color_sigma": 0.5, "validation__no_color": 1},
            {"saccades__sup_policy": "none", "saccades__rescale_fov": 0},
            {"saccades__sup_policy": "multi_random_train", "saccades__add_aspect_variation": 1},
            {"saccades__nonrandom_first": 1, "saccades__fixation_size_frac_val": 0.3},
            {"model__k_mult": 0.7, "model__channel_mult": 0.05, "model__mlp": "16-12"},
            {"model__channel_mult": 0.01},
            {"model__norm": "group", "model__norm_mlp": 0},
            {"model__norm": "batch"},
            {"model__arch_spec": "4layer_nostride", "model__mlp": ""},
            {"model__arch_spec": "base_lowres_smallrf", "model__out_grid_size": 2},
            {"saccades__sample_cortex": False},
            {"saccades__fix_agg": "force_mean"},
            {"saccades__fix_agg": "gru"},
            {"saccades__fix_agg": "attn"},
            {"saccades__fix_agg": None},
            {"saccades__fixation_size_min_frac": 0.25, "saccades__fixation_size_max_frac": 0.25},
        ],
    )
    def test_it_describes_the_same_network(self, published, changes):
        ours = read_config(changed(published, **changes))
        theirs = write_config(ours)
        assert read_config(theirs) == ours

    def test_our_own_configuration_can_be_written(self):
        ours = fg.load_config("fovi_alexnet", ["fixation.in_eval=random"])
        theirs = write_config(ours)
        assert theirs["model"]["arch_spec"] == "base_lowres"
        assert theirs["saccades"]["field_geometry"] == "planar"
        assert read_config(theirs) == ours

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("retina.layout=logpolar", "retina.layout must be one of 'isotropic', "),
            ("retina.sampling=gaussian", "retina.sampling must be one of"),
            ("retina.color_decay=3", "retina.color_decay must be None"),
            ("retina.sampling=knn_mean retina.k=5", "retina.k must be None"),
            ("retina.fixation_size=99", "retina.fixation_size must be null"),
            ("fixation.policy=center", "retina.fixation_size must be a number"),
            ("fixation.aspect=[1,2]", "fixation.aspect must be"),
            ("head.dropout=0.1", "head.dropout must be 0.5"),
            ("head.aggregation=lstm", "head.aggregation must be one of .*upstream's cannot run"),
            ("head.aggregation=attention", "head.aggregation must be one of .*across the images"),
            (
                "head.aggregation=gru head.aggregation_width=64",
                "head.aggregation_width must be 128",
            ),
            ("projector.channels=[9]", "projector.last_relu must be true with one entry"),
            ("projector.last_relu=true", "projector.last_relu must be true with one entry"),
            ("projector.channels=[64,64] projector.norm=group", "projector.channels must be"),
            ("projector.norm=layer", "projector.norm must be one of"),
            ("backbone.norm=group", r"backbone.norm \(with projector.norm='batch'\) must be"),
            ("backbone.conv=depthwise", "backbone.conv must be 'full'"),
            ("backbone.pool=mean", "backbone.pool must be 'max'"),
            ("backbone.channels=[96,256,384,384,9]", "backbone.channels, .strides, .k"),
            ("backbone.k=[120,25,9,9,9]", "backbone.channels, .strides, .k"),
        ],
    )
    def test_what_upstream_does_not_have_is_named(self, override, message):
        ours = fg.load_config("fovi_alexnet", override.split())
        with pytest.raises(fg.ConfigError, match=message):
            write_config(ours)

    def test_normalisation_other_than_imagenets_is_refused(self):
        ours = as_config({"retina": {"mean": [0.5] * 3, "std": [0.5] * 3}})
        with pytest.raises(fg.ConfigError, match=r"retina\.mean must be \[0\.485"):
            write_config(ours)
