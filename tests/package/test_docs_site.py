"""The pages of README.md and docs/: links, commands and the built site, which loads nothing from the network."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer

import ssd_fast
from helpers.paths import ROOT
from helpers.snippets import PAGES, commands, snippets, split_commands
from ssd_fast.cli import app

WRITTEN = (*PAGES, "CONTRIBUTING.md")
OTHER_COMMANDS = ("ncu", "pre-commit")
LOADING_TAGS = {"script", "link", "img", "iframe", "source", "video", "audio", "object", "embed"}


# ---- links ----------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's titles, as MkDocs and code hosts make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def broken_links(page: str, text: str) -> list[str]:
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)(?:\s+[\"'][^)]*)?\)", text):
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        if "://" in link:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
        elif page.startswith("docs/") and (ROOT / "docs") not in target.resolve().parents:
            broken.append(f"{link} leads out of docs/, so not to a page of the site")
    return broken


@pytest.mark.parametrize("page", WRITTEN)
def test_links_lead_somewhere(page):
    assert broken_links(page, (ROOT / page).read_text()) == []


@pytest.mark.parametrize("link", ["missing.md", "numerics.md#missing", "#missing", "../README.md"])
def test_broken_links_are_found(link):
    for written in (link, f'{link} "its title"'):
        text = f"See [this]({written}) and [that](numerics.md#2-ties-are-defined)."
        assert len(broken_links("docs/index.md", text)) == 1


# ---- commands -------------------------------------------------------------------------------------------------------


def fault(words: list[str]) -> str | None:
    """Return what is wrong with a command, if anything."""
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        variable = words[0].partition("=")[0]
        if not any(variable in (ROOT / name).read_text() for name in ("setup.py", "ssd_fast/_backend.py", "Makefile")):
            return f"no such variable: {variable}"
        words = words[1:]
    if "-m" in words and words[words.index("-m") + 1] == "ssd_fast":
        words = ["ssd-fast", *words[words.index("-m") + 2 :]]
    options = {word.partition("=")[0] for word in words[1:] if word.startswith("-")}
    match words[0]:
        case "ssd-fast":
            return _fault_of_command(words[1], options)
        case "make":
            return _fault_of_make(words[1:])
        case "pip":
            extras = optional_dependencies()
            wanted = [extra for word in words for found in re.findall(r"\[(.*)\]", word) for extra in found.split(",")]
            return next((f"no such extra: {extra}" for extra in wanted if extra not in extras), None)
        case "python" if words[1].endswith(".py"):
            program = ROOT / words[1]
            text = program.read_text() if program.exists() else ""
            text += "".join(path.read_text() for path in program.parent.rglob("*.py"))
            unknown = [option for option in options if f'"{option}"' not in text]
            return f"no such program or option: {words[1]} {unknown}" if unknown or not program.exists() else None
        case "python" if words[1:3] == ["-m", "http.server"]:
            return None
        case name:
            return None if name in OTHER_COMMANDS else f"no such command: {name}"


def optional_dependencies() -> set[str]:
    text = (ROOT / "pyproject.toml").read_text()
    table = text.partition("[project.optional-dependencies]\n")[2].partition("\n\n")[0]
    return set(re.findall(r"^([\w-]+) = \[", table, re.MULTILINE))


def _fault_of_command(name: str, options: set[str]) -> str | None:
    command = typer.main.get_command(app).commands.get(name)
    if command is None:
        return f"no such command: ssd-fast {name}"
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    unknown = options - known - {"--help"}
    return f"no such option of ssd-fast {name}: {unknown}" if unknown else None


def _fault_of_make(words: list[str]) -> str | None:
    makefile = (ROOT / "Makefile").read_text()
    for word in words:
        name, given, _ = word.partition("=")
        found = re.search(rf"\b{name}\b" if given else rf"^{re.escape(name)}:", makefile, re.MULTILINE)
        if not found:
            return f"make: no such target or variable: {name}"
    return None


@pytest.mark.parametrize("page", WRITTEN)
def test_commands_of_pages_exist(page):
    faults = [f"{place}: {found}" for place, words in commands(page) if (found := fault(words))]
    assert faults == []
    assert not [snippet.place for language in ("bash", "sh", "shell") for snippet in snippets(page, language)]
    for snippet in snippets(page, "json"):
        json.loads(snippet.code)


@pytest.mark.parametrize(
    "command",
    [
        "ssd-fast fly",
        "ssd-fast train photos --resumes",
        "make coffee",
        "make bench TABLE=1",
        "pip install .[trains]",
        "python examples/letters.py",
        "python examples/digits.py scenes --holdout",
        "SSD_FAST_SINC=1 pip install .",
        "makes docs",
        "torchrun --nproc-per-node 4 -m ssd_fast trains photos",
    ],
)
def test_wrong_commands_are_found(command):
    assert fault(command.split())


def test_every_command_of_a_line_is_seen():
    line = 'make build && ssd-fast detect "a b.jpg"; make demo  # writes demo/'
    assert split_commands(line) == [["make", "build"], ["ssd-fast", "detect", "a b.jpg"], ["make", "demo"]]


# ---- the site -------------------------------------------------------------------------------------------------------


class Loaded(HTMLParser):
    """Return the addresses that a browser loads for a page without a click."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in LOADING_TAGS:
            self.addresses += [value for key, value in attrs if key in ("src", "href", "data", "poster") and value]
        self.addresses += re.findall(r"url\(([^)]*)\)", dict(attrs).get("style") or "")


def loaded(html: str) -> list[str]:
    parser = Loaded()
    parser.feed(html)
    return parser.addresses


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("mkdocs", "material", "mkdocstrings", "mkdocstrings_handlers.python"):
        try:
            found = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            found = None
        if found is None:
            pytest.skip(f"{package} is not installed: pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_built(site):
    for page in PAGES:
        if page.startswith("docs/"):
            assert (site / page.removeprefix("docs/")).with_suffix(".html").is_file(), page


def test_pages_load_nothing_from_network(site):
    pages = [path for path in site.rglob("*.html") if path.name != "404.html"]  # which is for a server alone
    assert len(pages) > 25
    for page in pages:
        html = page.read_text()
        for address in loaded(html):
            file = (page.parent / address.partition("#")[0].partition("?")[0]).resolve()
            assert file.is_file() and site in file.parents, f"{page}: {address}"
        assert (
            'class="mermaid"' not in html and "data-md-source" not in html
        )  # the theme's script would fetch for these
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//|@import", sheet.read_text()), sheet


def test_every_public_name_has_an_entry(site):
    text = "".join(path.read_text() for path in (site / "api").glob("*.html"))
    entries = {entry.rpartition(".")[2] for entry in re.findall(r'id="(ssd_fast[\w.]*)"', text)}
    for module in (ssd_fast, ssd_fast.datasets, ssd_fast.evaluation, ssd_fast.models, ssd_fast.training):
        assert set(module.__all__) - entries == set(), module.__name__


def test_addresses_loaded_from_network_are_found():
    html = '<link href="https://fonts.example/x.css"><p style="background: url(//cdn/x.png)"><a href="https://x">x</a>'
    assert loaded(html) == ["https://fonts.example/x.css", "//cdn/x.png"]
