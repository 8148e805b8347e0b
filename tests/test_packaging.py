"""What a release says of itself in several places is the same in all of them."""

import re
import tomllib
from pathlib import Path

import pytest

import ctsa

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FOR_DEVELOPERS = ("docs", "dev", "all")  # the last one names the others


def bounds():
    extras = PROJECT["optional-dependencies"]
    for need in PROJECT["dependencies"] + sum((v for k, v in extras.items() if k not in FOR_DEVELOPERS), []):
        name, bound = re.fullmatch(r"([\w.-]+)>=([\w.]+)", need).groups()
        yield name, bound


def test_oldest_versions_are_the_bounds():
    text = (ROOT / "constraints-minimal.txt").read_text(encoding="utf-8")
    assert dict(re.findall(r"^([\w.-]+)==([\w.]+)$", text, re.M)) == dict(bounds())


def test_versions_agree():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert PROJECT["version"] == ctsa.__version__ == re.search(r"^version: (\S+)$", citation, re.M)[1]
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted({name for name, _ in bounds()}))
def test_pinned_and_explained(name):
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    reason = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    spelt = re.escape(name).replace(r"\-", "[-_]")
    assert re.search(rf"^{spelt}==", pins, re.M) or name == "torch"  # which the Makefile pins
    assert re.search(rf"^\|.*\b{spelt}\b.*\|", reason, re.M)


def test_everything_cited_in_the_paper_is_there():
    text, bib = ((ROOT / "paper" / name).read_text(encoding="utf-8") for name in ("paper.md", "paper.bib"))
    cited = set(re.findall(r"@([\w:-]+)", text.partition("---\n")[2]))
    assert cited == set(re.findall(r"^@\w+\{([\w:-]+),", bib, re.M))
    assert not [p for p in re.findall(r"!\[.*?\]\((\S+?)\)", text, re.S) if not (ROOT / "paper" / p).is_file()]
