"""The explorer's page: what is in it, and how it behaves in a browser."""

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

import fovigraph as fg
from fovigraph.viz import example_unit, explorer_html

LOOKS = [[0.5, 0.5], [0.25, 0.75]]
NAMES = ["cat", "dog", "<b>fox</b>"]
SCORES = [[0.7, 0.2, 0.1], [0.3, 0.6, 0.1]]


@pytest.fixture(scope="module")
def photo():
    return torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8)


@pytest.fixture(scope="module")
def page(pyramid, photo):
    return explorer_html(
        pyramid,
        image=photo,
        fixations=LOOKS,
        probabilities=SCORES,
        class_names=NAMES,
        title="Fields & <more>",
    )


def data(page):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    return json.loads(text)


def unpack(text, dtype):
    return np.frombuffer(base64.b64decode(text), dtype)


def pixels(url):
    """The pixels of a data URL, [H, W, 3]."""
    file = io.BytesIO(base64.b64decode(url.partition("base64,")[2]))
    return np.asarray(Image.open(file).convert("RGB"))


def test_page_holds_the_graphs(pyramid, page):
    held = data(page)
    assert [level["name"] for level in held["levels"]] == list(pyramid.names)
    for level, array in zip(held["levels"], pyramid.levels, strict=True):
        places = unpack(level["visual"], "<f4").reshape(-1, 2)
        np.testing.assert_allclose(places, array.cartesian * array.fov / 2, rtol=1e-6, atol=1e-6)
    for step, graph in zip(held["graphs"], pyramid.graphs, strict=True):
        assert unpack(step["src"], "<u2").tolist() == graph.edge_index[0].tolist()
        assert unpack(step["ptr"], "<u4").tolist() == graph.ptr.tolist()
    assert held["start"] == dict(zip(("level", "unit"), example_unit(pyramid), strict=True))


def test_page_holds_the_photograph_without_loss_and_where_the_network_looked(page, photo):
    held = data(page)
    np.testing.assert_array_equal(pixels(held["photograph"]["url"]), photo.permute(1, 2, 0))
    assert held["views"] == [
        {"row": 0.5, "column": 0.5, "height": 40, "width": 40},
        {"row": 0.25, "column": 0.75, "height": 40, "width": 40},
    ]


def test_large_photographs_are_averaged_down_to_a_million_pixels(pyramid):
    image = torch.zeros(3, 1500, 2000, dtype=torch.uint8)
    held = data(explorer_html(pyramid, image=image))["photograph"]
    assert (held["height"], held["width"]) == (1500, 2000)
    assert pixels(held["url"]).shape == (866, 1155, 3)


def test_page_holds_the_scores(page):
    scores = data(page)["scores"]
    assert scores["classes"] == NAMES
    np.testing.assert_allclose(unpack(scores["fixations"], "<f4").reshape(2, 3), SCORES)
    np.testing.assert_allclose(unpack(scores["together"], "<f4"), [0.5, 0.4, 0.1])


def test_scores_of_all_fixations_together_can_be_given(pyramid, photo):
    page = explorer_html(pyramid, image=photo, probabilities=[[0.7, 0.3]], together=[0.9, 0.1])
    scores = data(page)["scores"]
    np.testing.assert_allclose(unpack(scores["together"], "<f4"), [0.9, 0.1])
    assert scores["classes"] == ["0", "1"]


def test_page_asks_the_network_for_nothing(page):
    assert "default-src 'none'" in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert "<title>Fields &amp; &lt;more&gt;</title>" in page
    assert "{{" not in page
    assert "<b>fox" not in page


def test_a_title_is_not_a_template(pyramid):
    plain = explorer_html(pyramid, title="t")
    for title in ("{{library}}", "{{title}}", "{{nothing}}", "{{"):
        page = explorer_html(pyramid, title=title)
        assert f"<h1>{title}</h1>" in page
        assert len(page) - len(plain) == 2 * (len(title) - 1)


def test_a_title_that_utf8_cannot_hold_is_written_all_the_same(pyramid):
    page = explorer_html(pyramid, title="caf\udce9")  # a file's name in Latin-1
    assert "<h1>caf?</h1>" in page
    page.encode("utf-8")


def test_without_an_image_there_are_the_levels_alone(pyramid):
    held = data(explorer_html(pyramid))
    assert held["photograph"] is None and held["views"] == [] and held["scores"] is None


def test_other_photographs_are_seen_as_the_retina_or_the_given_sizes_say(pyramid, photo):
    def view(**options):
        return data(explorer_html(pyramid, **options))["view"]

    array = pyramid.levels[0]
    assert view() == {"by": "side", "height": 1, "width": 1}
    fixed = fg.Retina(array, fixation_size=(30, 20))
    assert view(retina=fixed) == {"by": "pixels", "height": 30, "width": 20}
    given = view(image=photo, sizes=[[24, 48]])
    side = (40 * 60) ** 0.5
    assert given == {
        "by": "area",
        "height": pytest.approx(24 / side),
        "width": pytest.approx(48 / side),
    }


def test_full_size_is_small():
    net = fg.FoviNet(fg.load_config("fovi_alexnet"))
    image = torch.randint(0, 256, (3, 600, 900), dtype=torch.uint8)
    page = explorer_html(net.pyramid, image=image, retina=net.retina)
    assert len(page.encode()) < 3.5e6  # noise, which cannot be compressed, is 2.2 MB of that


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fixations": [LOOKS]}, r"fixations must be those of one image, .* got \[1, 2, 2\]"),
        ({"sizes": 0}, "sizes must be finite and above 0 pixels, got 0.0"),
        ({"sizes": [1, 2, 3]}, r"sizes must .* broadcast to .* \[1, 2\], got \[3\]"),
        ({"image": torch.zeros(40, 60)}, "images must have"),
        ({"together": [1.0]}, "together must be given with probabilities"),
        ({"class_names": NAMES}, "class_names must be given with probabilities"),
        (
            {"probabilities": SCORES},
            r"probabilities must have shape \[1, classes\], .* got \[2, 3\]",
        ),
        ({"probabilities": [[1.5, -0.5]]}, r"probabilities must lie in \[0, 1\]"),
        ({"probabilities": [[0.5, float("nan")]]}, r"probabilities must lie in \[0, 1\]"),
        ({"probabilities": [[0.5, 0.2]]}, "probabilities must sum to 1 .* softmax"),
        (
            {"probabilities": [[0.5, 0.5]], "together": [1.0]},
            r"together must have shape \[2\], .* got \[1\]",
        ),
        (
            {"probabilities": [[0.5, 0.5]], "class_names": NAMES},
            "class_names must name the 2 classes, got 3",
        ),
        (
            {"image": None, "probabilities": [[0.5, 0.5]]},
            "probabilities must be those of an image, got no image",
        ),
    ],
)
def test_bad_values(pyramid, photo, options, message):
    with pytest.raises(ValueError, match=message):
        explorer_html(pyramid, **{"image": photo, **options})


def test_bad_kinds(pyramid, photo):
    other = fg.Retina(fg.SensorArray.matched(8))
    with pytest.raises(ValueError, match="retina must be of the pyramid's lowest level"):
        explorer_html(pyramid, image=photo, retina=other)
    with pytest.raises(TypeError, match="class_names must be strings, got 3"):
        explorer_html(pyramid, image=photo, probabilities=[[0.5, 0.5]], class_names=["a", 3])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("explorer")


def visit(chromium, folder, page):
    """Open a page, and wait until it is drawn."""
    (folder / "explorer.html").write_text(page, encoding="utf-8")
    chromium.get((folder / "explorer.html").as_uri())
    chromium.execute_async_script(
        """const done = arguments[0], look = () =>
        performance.getEntriesByName("drawn").length ? done() : setTimeout(look, 20); look()"""
    )
    return chromium


@pytest.fixture(scope="module")
def opened(chromium, folder, page):
    """Chromium, with the page open that most tests share."""
    return visit(chromium, folder, page)


@pytest.fixture
def browser(opened):
    """The page as it begins, but for the unit, which is let go."""
    opened.execute_script("hold(false); say(''); byId('back').hidden = true; show(given)")
    return opened


@pytest.fixture
def photograph(browser):
    """The canvas of the photograph."""
    return browser.find_element("id", "photograph")


def gaze(browser):
    """Where the gaze is, the size of the view there, and the fixation's index."""
    return browser.execute_script(
        "const {row, column, height, width} = state.gaze;"
        "return [[row, column], [height, width], state.fixation]"
    )


def test_the_page_samples_as_the_retina_does(browser, pyramid, photo):
    assert_same_samples(browser, fg.Retina(pyramid.levels[0]), photo)


def assert_same_samples(browser, retina, photo):
    """Compare the page's samples at several gazes with a retina's, to within rounding."""
    places = [[0.5, 0.5], [0.0, 1.0], [0.31, 0.77], [1.0, 0.123]]
    sizes = [[40.0, 40.0], [25.0, 61.0], [400.0, 300.0], [3.0, 3.0]]
    for where, size in zip(places, sizes, strict=True):
        colors = retina.colors(photo[None], [where], torch.tensor(size))[0, 0]
        (row, column), (height, width) = where, size
        view = {"row": row, "column": column, "height": height, "width": width}
        seen = browser.execute_script("return Array.from(sampled(state.photo, arguments[0]))", view)
        expected = (colors.float().clamp(0, 1) * 255).round().flatten().numpy()
        difference = np.abs(expected - np.array(seen))
        assert difference.max() <= 1
        assert difference.mean() < 0.02
        assert expected.std() > 5  # there is something to see


@pytest.fixture
def other(chromium, folder, page, opened):
    """Opens another page, in place of the one that most tests share, and then that one again."""
    yield lambda html: visit(chromium, folder, html)
    visit(chromium, folder, page)


@pytest.mark.parametrize(
    ("sampling", "options"),
    [
        ("nearest", {}),
        ("bilinear", {"color_decay": 3.0}),
        ("knn_mean", {"k": 5}),
        ("gaussian", {"color_decay": 2.0, "sigma": 0.3}),
        ("area", {"color_decay": 4.0}),
        ("area", {"acuity": 6.0}),
    ],
)
def test_the_page_samples_in_every_way(other, pyramid, photo, sampling, options):
    retina = fg.Retina(pyramid.levels[0], sampling, **options)
    browser = other(explorer_html(pyramid, image=photo, retina=retina))
    assert_same_samples(browser, retina, photo)


def kept(browser):
    """The picture of the samples as it is drawn."""
    return browser.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() =>"
        "done(byId('kept-visual').toDataURL() + byId('kept-cortical').toDataURL())))"
    )


def test_the_gaze_follows_the_pointer(browser, photograph):
    from selenium.webdriver import ActionChains

    before = kept(browser)
    across, down = browser.execute_script(
        "const scale = picture.canvas.clientWidth / picture.width;"
        "return [state.photo.width * scale, state.photo.height * scale]"
    )
    drag = ActionChains(browser).move_to_element(photograph).click_and_hold()
    drag.move_by_offset(round(0.3 * across), round(-0.2 * down)).perform()
    (row, column), size, fixation = gaze(browser)
    assert row == pytest.approx(0.3, abs=2 / down)
    assert column == pytest.approx(0.8, abs=2 / across)
    assert size == [40, 40] and fixation == -1
    while_held = kept(browser)
    ActionChains(browser).move_by_offset(round(-0.5 * across), 0).release().perform()
    assert gaze(browser)[0][1] == pytest.approx(0.3, abs=3 / across)
    assert len({before, while_held, kept(browser)}) == 3
    ActionChains(browser).move_by_offset(5, 5).perform()  # which is not held any more
    assert gaze(browser)[0][1] == pytest.approx(0.3, abs=3 / across)


def test_the_gaze_stays_within_the_photograph(browser, photograph):
    from selenium.webdriver import ActionChains

    left = browser.execute_script("return byId('photograph').getBoundingClientRect().left")
    away = 2 - round(left + photograph.size["width"] / 2)  # to the window's edge
    ActionChains(browser).drag_and_drop_by_offset(photograph, away, away).perform()
    assert gaze(browser)[0] == [0, 0]


def test_a_press_on_a_number_chooses_its_fixation(browser, photograph):
    from selenium.webdriver import ActionChains

    x, y = browser.execute_script("return picture.place(state.photo.views[1])")
    left, top = photograph.size["width"] / 2, photograph.size["height"] / 2
    move = ActionChains(browser).move_to_element_with_offset(photograph, x - left + 4, y - top - 3)
    move.click().perform()
    assert gaze(browser) == [[0.25, 0.75], [40, 40], 1]
    assert browser.find_element("id", "fixated").text == "2 of 2"


def scores(browser):
    """What is said of the scores, and the rows of their table."""
    rows = browser.find_elements("css selector", "#scores tbody tr")
    note = browser.find_element("id", "scores-note").text
    return note, [" ".join(row.text.split()) for row in rows if row.is_displayed()]


def test_scores_are_those_of_the_fixation(browser):
    note, rows = scores(browser)
    assert note == "Probabilities at fixation 1; orange: all 2 fixations together."
    assert rows == ["cat 70.0 % 50.0 %", "dog 20.0 % 40.0 %", "<b>fox</b> 10.0 % 10.0 %"]
    browser.execute_script("chooseFixation(1)")
    note, rows = scores(browser)
    assert "fixation 2" in note
    assert rows[:2] == ["dog 60.0 % 40.0 %", "cat 30.0 % 50.0 %"]
    bars = browser.find_elements("css selector", "#scores i")
    assert [bar.get_attribute("style") for bar in bars[:1]] == ["width: 60%;"]


def test_where_no_scores_were_computed_it_says_so(browser):
    browser.execute_script("moveGaze(0.1, 0.1)")
    note, rows = scores(browser)
    assert note.startswith("No scores at this gaze: they were computed beforehand")
    assert rows[0] == "cat – 50.0 %"
    assert browser.find_element("id", "fixated").text == "– of 2"


def test_without_scores_nothing_is_said_of_them(other, pyramid, photo):
    browser = other(explorer_html(pyramid, image=photo))
    assert not browser.find_element("id", "scores").is_displayed()


def test_own_photograph_by_the_file_picker(browser, pyramid, folder):
    own = torch.randint(0, 256, (3, 33, 21), dtype=torch.uint8)
    Image.fromarray(own.permute(1, 2, 0).numpy()).save(folder / "mine.png")
    browser.find_element("id", "file").send_keys(str(folder / "mine.png"))
    wait_until(browser, "state.photo.name === 'mine.png'")
    assert gaze(browser) == [[0.5, 0.5], [21, 21], -1]
    assert browser.find_element("id", "seen-note").text == "mine.png, 21 × 33 pixels"
    assert_same_samples(browser, fg.Retina(pyramid.levels[0]), own)
    note, rows = scores(browser)
    assert note.startswith("No scores for this photograph") and rows == []
    browser.find_element("id", "back").click()
    assert browser.execute_script("return state.photo === given")
    assert scores(browser)[1]


def test_own_photograph_that_is_transparent_lies_on_white(browser):
    drop(browser, "clear.png", "image/png", encoded(Image.new("RGBA", (9, 9), (0, 0, 0, 0))))
    wait_until(browser, "state.photo.name === 'clear.png'")
    assert browser.execute_script("return state.photo.held.pixels.every((value) => value === 255)")


def test_own_photograph_is_held_at_a_million_pixels(browser):
    drop(browser, "large.png", "image/png", encoded(Image.new("RGB", (1600, 900))))
    wait_until(browser, "state.photo.name === 'large.png'")
    said = browser.find_element("id", "seen-note").text
    assert said == "large.png, 1600 × 900 pixels, held at 1333 × 750"


def encoded(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def drop(browser, name, kind, content):
    """Drop a file on the page; without a name, a text."""
    browser.execute_script(
        """const [name, type, bytes] = arguments, dataTransfer = new DataTransfer();
        if (name) dataTransfer.items.add(new File([Uint8Array.from(bytes)], name, {type}));
        else dataTransfer.setData("text/plain", "not a file");
        const options = {dataTransfer, bubbles: true, cancelable: true};
        for (const kind of ["dragover", "drop"])
            document.querySelector("main").dispatchEvent(new DragEvent(kind, options))""",
        name,
        kind,
        list(content),
    )


def wait_until(browser, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 10).until(lambda b: b.execute_script(f"return {condition}"))


@pytest.mark.parametrize("kind", ["text/plain", "image/png"])
def test_a_dropped_file_that_is_no_image_is_named(browser, kind):
    drop(browser, "notes <1>.txt", kind, b"not an image")
    wait_until(browser, "!byId('message').hidden")
    said = browser.find_element("id", "message").text
    assert said.startswith("“notes <1>.txt” is not an image that this browser can read.")
    assert browser.execute_script("return state.photo === given")


def test_what_is_dropped_must_be_a_file(browser):
    drop(browser, None, None, b"")
    assert browser.find_element("id", "message").text.startswith("What was dropped is not a file.")


def test_a_page_without_a_photograph_takes_one(other, pyramid):
    browser = other(explorer_html(pyramid))
    assert browser.find_element("id", "nothing").is_displayed()
    assert not browser.find_element("id", "kept").is_displayed()
    drop(browser, "a.png", "image/png", encoded(Image.new("RGB", (30, 20), "red")))
    wait_until(browser, "state.photo")
    assert not browser.find_element("id", "nothing").is_displayed()
    assert browser.find_element("id", "kept").is_displayed()
    assert gaze(browser) == [[0.5, 0.5], [20, 20], -1]
    assert browser.execute_script("return sampled(state.photo, state.gaze)[0]") == 255


def test_a_strip_is_legible_and_scrolls_to_the_gaze(other, pyramid):
    strip = torch.randint(0, 256, (3, 20, 1600), dtype=torch.uint8)
    browser = other(explorer_html(pyramid, image=strip, fixations=[[0.5, 0.5]]))
    high, wide, room, before = browser.execute_script(
        "const {clientHeight, clientWidth} = picture.canvas, frame = byId('frame');"
        "return [clientHeight, clientWidth, frame.clientWidth, frame.scrollLeft]"
    )
    assert wide > 2 * room and high >= 60
    assert before == pytest.approx((wide - room) / 2, abs=2)
    browser.execute_script("moveGaze(0.5, 1.0); picture.reveal()")
    assert browser.execute_script("return byId('frame').scrollLeft") == pytest.approx(
        wide - room, abs=2
    )


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
    unreached = browser.execute_script("return ink.words.unreached")
    colors = browser.execute_script(
        "return Array.from(panels.find((panel) => panel instanceof Level).colors(state.field[0]))"
    )
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

    slider = browser.find_element("id", "fixation")
    slider.send_keys(Keys.ARROW_RIGHT)
    assert gaze(browser) == [[0.25, 0.75], [40, 40], 1]
    assert browser.find_element("id", "fixated").text == "2 of 2"
    browser.execute_script("moveGaze(0.1, 0.1)")
    slider.send_keys(Keys.ARROW_RIGHT)  # from none of them to the first
    assert gaze(browser)[2] == 0


def test_everything_by_keyboard(browser, photograph):
    from selenium.webdriver import ActionChains, Keys

    def press(*keys):
        ActionChains(browser).send_keys(*keys).perform()
        return gaze(browser)

    browser.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
    browser.find_element("id", "help").send_keys(Keys.NULL)  # where the Tab key begins
    reached = []
    while browser.switch_to.active_element != photograph:
        reached.append(browser.switch_to.active_element.get_attribute("id"))
        press(Keys.TAB)
        assert len(reached) < 6
    step = 0.01 * 40
    assert press(Keys.ARROW_RIGHT)[0] == [0.5, pytest.approx(0.5 + step / 60)]
    assert press(Keys.ARROW_UP)[0] == [
        pytest.approx(0.5 - step / 40),
        pytest.approx(0.5 + step / 60),
    ]
    ActionChains(browser).key_down(Keys.SHIFT).send_keys(Keys.ARROW_DOWN).key_up(
        Keys.SHIFT
    ).perform()
    assert gaze(browser)[0][0] == pytest.approx(0.5 + 9 * step / 40)
    assert "Gaze: 51 % from the left, 59 % from the top" in (
        browser.find_element("id", "announcement").text
    )
    assert press(Keys.PAGE_DOWN)[2] == 0
    assert press(Keys.PAGE_DOWN)[2] == 1
    assert press(Keys.PAGE_UP)[2] == 0
    assert press(Keys.ARROW_LEFT, Keys.HOME)[::2] == [[0.5, 0.5], -1]
    names = []
    for _ in range(30):
        press(Keys.TAB)
        active = browser.switch_to.active_element
        names.append(active.get_attribute("id") or active.get_attribute("aria-label"))
    for name in ("fixation", "file", "level", "unit", "space", "coloring", "zoom", "clear"):
        assert name in names
    assert any(name and name.startswith("pool1:") for name in names)


def test_a_question_mark_shows_the_keys(browser, photograph):
    from selenium.webdriver import ActionChains, Keys

    keys = browser.find_element("id", "keys")
    assert not keys.is_displayed()
    photograph.send_keys("?")
    assert keys.is_displayed()
    assert "move the gaze" in keys.text
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    assert not keys.is_displayed()
    assert browser.switch_to.active_element == photograph


@pytest.fixture(scope="module")
def residual(array):
    """A pyramid with a shortcut of several neighbours past a level, and what it is without."""
    plan = fg.Plan(array)
    start = plan.level
    plan.conv(k=9, stride=2)
    plan.conv(k=4)
    plan.between(start, plan.level, 5)
    plan.between(plan.level, plan.level, 3)  # leads to no other level
    plan.pool(k=4, stride=2)
    pyramid = plan.build()
    return pyramid, fg.GraphPyramid(array, pyramid.steps)


def lit(browser, level, unit):
    """Paths from or to a unit, of every level."""
    browser.execute_script("select(...arguments)", level, unit, False)
    return fields(browser)


def fields(browser):
    """Paths that are lit, of every level."""
    counts = browser.execute_script("return state.field.map((paths) => Array.from(paths))")
    return [np.array(each) for each in counts]


def paths_to(pyramid, level, unit, source):
    """Paths from every node of a level to a unit above it."""
    field = pyramid.receptive_field(level, unit, source)
    return np.bincount(field.nodes, field.paths, minlength=len(pyramid.levels[source]))


def test_shortcuts_lead_paths_both_ways(other, residual):
    from selenium.webdriver.support.ui import Select

    both, steps_alone = residual
    browser = other(explorer_html(both))
    ways = Select(browser.find_element("id", "through"))
    for way, pyramid in (("steps", steps_alone), ("all", both)):
        ways.select_by_value(way)
        for level in range(len(both)):
            found = lit(browser, level, 1)
            for source in range(level + 1):
                assert found[source].tolist() == paths_to(pyramid, level, 1, source).tolist()
            for top in range(level + 1, len(both)):
                units = range(len(both.levels[top]))
                to_all = [paths_to(pyramid, top, unit, level)[1] for unit in units]
                assert found[top].tolist() == to_all
    assert paths_to(both, 2, 1, 0).sum() == paths_to(steps_alone, 2, 1, 0).sum() + 5


def test_a_shortcut_can_be_followed_alone(other, residual):
    from selenium.webdriver.support.ui import Select

    both, _ = residual
    browser = other(explorer_html(both))
    before = lit(browser, 2, 1)
    Select(browser.find_element("id", "through")).select_by_value("shortcuts")
    after = fields(browser)
    graph = both.between(0, 2, 5)
    into = graph.edge_index[0][graph.edge_index[1] == 1].tolist()
    assert np.flatnonzero(after[0]).tolist() == sorted(into)
    assert not any(after[1]) and any(before[1])
    assert len(into) < np.count_nonzero(before[0])


def test_captions_name_the_shortcuts(other, residual, pyramid):
    both, _ = residual
    browser = other(explorer_html(both))
    captions = [each.text for each in browser.find_elements("css selector", "#levels figcaption")]
    shown = [caption for caption in captions if "shortcut from retina, k = 5" in caption]
    assert shown == [captions[2]]
    assert browser.find_element("id", "ways").is_displayed()
    assert not other(explorer_html(pyramid)).find_element("id", "ways").is_displayed()


def test_every_shortcut_of_a_resnet_is_there():
    config = fg.load_config("fovi_resnet18_lowres")
    pyramid = fg.FoviNet(config).pyramid
    held = data(explorer_html(pyramid))["shortcuts"]
    assert len(held) == 3
    assert all(each["k"] == 1 and each["above"] == each["below"] + 2 for each in held)
    for each in held:
        graph = pyramid.between(each["below"], each["above"], 1)
        assert unpack(each["src"], "<u2").tolist() == graph.edge_index[0].tolist()


@pytest.fixture(scope="module")
def masked():
    """A pyramid of a layout that masks nodes, the first of every level among them."""
    array = fg.SensorArray(12, layout="warped_cartesian")
    return fg.GraphPyramid(array, [fg.Step("conv", k=9, stride=2)])


def test_page_names_the_units_that_are_not_masked(masked):
    for level, array in zip(data(explorer_html(masked))["levels"], masked.levels, strict=True):
        units = unpack(level["units"], "<u4").tolist()
        assert units == array.mask.nonzero().flatten().tolist() and 0 not in units


def test_masked_units_are_neither_drawn_nor_chosen(other, masked, photo):
    from selenium.webdriver import Keys

    browser = other(explorer_html(masked, image=photo))
    array = masked.levels[1]
    caption = browser.find_elements("css selector", "#levels figcaption")[1].text
    assert f"{int(array.mask.sum())} units" in caption
    canvas = browser.find_elements("css selector", "#levels canvas")[1]
    canvas.send_keys(Keys.HOME)
    chosen = browser.execute_script("return state.unit")
    assert array.eccentricity[chosen] == pytest.approx(float(array.eccentricity.min()))
    for key in (Keys.ARROW_LEFT, Keys.ARROW_DOWN) * 6:
        canvas.send_keys(key)
        assert array.mask[browser.execute_script("return state.unit")]
    before = browser.execute_script("return state.unit")
    browser.execute_script("byId('unit').value = 0; byId('unit').dispatchEvent(new Event('input'))")
    assert browser.execute_script("return state.unit") == before
    for space in ("visual", "cortical"):
        browser.execute_script("state.space = arguments[0]; relayout()", space)
        drawn = browser.execute_script("return [...new Set(panels.at(-1).raster.units)]")
        assert array.mask[drawn].all() and len(drawn) == int(array.mask.sum())


def test_an_array_without_a_cortex_has_none(other, photo):
    array = fg.SensorArray(8, layout="uniform_square")
    pyramid = fg.GraphPyramid(array, [fg.Step("conv", k=9, stride=2)], metric="visual")
    browser = other(explorer_html(pyramid, image=photo))
    assert not browser.find_element("id", "on-cortex").is_displayed()
    assert not browser.find_element("id", "drawing").is_displayed()
    assert other(explorer_html(pyramid)).find_element("id", "network").is_displayed()


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


def background(browser):
    return browser.execute_script("return getComputedStyle(document.body).backgroundColor")


def colors_of_a_level(browser):
    return browser.execute_script("return [ink.unreached, panels.at(-1).drawnLines().width > 0]")


def test_dark_as_the_system_is_or_as_one_likes(browser):
    light, levels = background(browser), colors_of_a_level(browser)
    assert light == "rgb(255, 255, 255)"
    toggle = browser.find_element("css selector", "#theme input")
    toggle.click()
    dark = background(browser)
    assert dark == "rgb(22, 24, 25)"
    assert colors_of_a_level(browser) != levels
    toggle.click()
    assert background(browser) == light
    scheme = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    try:
        assert background(browser) == dark
        wait_until(browser, "ink === INKS.dark")
        assert browser.find_element("id", "theme").text == "Light page"
        toggle.click()
        assert background(browser) == light
        toggle.click()
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    wait_until(browser, "ink === INKS.light")


def test_fits_a_phone_with_the_photograph_in_view(browser):
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        wait_until(browser, "matchMedia('(max-width: 47rem)').matches && innerWidth === 390")
        across = browser.execute_script("return document.documentElement.scrollWidth")
        assert across == 390
        browser.execute_script("byId('levels').lastElementChild.scrollIntoView()")
        top, bottom = browser.execute_script(
            "const {top, bottom} = byId('photograph').getBoundingClientRect(); return [top, bottom]"
        )
        assert top >= 0 and bottom < 400
        assert_no_wrapped_button(browser)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_script("scrollTo(0, 0)")


def test_no_button_is_wrapped(browser):
    assert_no_wrapped_button(browser)


def assert_no_wrapped_button(browser):
    heights = browser.execute_script(
        "return [...document.querySelectorAll('button, .button')].map((each) => each.clientHeight)"
    )
    assert len(heights) >= 6 and max(heights) < 40


def test_nothing_went_wrong(opened):
    """Stands last: of everything above."""
    assert opened.get_log("browser") == []
