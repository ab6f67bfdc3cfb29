"""Configurations with anything in them load and stay the same, or are refused."""

import functools

import yaml
from hypothesis import given
from hypothesis import strategies as st
from strange import PLAIN
from trials import OUTCOMES, trials

import fovigraph as fg
from fovigraph.config import to_dict
from fovigraph.train import load_recipe, network_of

NAMES = ("digits", "fovi_tiny", "cifar10")
WORDS = st.sampled_from(
    ["${oc.env:HOME}", "${retina.side}", "${missing}", "${retina.side", "???", "${.side}", "~", "-"]
)
CONTENT = st.recursive(
    st.one_of(PLAIN, WORDS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)


@functools.cache
def keys():
    """Every key that a recipe has, dotted."""
    recipe = to_dict(load_recipe("digits"))
    return [f"{section}.{key}" for section in recipe for key in recipe[section]]


@trials("configurations")
@given(data=st.data())
def test_files_load_or_are_refused(data, tmp_path_factory):
    file = tmp_path_factory.mktemp("configurations") / "file.yaml"
    if data.draw(st.booleans(), label="any text"):
        text = data.draw(st.one_of(st.text(), st.text("{}[]:-&*!|>'\"\n a1,~${}", max_size=60)))
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
        overrides = []
    else:
        content = {"base": data.draw(st.sampled_from(NAMES))}
        for key in data.draw(st.lists(st.sampled_from(keys()), max_size=3)):
            section, name = key.split(".")
            content.setdefault(section, {})[name] = data.draw(CONTENT, label=key)
        file.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        overrides = data.draw(
            st.lists(st.builds("{}={}".format, st.sampled_from(keys()), st.text(max_size=5)))
        )
    try:
        recipe = load_recipe(file, overrides)
    except fg.ConfigError:
        OUTCOMES["configurations refused"] += 1
        return
    except FileNotFoundError as error:
        assert "train.start" in str(error)  # the network to start from is none
        OUTCOMES["configurations refused"] += 1
        return
    OUTCOMES["configurations read"] += 1
    fg.save_config(recipe, file)
    assert fg.load_config(file) == network_of(recipe)
