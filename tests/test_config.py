"""Configurations: what is read, what is refused, and what the refusal says."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, replace
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

import fovigraph.config as config_module
from fovigraph.config import (
    AlexNetConfig,
    BackboneConfig,
    ConfigError,
    FixationConfig,
    FoviConfig,
    HeadConfig,
    ProjectorConfig,
    RetinaConfig,
    as_config,
    config_names,
    load_config,
    save_config,
    to_dict,
    to_yaml,
    update_config,
)
from fovigraph.models import FAMILIES, Backbone, Family

Write = Callable[[str, str], Path]


@dataclass(frozen=True)
class ToyConfig(BackboneConfig):
    name: str = "toy"
    depth: int = 3
    sizes: tuple[int, ...] = (1, 2)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a YAML file and returns its path."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers a second backbone."""
    monkeypatch.setitem(FAMILIES, "toy", Family(Backbone, ToyConfig))


def families() -> str:
    """The registered names, as errors list them."""
    return ", ".join(map(repr, sorted(FAMILIES)))


def message(read: Callable[[], object]) -> str:
    """What the ConfigError says, having checked that no OmegaConf traceback comes with it."""
    with pytest.raises(ConfigError) as caught:
        read()
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is read


def test_shipped_names() -> None:
    assert config_names() == sorted(config_names())
    assert {"fovi_alexnet", "fovi_tiny"} <= set(config_names())


@pytest.mark.parametrize("name", config_names())
def test_every_shipped_config_loads(name: str) -> None:
    assert type(load_config(name)) is FoviConfig


def test_fovi_alexnet_states_the_specification_in_full() -> None:
    config = load_config("fovi_alexnet")
    assert config == FoviConfig()
    path = Path(__file__).parent.parent / "configs" / "fovi_alexnet.yaml"
    stated = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert stated == to_dict(config)
    assert config.backbone.channels == [96, 256, 384, 384, 256]
    assert config.retina.side == 64
    assert config.head.num_classes == 1000


def test_fovi_tiny_inherits_what_it_does_not_state() -> None:
    tiny = load_config("fovi_tiny")
    assert tiny.retina.side == 32
    assert tiny.retina.fov == 16.0
    assert tiny.backbone.channels == [16, 32, 48, 48, 32]
    assert tiny.backbone.strides == [2, 1, 1, 1, 1]
    assert tiny.projector.channels == [64, 64]
    assert tiny.projector.dropout == 0.5
    assert tiny.head.num_classes == 10
    assert tiny.fixation.count == 4


def test_a_file_may_state_little(write: Write) -> None:
    config = load_config(write("mine.yaml", "retina: {side: 48}"))
    assert config.retina.side == 48
    assert config.head == as_config({}).head


def test_an_empty_file_is_the_defaults(write: Write) -> None:
    assert load_config(write("empty.yaml", "# nothing\n")) == as_config({})


def test_a_path_may_be_text_or_path(write: Write) -> None:
    path = write("mine.yaml", "head: {num_classes: 7}")
    assert load_config(path) == load_config(str(path))


def test_a_path_is_relative_to_the_working_directory(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write("mine.yaml", "head: {num_classes: 7}").parent)
    assert load_config("mine.yaml").head.num_classes == 7
    assert load_config("./mine.yaml").head.num_classes == 7


def test_a_path_object_is_never_a_name() -> None:
    assert "existing file" in message(lambda: load_config(Path("fovi_tiny")))


def test_the_result_is_read_only() -> None:
    config = load_config("fovi_tiny")
    with pytest.raises(FrozenInstanceError):
        config.retina.side = 3  # type: ignore[misc]


def test_whole_numbers_serve_where_a_number_is_wanted(write: Write) -> None:
    config = load_config(write("mine.yaml", "retina: {fov: 20}\nfixation: {area: [1, 1]}"))
    assert isinstance(config.retina.fov, float)
    assert all(isinstance(value, float) for value in config.fixation.area)


def test_exponents_without_a_point_are_numbers(write: Write) -> None:
    assert load_config(write("mine.yaml", "retina: {cmf_a: 5e-1}")).retina.cmf_a == 0.5


def test_interpolations_are_resolved(write: Write) -> None:
    text = "head: {dropout: '${projector.dropout}'}\nprojector: {dropout: 0.25}"
    config = load_config(write("mine.yaml", text))
    assert to_dict(config)["head"]["dropout"] == 0.25


def test_found_in_the_installed_package_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "installed.yaml").write_text("retina: {side: 8}")
    monkeypatch.setattr("fovigraph._shipped._HERE", tmp_path)
    assert config_names() == ["installed"]
    assert load_config("installed").retina.side == 8


# Overrides


def test_overrides_apply_in_order() -> None:
    config = load_config(
        "fovi_tiny",
        ["retina.side=16", "retina.fov=30", "retina.side=24", "fixation.center_first=true"],
    )
    assert (config.retina.side, config.retina.fov) == (24, 30.0)
    assert config.fixation.center_first is True


def test_override_values_are_yaml() -> None:
    overrides = [
        "backbone.channels=[1, 2]",
        "backbone.strides=[1,1]",
        "backbone.k=[9,9]",
        "backbone.pool_after=[]",
        "backbone.out_side=null",
        "retina.cmf_a = 1e-1",
        "retina.layout='logpolar'",
        "head={num_classes: 3}",
    ]
    config = load_config("fovi_alexnet", overrides)
    assert config.backbone.channels == [1, 2]
    assert config.backbone.pool_after == []
    assert config.backbone.out_side is None
    assert config.retina.cmf_a == 0.1
    assert config.retina.layout == "logpolar"
    assert config.head.num_classes == 3
    assert config.head.dropout == 0.5


def test_overrides_win_over_files(write: Write) -> None:
    path = write("mine.yaml", "base: fovi_tiny\nretina: {side: 48}")
    assert load_config(path, ["retina.side=16"]).retina.side == 16


@pytest.mark.parametrize(
    "override", ["retina.side", "", "=3", ".side=3", "retina.=3", "retina..side=3", "k[0]=3", 3]
)
def test_malformed_override(override: str) -> None:
    assert message(lambda: load_config("fovi_tiny", [override])) == (
        f"override {override!r}: must be of the form 'dotted.key=value'"
    )


def test_override_whose_value_is_not_yaml() -> None:
    said = message(lambda: load_config("fovi_tiny", ["backbone.k=[1, 2"]))
    assert said.startswith("override 'backbone.k=[1, 2': not valid YAML: ")


def test_overrides_given_as_one_string() -> None:
    said = message(lambda: load_config("fovi_tiny", "retina.side=3"))
    assert said.startswith("overrides must be a list")
    assert "'retina.side=3'" in said


def test_misspelt_override() -> None:
    said = message(lambda: load_config("fovi_tiny", ["retina.sid=3"]))
    assert said == ("override 'retina.sid=3': retina.sid is not a key (did you mean retina.side?)")


def test_override_of_the_wrong_type() -> None:
    said = message(lambda: load_config("fovi_tiny", ["retina.side=3.5"]))
    assert said == "override 'retina.side=3.5': retina.side must be a whole number, got 3.5"


def test_override_without_a_value() -> None:
    said = message(lambda: load_config("fovi_tiny", ["retina.side="]))
    assert said == "override 'retina.side=': retina.side must be a whole number, got None"


def test_base_is_not_an_override() -> None:
    assert "base is not a key" in message(lambda: load_config("fovi_tiny", ["base=fovi_alexnet"]))


def test_an_override_of_training_is_none_of_a_network(write: Write) -> None:
    path = write("mine.yaml", "base: digits\ntrain: {epochs: 2}")  # a file may be a recipe
    assert load_config(path).retina == load_config("digits").retina
    says = "train is a section of training recipes, not of networks"
    assert message(lambda: load_config(path, ["train.epochs=3"])).endswith(says)
    config = load_config(path)
    assert message(lambda: update_config(config, {"train.epochs": 3})).endswith(says)


# Inheritance


def test_base_by_name(write: Write) -> None:
    config = load_config(write("mine.yaml", "base: fovi_tiny\nhead: {num_classes: 3}"))
    assert config.head.num_classes == 3
    assert config.retina.side == 32


def test_base_by_path_relative_to_the_file_and_recursive(write: Write) -> None:
    write("common/low.yaml", "base: fovi_tiny\nretina: {side: 24, fov: 20}\nhead: {dropout: 0.1}")
    write("common/middle.yaml", "base: low.yaml\nretina: {side: 40}")
    config = load_config(write("mine/top.yaml", "base: ../common/middle.yaml\nhead: {dropout: 0}"))
    assert (config.retina.side, config.retina.fov) == (40, 20.0)
    assert (config.head.num_classes, config.head.dropout) == (10, 0.0)


def test_lists_are_replaced(write: Write) -> None:
    config = load_config(write("mine.yaml", "base: fovi_tiny\nprojector: {channels: [8]}"))
    assert config.projector.channels == [8]


def test_a_file_may_bear_the_name_of_the_shipped_one_it_is_based_on(write: Write) -> None:
    path = write("fovi_tiny.yaml", "base: fovi_tiny\nretina: {side: 16}")
    assert load_config(path).head.num_classes == 10


def test_base_cycle_names_the_chain(write: Write) -> None:
    c = write("c.yaml", "base: a.yaml")
    b = write("b.yaml", "base: c.yaml")
    a = write("a.yaml", "base: b.yaml")
    assert message(lambda: load_config(a)) == f"base makes a cycle: {a} → {b} → {c} → {a}"


def test_base_that_is_its_own_file(write: Write) -> None:
    path = write("a.yaml", "base: ./a.yaml")
    assert "base makes a cycle" in message(lambda: load_config(path))


def test_unknown_base(write: Write) -> None:
    path = write("mine.yaml", "base: fovi_tinny")
    said = message(lambda: load_config(path))
    assert said.startswith(f"{path}: base must be ")
    assert "did you mean 'fovi_tiny'?" in said


def test_missing_base(write: Write) -> None:
    path = write("mine.yaml", "base: other.yaml")
    assert message(lambda: load_config(path)) == (
        f"{path}: base must be an existing file, got {str(path.parent / 'other.yaml')!r}"
    )


def test_base_of_the_wrong_type(write: Write) -> None:
    path = write("mine.yaml", "base: [fovi_tiny]")
    said = message(lambda: load_config(path))
    assert said.startswith(f"{path}: base must be the name")
    assert "['fovi_tiny']" in said


def test_an_error_in_a_base_names_the_base(write: Write) -> None:
    base = write("low.yaml", "retina: {sid: 3}")
    path = write("mine.yaml", "base: low.yaml")
    assert message(lambda: load_config(path)).startswith(f"{base}: retina.sid is not a key")


# What cannot be read


def test_unknown_name_lists_the_known_and_the_nearest() -> None:
    said = message(lambda: load_config("fovi_alexnt"))
    assert all(repr(name) in said for name in config_names())
    assert "got 'fovi_alexnt'" in said
    assert "did you mean 'fovi_alexnet'?" in said


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert message(lambda: load_config(path)) == (
        f"name_or_path must be an existing file, got {str(path)!r}"
    )


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    assert "existing file" in message(lambda: load_config(tmp_path))


def test_a_mapping_is_not_a_path() -> None:
    said = message(lambda: load_config({"retina": {}}))  # type: ignore[arg-type]
    assert said.startswith("name_or_path must be the name of a configuration")


def test_yaml_error_names_file_and_line(write: Write) -> None:
    path = write("mine.yaml", "retina:\n  side: 3\n  fov: a: b\n")
    assert message(lambda: load_config(path)).startswith(f"{path}, line 3: not valid YAML: ")


def test_duplicate_key_is_a_yaml_error(write: Write) -> None:
    path = write("mine.yaml", "retina:\n  side: 3\n  side: 4\n")
    said = message(lambda: load_config(path))
    assert said.startswith(f"{path}, line 3: ")
    assert "duplicate key side" in said


@pytest.mark.parametrize("text", ["[1, 2]", "3", "retina", "null: 3", "2: 3", "retina: {1.5: 3}"])
def test_a_file_of_another_shape(write: Write, text: str) -> None:
    path = write("mine.yaml", text)
    assert message(lambda: load_config(path)).startswith(f"{path}: ")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    assert message(lambda: load_config(path)).startswith(f"{path}")


# What does not fit the schema


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("retina: {sid: 3}", "retina.sid", "(did you mean retina.side?)"),
        ("retna: {side: 3}", "retna", "(did you mean retina?)"),
        (
            "backbone: {pool_stide: 3}",
            "backbone.pool_stide",
            "(did you mean backbone.pool_stride?)",
        ),
        ("side: 3", "side", "(did you mean retina.side?)"),
        ("projector: {num_clases: 3}", "projector.num_clases", "(did you mean head.num_classes?)"),
        ("dropout: 1", "dropout", "(did you mean projector.dropout or head.dropout?)"),
        (
            "head: {xyzzy: 3}",
            "head.xyzzy",
            "; head has head.num_classes, head.class_names, head.multi_label, head.dropout, "
            "head.aggregation, head.aggregation_width, head.temperature, head.sharpening",
        ),
        ("qqqq: 1", "qqqq", "; a configuration has retina, fixation, backbone, projector, head"),
    ],
)
def test_misspelt_key(write: Write, text: str, key: str, nearest: str) -> None:
    path = write("mine.yaml", text)
    says = message(lambda: load_config(path))
    assert says.startswith(f"{path}: {key} is not a key")
    assert says.endswith(nearest)


@pytest.mark.parametrize(
    ("section", "text", "wanted", "given"),
    [
        ("retina", "side: 3.0", "a whole number", "3.0"),
        ("retina", "side: '3'", "a whole number", "'3'"),
        ("retina", "side: true", "a whole number", "True"),
        ("retina", "side: null", "a whole number", "None"),
        ("retina", "side: [3]", "a whole number", "[3]"),
        ("retina", "side: {a: 3}", "a whole number", "{'a': 3}"),
        ("retina", "fov: wide", "a number", "'wide'"),
        ("retina", "fov: false", "a number", "False"),
        ("retina", "layout: 3", "a string", "3"),
        ("retina", "layout: [a]", "a string", "['a']"),
        ("retina", "fixation_size: big", "a number or null", "'big'"),
        ("backbone", "out_side: 1.5", "a whole number or null", "1.5"),
        ("backbone", "name: 3", "a string", "3"),
        ("fixation", "center_first: 1", "true or false", "1"),
        ("fixation", "center_first: maybe", "true or false", "'maybe'"),
        ("backbone", "k: 9", "a list, each entry a whole number", "9"),
        ("backbone", "k: nine", "a list, each entry a whole number", "'nine'"),
        ("backbone", "k: [9, 9.5]", "a list, each entry a whole number", "[9, 9.5]"),
        ("backbone", "k: [[9]]", "a list, each entry a whole number", "[[9]]"),
        ("backbone", "k: {'0': 9}", "a list, each entry a whole number", "{'0': 9}"),
        ("fixation", "area: [1, x]", "a list, each entry a number", "[1, 'x']"),
    ],
)
def test_wrong_type(write: Write, section: str, text: str, wanted: str, given: str) -> None:
    path = write("mine.yaml", f"{section}:\n  {text}")
    if text == "name: 3":
        assert f"backbone.name must be one of {families()}, got 3" in message(
            lambda: load_config(path)
        )
        return
    key = f"{section}.{text.partition(':')[0]}"
    assert message(lambda: load_config(path)) == f"{path}: {key} must be {wanted}, got {given}"


@pytest.mark.parametrize("value", ["3", "[1]", "", "'${backbone}'"])
def test_a_section_is_a_mapping(write: Write, value: str) -> None:
    path = write("mine.yaml", f"retina: {value}")
    said = message(lambda: load_config(path))
    assert said.startswith(f"{path}: retina must be a section of 'key: value' pairs, got ")


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ("${retina.none}", "refers to retina.none, which does not exist"),
        ("${backbone.k[5]}", "refers to backbone.k[5], which does not exist"),
        ("${.....side}", "refers to side, which does not exist"),
        ("${retina.fov}", "must be a whole number, got 16.0"),
        ("${retina.side}", "refers to itself: retina.side → retina.side"),
        ("${head.num_classes}", "refers to head.num_classes, which must be given a value"),
        ("1${projector.channels}", "refers within text to projector.channels, which is no value"),
    ],
)
def test_reference_that_cannot_be_followed(write: Write, value: str, cause: str) -> None:
    path = write("mine.yaml", f"head:\n  num_classes: ???\nretina: {{side: '{value}'}}")
    assert message(lambda: load_config(path)) == f"{path}: retina.side {cause}"


def test_a_mandatory_value_must_be_given(write: Write) -> None:
    path = write("mine.yaml", "head:\n  num_classes: ???")
    assert message(lambda: load_config(path)) == (
        f"{path}: head.num_classes must be given a value, got '???'"
    )
    assert load_config(path, ["head.num_classes=3"]).head.num_classes == 3


# Structure


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("backbone.k=[9,9,9,9]", "backbone.k must have 5 entries like backbone.channels, got 4"),
        (
            "backbone.strides=[1]",
            "backbone.strides must have 5 entries like backbone.channels, got 1",
        ),
        ("backbone.channels=[]", "backbone.channels must have at least one entry, got []"),
        ("backbone.channels=[1,2,0,4,5]", "backbone.channels[2] must be at least 1, got 0"),
        ("backbone.strides=[1,1,1,1,-1]", "backbone.strides[4] must be at least 1, got -1"),
        ("backbone.k=[9,0,9,9,9]", "backbone.k[1] must be at least 1, got 0"),
        ("backbone.pool_after=[0,5]", "backbone.pool_after must name layers from 0 to 4, got 5"),
        ("backbone.pool_after=[-1]", "backbone.pool_after must name layers from 0 to 4, got -1"),
        ("backbone.pool_after=[1,1]", "backbone.pool_after must name each layer once, got [1, 1]"),
        ("backbone.kernel_multiplier=0", "backbone.kernel_multiplier must be finite and above 0"),
        ("backbone.pool_k=0", "backbone.pool_k must be at least 1, got 0"),
        ("backbone.pool_stride=0", "backbone.pool_stride must be at least 1, got 0"),
        ("backbone.out_side=0", "backbone.out_side must be at least 1, got 0"),
        ("retina.side=0", "retina.side must be at least 1, got 0"),
        ("retina.fov=-1", "retina.fov must be finite and above 0, got -1.0"),
        ("retina.fov=.nan", "retina.fov must be finite and above 0, got nan"),
        ("retina.cmf_a=0", "retina.cmf_a must be finite and above 0, got 0.0"),
        ("retina.fixation_size=0", "retina.fixation_size must be finite and above 0, got 0.0"),
        ("retina.color_decay=-2", "retina.color_decay must be finite and above 0, got -2.0"),
        ("fixation.count=0", "fixation.count must be at least 1, got 0"),
        (
            "fixation.area=[1]",
            "fixation.area must be two numbers above 0, the smaller first, got [1.0]",
        ),
        ("fixation.aspect=[2,1]", "fixation.aspect must be two numbers above 0, the smaller first"),
        ("fixation.area=[0,1]", "fixation.area must be two numbers above 0"),
        ("fixation.eval_area=0", "fixation.eval_area must be finite and above 0, got 0.0"),
        ("fixation.spread=1.5", "fixation.spread must be from 0 to 1, got 1.5"),
        ("projector.channels=[8,0]", "projector.channels[1] must be at least 1, got 0"),
        ("projector.dropout=2", "projector.dropout must be from 0 to 1, got 2.0"),
        ("head.num_classes=-1", "head.num_classes must be at least 0, got -1"),
        ("head.num_classes=9000000000", "head.num_classes must be at most 1048576, got 9000000000"),
        ("projector.channels=[9000000]", "projector.channels[0] must be at most 1048576"),
        ("backbone.channels=[9000000,2,3,4,5]", "backbone.channels[0] must be at most 1048576"),
        ("fixation.count=9000000000", "fixation.count must be at most 100000, got 9000000000"),
        ("head.dropout=-0.1", "head.dropout must be from 0 to 1, got -0.1"),
    ],
)
def test_structure(override: str, says: str) -> None:
    said = message(lambda: load_config("fovi_alexnet", [override]))
    assert f"override {override!r}: {says}" in said


def test_structure_is_checked_once_all_is_composed(write: Write) -> None:
    path = write("mine.yaml", "base: fovi_tiny\nbackbone: {channels: [8]}")
    assert "backbone.k must have 1 entries" in message(lambda: load_config(path))
    overrides = ["backbone.strides=[1]", "backbone.k=[9]", "backbone.pool_after=[0]"]
    assert load_config(path, overrides).backbone.k == [9]


def test_the_dataclasses_check_themselves() -> None:
    with pytest.raises(ValueError, match=r"backbone\.k must have 5 entries"):
        AlexNetConfig(k=[9])
    for make, says in (
        (lambda: RetinaConfig(side=1.5), "retina.side must be a whole number, got 1.5"),
        (lambda: RetinaConfig(layout=None), "retina.layout must be a string, got None"),
        (lambda: RetinaConfig(mean=3, std=3), "retina.mean must be a list, each entry a number"),
        (lambda: FixationConfig(area=["a", 1]), "fixation.area must be a list"),
        (lambda: FixationConfig(center_first=1), "fixation.center_first must be true or false"),
        (lambda: AlexNetConfig(channels=3), "backbone.channels must be a list"),
        (lambda: AlexNetConfig(pool_after=[None]), "backbone.pool_after must be a list"),
        (lambda: ProjectorConfig(channels="8"), "projector.channels must be a list"),
        (lambda: HeadConfig(num_classes=True), "head.num_classes must be a whole number"),
    ):
        with pytest.raises(TypeError, match=re.escape(says)):
            make()


# Backbones


def test_unknown_backbone(write: Write) -> None:
    path = write("mine.yaml", "backbone: {name: alexnt}")
    assert message(lambda: load_config(path)) == (
        f"{path}: backbone.name must be one of {families()}, got 'alexnt' (did you mean 'alexnet'?)"
    )


@pytest.mark.usefixtures("toy")
def test_another_backbone_starts_from_its_own_defaults(write: Write) -> None:
    path = write("mine.yaml", "base: fovi_tiny\nbackbone: {name: toy, depth: 5}")
    config = load_config(path)
    assert type(config.backbone) is ToyConfig
    assert config.backbone == ToyConfig(depth=5)
    assert config.backbone.sizes == (1, 2)
    assert config.retina.side == 32
    save_config(config, path)
    assert load_config(path) == config


@pytest.mark.usefixtures("toy")
def test_a_backbone_by_override_in_any_order() -> None:
    config = load_config("fovi_tiny", ["backbone.depth=7", "backbone.name=toy"])
    assert config.backbone.depth == 7
    said = message(lambda: load_config("fovi_tiny", ["backbone.k=[9]", "backbone.name=toy"]))
    assert "backbone.k is not a key" in said


@pytest.mark.usefixtures("toy")
def test_tuples_are_checked_as_lists_are() -> None:
    assert as_config({"backbone": {"name": "toy", "sizes": [3]}}).backbone == ToyConfig(sizes=(3,))
    said = message(lambda: as_config({"backbone": {"name": "toy", "sizes": ["a"]}}))
    assert said == ("config: backbone.sizes must be a list, each entry a whole number, got ['a']")


# Mappings


def test_a_mapping_is_completed_with_the_defaults() -> None:
    config = as_config({"retina": {"side": 48}})
    assert config.retina.side == 48
    assert config.head.num_classes == 1000
    with pytest.raises(FrozenInstanceError):
        config.retina.side = 3  # type: ignore[misc]


def test_a_config_is_itself() -> None:
    config = load_config("fovi_tiny")
    assert as_config(config) == config
    assert as_config(config) is not config
    assert as_config(to_dict(config)) == config
    assert as_config(OmegaConf.create(to_dict(config))) == config


@pytest.mark.usefixtures("toy")
def test_sections_may_be_dataclasses_or_configs() -> None:
    config = as_config({"retina": load_config("fovi_tiny").retina, "backbone": ToyConfig(depth=9)})
    assert config.retina.side == 32
    assert config.backbone.depth == 9


def test_part_of_a_larger_config() -> None:
    larger = OmegaConf.create({"classes": 5, "model": {"head": {"num_classes": "${classes}"}}})
    assert as_config(larger.model).head.num_classes == 5


def test_numpy_numbers_and_tuples_serve() -> None:
    numpy = pytest.importorskip("numpy")
    config = as_config(
        {
            "retina": {"side": numpy.int64(8), "fov": numpy.float32(20)},
            "fixation": {"area": (0.5, 1)},
        }
    )
    assert config.retina == RetinaConfig(side=8, fov=20.0)
    assert config.fixation.area == [0.5, 1.0]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"retina": {"sid": 3}}, "config: retina.sid is not a key (did you mean retina.side?)"),
        ({"retina": {"side": "3"}}, "config: retina.side must be a whole number, got '3'"),
        ({"backbone": {"k": [9]}}, "config: backbone.k must have 5 entries like backbone.channels"),
        ({"base": "fovi_tiny"}, "config: base is not a key"),
        ({3: 4}, "config: 3 is not a key"),
        ({"retina": {"layout": object}}, "config: retina.layout must be a string, got <class"),
        (OmegaConf.create({"retina": {"side": "${none}"}}), "config: retina.side refers to none"),
        (OmegaConf.create({"retina": {"side": "???"}}), "config: retina.side must be given"),
        ("fovi_tiny", "config must be a mapping"),
        (None, "config must be a mapping"),
        (FoviConfig, "config must be a mapping"),
        (OmegaConf.create([1]), "config must be a mapping"),
    ],
)
def test_a_mapping_is_refused_as_a_file_is(config: object, says: str) -> None:
    assert message(lambda: as_config(config)).startswith(says)  # type: ignore[arg-type]


@pytest.mark.parametrize(("old", "new"), [("true", "random"), ("false", "center")])
def test_a_file_of_an_earlier_release_loads(write: Write, old: str, new: str) -> None:
    path = write("config.yaml", f"fixation: {{random_in_eval: {old}, count: 2}}")
    assert load_config(path).fixation == FixationConfig(in_eval=new, count=2)
    override = f"fixation.random_in_eval={old}"
    assert load_config("fovi_tiny", [override]).fixation.in_eval == new


# Changing and exporting


def test_replacing_checks() -> None:
    config = load_config("fovi_tiny")
    other = replace(config, head=replace(config.head, num_classes=3))
    assert (other.head.num_classes, config.head.num_classes) == (3, 10)
    assert other.retina == config.retina
    with pytest.raises(TypeError, match=r"^head\.num_classes must be a whole number, got '3'$"):
        replace(config.head, num_classes="3")
    with pytest.raises(TypeError, match=r"^retina must be a section of 'key: value' pairs, got 3$"):
        replace(config, retina=3)


def test_a_section_is_not_another() -> None:
    with pytest.raises(TypeError, match="backbone must be a section"):
        FoviConfig(backbone=HeadConfig())  # type: ignore[arg-type]


def test_values_are_converted_where_that_changes_nothing() -> None:
    numpy = pytest.importorskip("numpy")
    section = RetinaConfig(side=numpy.int64(8), fov=20, mean=(0, 1, 1), std=[1, 1, 1])
    assert (type(section.side), type(section.fov)) == (int, float)
    assert section.mean == [0.0, 1.0, 1.0]
    assert section == as_config({"retina": to_dict(section)}).retina


def test_a_configuration_shares_no_list_with_what_it_was_made_of() -> None:
    channels = [8]
    section = ProjectorConfig(channels=channels)
    channels.append(9)
    assert section.channels == replace(section).channels == [8]
    assert replace(section).channels is not section.channels


def test_plain_values_are_nested_dictionaries_and_lists() -> None:
    content = to_dict(load_config("fovi_tiny"))
    assert list(content) == ["retina", "fixation", "backbone", "projector", "head"]
    assert content["backbone"]["channels"] == [16, 32, 48, 48, 32]
    assert content == yaml.safe_load(to_yaml(load_config("fovi_tiny")))


@pytest.mark.usefixtures("toy")
def test_tuples_are_exported_as_lists() -> None:
    assert to_dict(ToyConfig()) == {"name": "toy", "depth": 3, "sizes": [1, 2]}


def test_saved_files_keep_their_form(tmp_path: Path) -> None:
    path = Path(config_module.__file__).parent / "pretrained" / "fovi_cifar10" / "config.yaml"
    save_config(load_config(path), tmp_path / "saved.yaml")
    assert (tmp_path / "saved.yaml").read_text() == path.read_text()


def test_changes_are_a_mapping_from_keys_or_sections() -> None:
    strings = ["fixation.count=2", "retina.mean=[0,0,0]", "retina.std=[1,1,1]"]
    changes = {"fixation": {"count": 2}, "retina.mean": (0, 0, 0), "retina.std": [1, 1, 1]}
    assert update_config(load_config("fovi_tiny"), changes) == load_config("fovi_tiny", strings)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fixation.cout": 2}, "fixation.cout is not a key (did you mean fixation.count?)"),
        ({"fixation": {"count": "2"}}, "fixation.count must be a whole number, got '2'"),
        ({"count": 2}, "count is not a key (did you mean fixation.count?)"),
        ({3: 2}, "must be of a key like 'fixation.count'"),
        ({"": 2}, " is not a key"),
        ({"head": 3}, "head must be a section of 'key: value' pairs, got 3"),
        ({"head.num_classes": -1}, "head.num_classes must be at least"),
        ({"head.num_classes": 2.5}, "head.num_classes must be a whole number, got 2.5"),
    ],
)
def test_changes_are_refused_as_overrides_are(changes: dict[object, object], says: str) -> None:
    said = message(lambda: update_config(load_config("fovi_tiny"), changes))  # type: ignore[arg-type]
    assert "override " in said
    assert says in said


def test_changes_choose_another_backbone_first(toy: None) -> None:
    config = update_config(load_config("fovi_tiny"), {"backbone.depth": 7, "backbone.name": "toy"})
    assert config.backbone == ToyConfig(depth=7)


def test_what_is_changed_is_a_configuration() -> None:
    assert update_config(load_config("fovi_tiny"), {}) == load_config("fovi_tiny")
    with pytest.raises(TypeError, match="config must be a FoviConfig, got 'fovi_tiny'"):
        update_config("fovi_tiny", {})  # type: ignore[type-var]
    assert message(lambda: update_config(load_config("fovi_tiny"), ["head.num_classes=3"])) == (  # type: ignore[arg-type]
        "changes must be a mapping from keys to values, got ['head.num_classes=3']"
    )


# Saving


@pytest.mark.parametrize("name", config_names())
def test_round_trip(name: str, tmp_path: Path) -> None:
    config = load_config(name, ["retina.color_decay=1e-7", "retina.fixation_size=224.5"])
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config


@pytest.mark.parametrize("text", ["null", "1e3", "on", "a: b", "é\n", ""])
def test_round_trip_of_awkward_text(text: str, tmp_path: Path) -> None:
    config = as_config({"retina": {"layout": text}})
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config


def test_saving_validates_first(tmp_path: Path) -> None:
    path = tmp_path / "saved.yaml"
    assert "retina.sid" in message(lambda: save_config({"retina": {"sid": 3}}, path))
    assert not path.exists()


def test_a_saved_config_depends_on_nothing(tmp_path: Path) -> None:
    path = tmp_path / "saved.yaml"
    save_config({"retina": {"side": "${head.num_classes}"}, "head": {"num_classes": 7}}, path)
    assert yaml.safe_load(path.read_text())["retina"]["side"] == 7


def test_every_key_of_the_schema_is_documented() -> None:
    for section in vars(FoviConfig()).values():
        for name in (key.name for key in dataclasses.fields(section)):
            assert f"\n    {name}: " in (inspect.getdoc(type(section)) or "")
