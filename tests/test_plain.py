"""Configurations of strangers: nothing is evaluated, and nothing but ConfigError escapes."""

from __future__ import annotations

import collections.abc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from fovigraph._plain import MOST_VALUES, References, as_plain, read_text, read_value, read_yaml
from fovigraph.config import ConfigError, as_config, load_config, save_config
from fovigraph.train import load_recipe

EVALUATED = [
    "${oc.env:SECRET}",
    "${ oc.env : SECRET }",
    "someone/${oc.env:SECRET}",
    "${oc.${retina.layout}:SECRET}",
    "${${retina.layout}:SECRET}",
    "${retina.${oc.env:SECRET}}",
    "${oc.decode:'${oc.env:SECRET}'}",
    "${spy:1}",
    "${spy:}",
    "${\n spy:1}",
    "$${spy:1}",
    r"\${oc.env:SECRET}",
    r"\\${oc.env:SECRET}",
    "${retina.side}${spy:1}",
]
"""What OmegaConf evaluates, or would evaluate once a backslash is gone."""

MADE_OF_PARTS = [
    {"layout": "${retina.sampling}{oc.env:SECRET}", "sampling": "$"},
    {"layout": "${retina.sampling}${retina.field_geometry}", "sampling": "$"},
    {"layout": "$${retina.sampling}", "sampling": "{oc.env:SECRET}"},
]


@pytest.fixture(autouse=True)
def spied(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The calls of a resolver that nobody may call, beside a secret in the environment."""
    calls: list[Any] = []
    monkeypatch.setenv("SECRET", "hunter2")
    OmegaConf.register_resolver("spy", lambda *args: calls.append(args) or "hunter2")
    yield calls
    OmegaConf.clear_resolver("spy")
    assert calls == []


def refused(read: Any, *args: Any) -> str:
    """What the ConfigError says: one line, not too long, and no secret."""
    with pytest.raises(ConfigError) as caught:
        read(*args)
    said = str(caught.value)
    assert "\n" not in said and len(said) < 1500 and "hunter2" not in said
    return said


@pytest.fixture
def file(tmp_path: Path) -> Any:
    """Writes a file, and returns its path."""

    def file(content: str | bytes) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return file


class TestNothingIsEvaluated:
    @pytest.mark.parametrize("text", EVALUATED)
    def test_in_a_file_an_override_or_a_mapping(self, file: Any, text: str) -> None:
        recipe = OmegaConf.to_yaml({"data": {"source": "x"}}).replace(" x", f" {quoted(text)}")
        assert "data.source may refer to other keys" in refused(load_recipe, file(recipe))
        section = {"retina": {"layout": text}}
        said = refused(load_config, file(f"retina: {{layout: {quoted(text)}}}"))
        assert "retina.layout may refer to other keys" in said
        refused(load_config, file(f"base: {quoted(text)}"))
        refused(load_config, "fovi_tiny", [f"retina.layout={quoted(text)}"])
        for given in (section, OmegaConf.create(section)):
            refused(as_config, given)
        for part in ({"layout": text}, OmegaConf.create({"layout": text})):
            refused(as_config, {"retina": part})
        refused(as_config, {"projector": {"channels": [text]}})
        refused(as_config, OmegaConf.create({"a": text, "b": {"retina": {"layout": "${a}"}}}).b)

    @pytest.mark.parametrize("section", MADE_OF_PARTS)
    def test_made_of_parts(self, section: dict[str, str], tmp_path: Path) -> None:
        # The second key refers to what the first would have become.
        parts = {"retina": {"field_geometry": "{spy:1}", **section}}
        chained = {**parts, "backbone": {"metric": "${retina.layout}"}}
        assert "once references are filled in" in refused(as_config, chained)
        refused(save_config, chained, tmp_path / "saved.yaml")
        assert not (tmp_path / "saved.yaml").exists()

    def test_in_what_is_left_of_a_resolved_configuration(self) -> None:
        config = as_config({"retina": {"layout": "$", "sampling": "a{oc.env:SECRET}"}})
        assert (config.retina.layout, config.retina.sampling) == ("$", "a{oc.env:SECRET}")


def quoted(text: str) -> str:
    """A string in YAML."""
    return '"' + text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"') + '"'


class TestReferences:
    def test_are_followed_wherever_they_lead(self) -> None:
        content = {
            "a": {"b": "${c}", "list": [1, "${.0}", "${..b}"], "text": "<${a.b}, ${d}>"},
            "c": 3,
            "d": None,
            "e": "${a.list}",
            "f": "${a}",
            "g": "${f.list[1]}",
        }
        a = {"b": 3, "list": [1, 1, 3], "text": "<3, None>"}
        followed = {"a": a, "c": 3, "d": None, "e": [1, 1, 3], "f": a, "g": 1}
        assert References(as_plain(content, "here")).within() == followed

    @pytest.mark.parametrize(
        "content",
        [
            {"a": "${a}"},
            {"a": "${b}", "b": "x${c}", "c": "${a}"},
            {"a": ["${a}"]},
            {"a": {"b": "${a}"}},
            {f"k{i}": f"${{k{i + 1}}}" for i in range(100)},
            {f"k{i}": f"${{k{i + 1}}}${{k{i + 1}}}" for i in range(20)} | {"k20": "x" * 100},
            {f"k{i}": [f"${{k{i + 1}}}"] * 9 for i in range(9)} | {"k9": 1},
        ],
    )
    def test_that_never_end_or_grow_without_end(self, content: dict[str, Any]) -> None:
        refused(References(as_plain(content, "here")).within)


class TestFiles:
    @pytest.mark.parametrize(
        "content",
        [
            "retina: {side: " + "9" * 5000 + "}",
            "retina: {side: 0x" + "f" * 5000 + "}",
            "retina: {side: 9223372036854775808}",
            "retina: {side: 1" + ":59" * 500 + "}",
            "? 0x" + "f" * 5000 + "\n: 1",
            "k" * 1000 + ": 1",
            "base: ~nobody-of-this-name/x.yaml",
            "base: " + "x" * 5000,
            "base: " + "x" * 5000 + ".yaml",
            'base: "a\\0b.yaml"',
            "base: .",
            "base: /dev/zero",
            "base: pipe.yaml",
            "retina: \0",
            "retina: " + "[" * 100_000,
            "{a: " * 3000 + "1" + "}" * 3000,
            "".join(" " * i + "a:\n" for i in range(900)),
            "a: &a [*a]",
            "a: &a {<<: *a}",
            "a0: &a0 [1, 1]\n"
            + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(30)),
            "retina: {side: !!int x}",
            "retina: {fov: !!bool x}",
            "retina: {fov: !!timestamp x}",
            "retina: !!set {a}",
            "retina: !!python/object/apply:os.getcwd []",
            "retina: {layout: !!binary aGk=}",
            "{[1]: 2}",
            "a: 1\n---\nb: 2",
            "retina: {layout: '" + "${" * 3000 + "'}",
            "retina: {layout: '${" + "a." * 3000 + "a}'}",
            "backbone: {name: [alexnet]}",
            "backbone: {k: [" + "9, " * MOST_VALUES + "9]}",
            "# " + "x" * 1_000_001,
            "3",
            "[]",
            b"\xff\xfe\x00",
            "retina: {side: 3}".encode("utf-16"),
        ],
        ids=lambda content: repr(content[:24]),
    )
    def test_that_are_wrong(self, file: Any, content: str | bytes) -> None:
        path = file(content)
        os.mkfifo(path.parent / "pipe.yaml")
        refused(load_config, path)

    def test_a_long_chain_of_bases(self, tmp_path: Path) -> None:
        for i in range(100):
            (tmp_path / f"{i}.yaml").write_text(f"base: {i + 1}.yaml")
        (tmp_path / "100.yaml").write_text("")
        assert "at most 20 files" in refused(load_config, tmp_path / "0.yaml")

    def test_only_regular_ones_are_opened(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.yaml")
        for path in (tmp_path / "pipe.yaml", Path("/dev/null"), tmp_path):
            refused(read_text, path)
            refused(load_config, path)

    def test_names_that_no_file_can_have(self) -> None:
        class Bytes:
            def __fspath__(self) -> bytes:
                return b"fovi_tiny"

        for name in ("", "\0", "a/\0.yaml", "x" * 5000 + ".yaml", "~nobody/x.yaml", "\ud800.yaml"):
            refused(load_config, name)
        for thing in (None, True, 3, 1.5, b"fovi_tiny", Bytes(), [], object()):
            assert refused(load_config, thing).startswith("name_or_path must be the name")

    def test_aliases_merged_keys_and_marks_of_encodings_are_read(self, file: Any) -> None:
        text = (
            "\ufeffprojector: &p {channels: &c [8]}\nbackbone: {channels: *c, k: [9], strides: [1],"
        )
        path = file(text + " pool_after: []}\nhead: {<<: {dropout: 0.25}}")
        config = load_config(path)
        assert (config.backbone.channels, config.head.dropout) == ([8], 0.25)


class TestOverrides:
    @pytest.mark.parametrize(
        "overrides", [None, True, 3, {"retina.side": 3}, {"retina.side=3"}, "x", b"x", iter([])]
    )
    def test_are_a_list(self, overrides: Any) -> None:
        assert refused(load_config, "fovi_tiny", overrides).startswith("overrides must be a list")

    @pytest.mark.parametrize(
        "override",
        [
            None,
            b"retina.side=3",
            "retina.side=" + "9" * 5000,
            "retina.side=0x" + "f" * 5000,
            "retina.side=" + "[" * 10_000,
            "retina.side=\0",
            "retina.side=\ud800",
            "a." * 2000 + "a=1",
            "retina.layout=" + "[" + "x, " * MOST_VALUES + "x]",
        ],
        ids=lambda override: repr(override)[:24],
    )
    def test_that_are_wrong(self, override: Any) -> None:
        assert refused(load_config, "fovi_tiny", [override]).startswith("override ")

    def test_schema(self) -> None:
        for schema in (3, int, "FoviConfig"):
            with pytest.raises(ConfigError, match="schema must be FoviConfig"):
                load_config("fovi_tiny", schema=schema)  # type: ignore[arg-type]


class TestMappings:
    def test_that_are_endless_or_of_anything(self) -> None:
        class Odd:
            def __repr__(self) -> str:
                raise RuntimeError

        class Endless(collections.abc.Sequence):  # type: ignore[type-arg]
            def __len__(self) -> int:
                return 10**12

            def __getitem__(self, index: Any) -> int:
                return 1

        itself: dict[str, Any] = {}
        itself["retina"] = itself
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        for content in (
            itself,
            {"retina": deep},
            {"retina": Odd()},
            {"retina": {"side": Odd()}},
            {"retina": {"mean": Endless()}},
            {"retina": range(10**12)},
            {"retina": {"side": 10**5000}},
            {"retina": {"fov": 10**5000}},
            {10**5000: 1},
            {"retina": {("a", 1): 1}},
            {"backbone": {"name": {}}},
        ):
            refused(as_config, content)

    def test_arrays_are_no_values(self) -> None:
        numpy = pytest.importorskip("numpy")
        for content in (
            {"retina": {"side": numpy.arange(2)}},
            {"backbone": {"name": numpy.array(["a", "b"])}},
            {"backbone": {"k": numpy.ones((3, 3))}},
        ):
            assert "got a numpy.ndarray of shape" in refused(as_config, content)


def test_a_path_to_save_to_is_a_path(tmp_path: Path) -> None:
    for path in (None, 3, b"x", ["x"]):
        with pytest.raises(TypeError, match="path must be a path"):
            save_config({}, path)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="path must be a path"):
        save_config({}, "a\0")


def test_what_yaml_says_is_not_looked_into() -> None:
    assert read_yaml("a: ${spy:1}", "here") == {"a": "${spy:1}"}
    assert read_value("${oc.env:SECRET}", "here") == "${oc.env:SECRET}"
    assert as_plain({"a": "${oc.env:SECRET}"}, "here", check=False) == {"a": "${oc.env:SECRET}"}
