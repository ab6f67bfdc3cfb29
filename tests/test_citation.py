"""CITATION.cff says what pyproject.toml and the README say."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def test_the_software_is_that_of_pyproject():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = (ROOT / "pyproject.toml").read_text()
    for key in ("version", "license"):
        assert f'\n{key} = "{citation[key]}"\n' in project


def test_the_paper_is_that_of_the_readme():
    paper = yaml.safe_load((ROOT / "CITATION.cff").read_text())["preferred-citation"]
    entry = re.search(r"```bibtex\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    fields = dict(re.findall(r"(\w+)\s*= \{(.*)\}", entry))
    authors = [f"{each['family-names']}, {each['given-names']}" for each in paper["authors"]]
    assert fields["title"].replace("{", "").replace("}", "") == paper["title"]
    assert fields["author"] == " and ".join(authors)
    assert fields["booktitle"] == paper["collection-title"]
    assert fields["year"] == str(paper["year"])
    assert fields["note"] == paper["identifiers"][0]["value"]
