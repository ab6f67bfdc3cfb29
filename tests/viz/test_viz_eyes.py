"""All eyes on one photograph."""

import re

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from fovigraph.cli import main
from fovigraph.geometry import LAYOUTS
from fovigraph.viz import all_eyes, eyes_html, plot_eyes


@pytest.fixture(scope="module")
def eyes():
    return all_eyes(8)


def test_every_layout_is_among_them_once(eyes):
    assert {eye.layout for eye in eyes} == set(LAYOUTS)
    names = [(eye.layout, eye.extent, eye.norm) for eye in eyes]
    assert len(set(names)) == len(names)
    assert ("uniform_square", "circular", 2.0) in names  # its square is the same
    assert ("uniform_square", "square", 2.0) not in names
    warped = {extent for layout, extent, _ in names if layout == "warped_cartesian"}
    assert warped == {"circular", "wang"}  # no node of 8² lies in the square beyond the circle


def test_a_picture_of_all(eyes, image):
    figure = plot_eyes(image, eyes)
    FigureCanvasAgg(figure).draw()
    assert len(figure.axes) == 1 + sum(2 if eye.has_cortex else 1 for eye in eyes)


def test_a_page_of_all(eyes, image):
    page = eyes_html(image, eyes, title="Eyes & <more>")
    assert "<title>Eyes &amp; &lt;more&gt;</title>" in page
    assert page.count("<figure") == len(eyes) + 1
    assert page.count("<img") == 1 + sum(2 if eye.has_cortex else 1 for eye in eyes)
    assert not re.search(r'(src|href)="(?!data:)', page)  # it needs no other file
    assert "52 samples" in page  # of the warped circle, of 64 nodes


def test_the_command(tmp_path, capsys, image):
    from PIL import Image

    photo = str(tmp_path / "photo.png")
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(photo)
    for name in ("eyes.html", "eyes.png"):
        out = str(tmp_path / name)
        assert main(["eyes", photo, "--side", "4", "--view", "30", "--out", out]) == 0
        assert capsys.readouterr().out.startswith(f"{out}  ")
    assert main(["eyes", photo, "--side", "4", "--fov", "-1", "--out", out]) == 2
    assert "fov must be finite and above 0, got -1" in capsys.readouterr().err
    assert main(["eyes", photo, "--out", str(tmp_path / "a.txt")]) == 2


def test_bad_arguments(image, eyes):
    with pytest.raises(ValueError, match="eyes must be at least one array"):
        eyes_html(image, [])
    with pytest.raises(TypeError, match=r"eyes\[0\] must be a SensorArray"):
        eyes_html(image, ["isotropic"])
    with pytest.raises(ValueError, match="size must be above 0 pixels"):
        plot_eyes(image, eyes, size=(0, 3))


@pytest.mark.parametrize("width", [390, 1400])
def test_in_a_browser(chromium, tmp_path, eyes, image, width):
    (tmp_path / "eyes.html").write_text(eyes_html(image, eyes), encoding="utf-8")
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        chromium.get((tmp_path / "eyes.html").as_uri())
        assert chromium.execute_script("return document.documentElement.scrollWidth") <= width
        color = "return getComputedStyle(document.body).backgroundColor"
        assert chromium.execute_script(color) == "rgb(255, 255, 255)"
        chromium.find_element("css selector", "#theme").click()
        assert chromium.execute_script(color) == "rgb(22, 24, 25)"
        loaded = "return [...document.images].every((each) => each.naturalWidth > 0)"
        assert chromium.execute_script(loaded)
        assert chromium.get_log("browser") == []
    finally:
        chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_layout_of_ones_own_is_there(image):
    from fovigraph.geometry import RingLayout, register_layout

    register_layout("eyes_test")(type("EyesTest", (RingLayout,), {}))
    assert "eyes_test" in eyes_html(image, all_eyes(4))
