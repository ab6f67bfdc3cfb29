"""The web page of an evaluation."""

from __future__ import annotations

import datetime
from dataclasses import fields
from html.parser import HTMLParser

import pytest
import torch

from fovigraph.models import Calibration, MultiLabelCalibration
from fovigraph.train.evaluation import (
    AreaScore,
    ClassSums,
    Evaluation,
    Figures,
    LabelSums,
    MultiLabelEvaluation,
)
from fovigraph.train.report import _interval, evaluation_html, headline
from fovigraph.train.svg import ticks

VOID = {"meta", "link", "input"}


def evaluation(classes=6, fixations=4, images=200, names=None, note=None):
    counts = ClassSums(classes, fixations, Calibration())
    counts.add(2 * torch.randn(images, fixations, classes), torch.randint(classes, (images,)))
    return Evaluation(
        fixations=fixations,
        policy="near_center",
        note=note,
        images_per_second=412.3,
        speed_images=64,
        speed_fixations=4,
        device="cpu",
        parameters=1234567,
        flops=45678901,
        by_area=[],
        **counts.figures(names or [f"class {i}" for i in range(classes)]),
    )


def several_labels(classes=6, fixations=4, images=200):
    sums = LabelSums(classes, fixations, MultiLabelCalibration())
    sums.add(2 * torch.randn(images, fixations, classes), torch.rand(images, classes) < 0.3)
    plain = {
        name: value
        for name, value in vars(evaluation(fixations=fixations)).items()
        if name in {each.name for each in fields(Figures)}
    }
    plain |= sums.figures([f"class {i}" for i in range(classes)])
    return MultiLabelEvaluation(**plain)


class Page(HTMLParser):
    """Checks that elements are nested, and collects names and text."""

    def __init__(self, html):
        super().__init__()
        self.open, self.names, self.ids, self.text = [], [], [], ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.names.append(tag)
        attributes = dict(attributes)
        self.ids.append(attributes.get("id"))
        assert "src" not in attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open[-1:] == [tag]:
            self.open.pop()
        else:
            assert self.get_starttag_text().endswith("/>")

    def handle_startendtag(self, tag, attributes):
        self.names.append(tag)

    def handle_data(self, data):
        self.text += data


def test_shows_everything():
    result = evaluation()
    page = Page(evaluation_html(result, "A network", {"data": "digits"}))
    for name in ("tested", "cost", "fixations", "reliability", "classes", "confusion"):
        assert name in page.ids
    for text in ("A network", "digits", "class 5", "1,234,567", *headline(result).values()):
        assert text in page.text
    assert page.names.count("circle") == result.fixations
    used = sum(part.images > 0 for part in result.reliability)
    assert page.names.count("rect") == 2 * used


def test_shows_everything_of_several_labels():
    result = several_labels()
    page = Page(evaluation_html(result, "A network", {"data": "tags"}))
    for name in ("tested", "cost", "fixations", "reliability", "classes"):
        assert name in page.ids
    assert "confusion" not in page.ids
    for text in ("class 5", "average precision", "ROC AUC", *headline(result).values()):
        assert text in page.text
    assert page.names.count("circle") == result.fixations
    assert "Of all pairs of 200 images and 6 classes, " in page.text


def test_says_what_was_tested():
    result = evaluation(names=["ant", "bee", "cat", "dog", "elk", "fox"])
    facts = {"network": "runs/mine", "data": "animals", "split": "validation"}
    html = evaluation_html(result, "A network", facts, date=datetime.date(2024, 2, 29))
    tested = Page(html[html.index('<section id="tested"') : html.index('<section id="cost"')]).text
    for text in (
        *facts,
        *facts.values(),
        "200",
        "6: ant, bee, cat, dog, elk, fox",
        "4 per image, chosen by the policy near_center",
        "2024-02-29",
    ):
        assert text in tested
    assert datetime.date.today().isoformat() in evaluation_html(result, "A network")


def test_many_classes_are_named_in_part():
    page = Page(evaluation_html(evaluation(classes=103), "A network"))
    assert "103: class 0, " in page.text
    assert "class 99 and 3 more" in page.text


@pytest.mark.parametrize("title", ["{{sections}}", "{{title}}", "{{style}}", "{{", "{{nothing}}"])
def test_names_are_not_templates(title):
    names = [title, "b", "c", "d", "e", "f"]
    page = Page(evaluation_html(evaluation(names=names), title, {title: title}))
    assert page.names.count("main") == 1
    # Two headings, a fact's name and value, and the class among the facts and in both tables.
    assert page.text.count(title) == 2 + 2 + 1 + 1 + 2


def test_needs_no_network():
    html = evaluation_html(evaluation(), "A network")
    assert "default-src 'none'" in html
    assert "http://" not in html and "https://" not in html
    assert "{{" not in html


def test_one_fixation_makes_no_curve_and_the_note_is_shown():
    page = Page(evaluation_html(evaluation(fixations=1, note="It looks once."), "A network"))
    assert "fixations" not in page.ids
    assert "It looks once." in page.text


def test_many_classes_have_no_matrix():
    page = Page(evaluation_html(evaluation(classes=51), "A network"))
    assert "confusion" not in page.ids
    assert "class 50" in page.text


def test_names_are_text():
    names = ["<b>cat</b>", '"dog" & co', "c", "d", "e", "f"]
    page = Page(evaluation_html(evaluation(names=names), "<i>A</i>", {"data": "<u>x</u>"}))
    for text in (*names, "<i>A</i>", "<u>x</u>"):
        assert text in page.text
    assert not {"b", "u"} & set(page.names)


def test_view_areas_are_curves_of_their_own():
    result = evaluation()
    result.by_area = [AreaScore(0.3, [0.1, 0.2, 0.2, 0.3]), AreaScore(0.7, [0.1] * 4)]
    page = evaluation_html(result, "areas", {})
    assert page.count('class="other"') == 2
    assert "0.3 of the image" in page and "0.7 of the image" in page


def test_all_right_and_none():
    for answers in (torch.zeros(5).long(), torch.ones(5).long()):
        counts = ClassSums(2, 3, Calibration())
        counts.add(torch.tensor([9.0, 0.0]).expand(5, 3, 2), answers)
        result = evaluation()
        for name, value in counts.figures(["cat", "dog"]).items():
            setattr(result, name, value)
        result.fixations = 3
        Page(evaluation_html(result, "A network"))


def test_interval_is_wilsons():
    assert _interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert _interval(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert _interval(0.0, 10)[0] == 0


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.61, 0.68), (0.99, 1.0), (0.081, 0.0832)])
def test_ticks_hold_the_range_between_them(low, high):
    found = ticks(low, high)
    assert min(found) <= low + 1e-9
    assert max(found) >= high - 1e-9
    assert 2 <= len(found) <= 7
    assert len(set(found.values())) == len(found)


@pytest.mark.parametrize("width", [390, 1400])
def test_in_a_browser(chromium, tmp_path, width):
    names = ["airplane", "automobile", "bird", "cat", "deer", "a name that is very long indeed"]
    html = evaluation_html(evaluation(names=names), "runs/mine on " + 30 * "folder/")
    (tmp_path / "evaluation.html").write_text(html, encoding="utf-8")
    phone = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        chromium.get((tmp_path / "evaluation.html").as_uri())
        wide = chromium.execute_script("return document.documentElement.scrollWidth")
        assert wide <= width
        color = "return getComputedStyle(document.body).backgroundColor"
        light = chromium.execute_script(color)
        label = chromium.find_element("css selector", "#theme")
        assert label.text == "Dark page" and label.size["height"] < 40
        label.find_element("css selector", "input").send_keys(" ")
        assert (light, chromium.execute_script(color)) == ("rgb(255, 255, 255)", "rgb(22, 24, 25)")
        assert chromium.get_log("browser") == []
    finally:
        chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
