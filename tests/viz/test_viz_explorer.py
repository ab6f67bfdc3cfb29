"""The explorer's page: what is in it, and how it behaves in a browser."""

import base64
import json
import re
import shutil

import numpy as np
import pytest
import torch

import fovigraph as fg
from fovigraph.viz import explorer_html, telling_unit

LOOKS = [[0.5, 0.5], [0.25, 0.75]]


@pytest.fixture(scope="module")
def photo():
    return torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8)


@pytest.fixture(scope="module")
def page(pyramid, photo):
    return explorer_html(pyramid, image=photo, fixations=LOOKS, title="Fields & <more>")


def data(page):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    return json.loads(text)


def unpack(text, dtype):
    return np.frombuffer(base64.b64decode(text), dtype)


def test_page_holds_the_graphs(pyramid, page):
    held = data(page)
    assert [level["name"] for level in held["levels"]] == list(pyramid.names)
    for level, array in zip(held["levels"], pyramid.levels, strict=True):
        places = unpack(level["visual"], "<f4").reshape(-1, 2)
        np.testing.assert_allclose(places, array.cartesian * array.fov / 2, rtol=1e-6, atol=1e-6)
    for step, graph in zip(held["graphs"], pyramid.graphs, strict=True):
        assert unpack(step["src"], "<u2").tolist() == graph.edge_index[0].tolist()
        assert unpack(step["ptr"], "<u4").tolist() == graph.ptr.tolist()
    assert held["start"] == dict(zip(("level", "unit"), telling_unit(pyramid), strict=True))


def test_page_holds_what_was_sampled(pyramid, page, photo):
    first, second = data(page)["looks"]
    samples = fg.Retina(pyramid.levels[0])(photo[None], LOOKS)[0, 1]
    np.testing.assert_array_equal(
        unpack(second["samples"], "u1").reshape(-1, 3), (samples * 255).round()
    )
    assert (first["row"], first["column"], second["row"]) == (0.5, 0.5, 0.25)
    assert (first["height"], first["width"]) == (40, 40)
    assert data(page)["photograph"]["url"].startswith("data:image/jpeg;base64,")


def test_page_asks_the_network_for_nothing(page):
    assert "default-src 'none'" in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert "<title>Fields &amp; &lt;more&gt;</title>" in page
    assert "{{" not in page


def test_without_an_image_there_are_the_levels_alone(pyramid):
    held = data(explorer_html(pyramid))
    assert held["photograph"] is None and held["looks"] == []


def test_full_size_is_small():
    net = fg.FoviNet(fg.load_config("fovi_alexnet"))
    image = torch.randint(0, 256, (3, 600, 900), dtype=torch.uint8)
    page = explorer_html(net.pyramid, image=image, retina=net.retina)
    assert len(page.encode()) < 3e6  # at most 15 MB are allowed


def test_bad_arguments(pyramid, photo):
    other = fg.Retina(fg.SensorArray.matched(8))
    with pytest.raises(ValueError, match="retina must be of the pyramid's lowest level"):
        explorer_html(pyramid, image=photo, retina=other)
    with pytest.raises(ValueError, match="fixations must be those of one image"):
        explorer_html(pyramid, image=photo, fixations=[LOOKS])
    with pytest.raises(ValueError, match="images must have"):
        explorer_html(pyramid, image=photo[0])


@pytest.fixture(scope="module")
def browser(page, tmp_path_factory):
    """Chromium, with the page open."""
    pytest.importorskip("selenium")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("needs chromium and chromedriver")
    from selenium import webdriver

    folder = tmp_path_factory.mktemp("explorer")
    (folder / "explorer.html").write_text(page, encoding="utf-8")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"):
        options.add_argument(option)
    options.add_argument("--disable-background-networking")
    options.add_argument(f"--user-data-dir={folder / 'profile'}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    browser.set_script_timeout(20)
    browser.get((folder / "explorer.html").as_uri())
    drawn = """const done = arguments[0], look = () =>
        performance.getEntriesByName("drawn").length ? done() : setTimeout(look, 20); look()"""
    browser.execute_async_script(drawn)
    yield browser
    browser.quit()


@pytest.fixture
def hover(browser):
    """Points at the middle of a level, and returns the level and unit that are selected."""
    from selenium.webdriver import ActionChains

    def hover(level):
        canvas = browser.find_elements("css selector", "#levels canvas")[level]
        ActionChains(browser).move_to_element(canvas).perform()
        return browser.execute_script("return [state.level, state.unit]")

    return hover


@pytest.mark.parametrize("level", [1, 2])
def test_hovering_the_centre_lights_exactly_its_fields(browser, hover, pyramid, level):
    assert hover(level) == [level, 0]
    lit = browser.execute_script("return state.field.map((paths) => Array.from(paths))")
    for other, paths in enumerate(lit):
        assert len(paths) == len(pyramid.levels[other])
        nodes = [unit for unit, count in enumerate(paths) if count]
        if other <= level:
            field = pyramid.receptive_field(level, 0, other)
            assert nodes == field.nodes.tolist()
            assert [paths[node] for node in nodes] == field.paths.tolist()
        else:
            units = range(len(pyramid.levels[other]))
            fields = (pyramid.receptive_field(other, unit, level).nodes for unit in units)
            assert nodes == [unit for unit, field in enumerate(fields) if 0 in field]


def test_what_is_lit_is_drawn(browser, hover, pyramid):
    hover(2)
    unreached = browser.execute_script("return words.unreached")
    colors = browser.execute_script("return Array.from(panels[0].colors(state.field[0]))")
    nodes = [unit for unit, color in enumerate(colors) if color != unreached]
    assert nodes == pyramid.receptive_field(2, 0).nodes.tolist()


def test_keys_move_between_units_and_levels(browser, hover, pyramid):
    from selenium.webdriver import Keys

    hover(1)
    canvases = browser.find_elements("css selector", "#levels canvas")
    places = pyramid.levels[1].cartesian
    canvases[1].send_keys(Keys.ARROW_RIGHT)
    level, unit = browser.execute_script("return [state.level, state.unit]")
    assert level == 1 and places[unit, 0] > 0
    canvases[1].send_keys(Keys.HOME)
    canvases[1].send_keys(Keys.PAGE_UP)
    assert browser.execute_script("return [state.level, state.unit]") == [2, 0]
    assert browser.switch_to.active_element == canvases[2]
    canvases[2].send_keys(Keys.SHIFT, Keys.ARROW_DOWN)
    assert browser.execute_script("return [state.level, state.unit]") == [1, 0]
    assert "Unit 0 of conv1" in browser.find_element("id", "announcement").text


def test_a_click_holds_a_unit_until_escape(browser, hover):
    from selenium.webdriver import ActionChains, Keys

    hover(1)
    ActionChains(browser).click().perform()
    assert hover(2) == [1, 0]
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    hover(1)
    assert hover(2) == [2, 0]


def test_the_slider_moves_the_eye(browser):
    from selenium.webdriver import Keys

    browser.find_element("id", "fixation").send_keys(Keys.ARROW_RIGHT)
    assert browser.execute_script("return state.look") == 1
    assert browser.find_element("id", "fixated").text == "2 of 2"
    browser.find_element("id", "fixation").send_keys(Keys.ARROW_LEFT)


def test_every_way_of_drawing(browser):
    from selenium.webdriver.support.ui import Select

    for space in ("cortical", "visual"):
        Select(browser.find_element("id", "space")).select_by_value(space)
        for coloring in ("binary", "picture", "paths"):
            Select(browser.find_element("id", "coloring")).select_by_value(coloring)
            browser.execute_script("panels.forEach((panel) => panel.draw())")
    browser.find_element("id", "clear").click()
    browser.execute_script("panels.forEach((panel) => panel.draw())")
    assert browser.execute_script("return state.unit") == -1


def test_fits_a_phone(browser):
    browser.set_window_size(500, 850)
    width = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    browser.set_window_size(1400, 1000)
    assert width[0] <= width[1]


def test_nothing_went_wrong(browser):
    """Stands last: of everything above."""
    assert browser.get_log("browser") == []
