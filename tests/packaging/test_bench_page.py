"""The page of `seqpar bench --out`: its text, and how it answers clicks and keys in Chromium or Chrome, if there is one."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import bench_runs
from seqpar_bench.bench.report import plots
from seqpar_bench.bench.report.page import page
from seqpar_bench.bench.row import Run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--allow-file-access-from-files",
)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on the path")

# Runs in the finished page. Every answer is data; the tests below say what it should be.
DESKTOP = """
const said = {};
const table = document.getElementById("table-solve_recurrence");
const head = (column) => table.querySelector(`th[data-column="${column}"]`);
const cells = (column, of = table) => [...of.tBodies[0].rows].map((row) => (row.querySelector(`td.${column}`) || {}).textContent);
const who = () => cells("who");
said.link = { sorted: [...document.querySelectorAll("#table-linear_recurrence-growth th")].map((th) => th.ariaSort),
  exponents: cells("exponent", document.getElementById("table-linear_recurrence-growth")) };
said.before = who();
head("time").querySelector("button").click();
said.up = cells("time"); said.upWho = who(); said.upSort = head("time").getAttribute("aria-sort"); said.upHash = location.hash;
head("time").querySelector("button").click();
said.down = cells("time"); said.downWho = who(); said.downSort = head("time").getAttribute("aria-sort");
head("error").querySelector("button").click();
said.error = cells("error").filter(Boolean);
head("framework").querySelector("button").click();
said.others = [...table.querySelectorAll("th")].filter((th) => th.getAttribute("aria-sort") !== "none").length;
said.framework = cells("framework");
head("speed-up").querySelector("button").focus();
said.focus = document.activeElement.textContent;
location.hash = "#sort=table-matrix_recurrence:time:desc";
const filter = document.getElementById("filter");
const shown = (of) => [...of.tBodies[0].rows].filter((row) => !row.hidden).length;
const type = (words) => { filter.value = words; filter.dispatchEvent(new Event("input")); };
type("TORCH crash");
said.filtered = { here: shown(table), elsewhere: shown(document.getElementById("table-plan_buckets")),
  count: document.getElementById("count").textContent };
type("");
said.unfiltered = { here: shown(table), count: document.getElementById("count").textContent };
const zoom = document.querySelector("button.zoom");
const wide = () => zoom.closest("figure").querySelector("svg").getBoundingClientRect().width;
said.zoom = [wide()]; zoom.click(); said.zoom.push(wide(), zoom.getAttribute("aria-pressed"));
said.requested = performance.getEntriesByType("resource").map((entry) => entry.name);
said.sideways = document.documentElement.scrollWidth - document.documentElement.clientWidth;
said.injected = document.querySelectorAll("td b b, td script").length;
setTimeout(() => {
  said.followed = cells("time", document.getElementById("table-matrix_recurrence"));
  const out = document.createElement("pre");
  out.id = "said"; out.textContent = JSON.stringify({ ...said, errors: window.errors });
  document.body.append(out);
}, 100);
"""
PHONE = """
<!DOCTYPE html><html><body style="margin:0"><iframe id="phone" src="page.html" style="width:390px;height:844px;border:0"></iframe>
<script>
phone.onload = () => {
  const page = phone.contentDocument, root = page.documentElement, said = {};
  said.width = phone.contentWindow.innerWidth;
  said.scrolls = root.scrollWidth;
  said.beyond = [...page.querySelectorAll("body *")].filter((x) => x.getBoundingClientRect().right > 390.5
    && !x.closest(".scroll, .links, thead")).map((x) => `${x.tagName}.${x.className}`);
  said.boxes = [...page.querySelectorAll(".scroll")].map((x) => x.getBoundingClientRect().right).filter((x) => x > 390.5).length;
  const row = page.querySelector("#table-linear_recurrence tr.seqpar");
  const box = (name) => { const b = row.querySelector(`td.${name}`).getBoundingClientRect(); return [b.left, b.right]; };
  said.card = ["who", "time", "speed-up"].map(box);
  said.picture = page.querySelector(".picture").scrollWidth > page.querySelector(".picture").clientWidth;
  page.querySelector('#table-plan_buckets th[data-column="time"] button').click();
  said.sorted = page.querySelector('#table-plan_buckets th[data-column="time"]').getAttribute("aria-sort");
  const out = document.createElement("pre");
  out.id = "said"; out.textContent = JSON.stringify(said);
  document.body.append(out);
};
</script></body></html>
"""


@pytest.fixture(scope="module")
def text() -> str:
    run = bench_runs.made_up_run()
    # The largest pictures take longest.
    few = [row for row in run.rows if row.operation in ("matrix_recurrence", "plan_buckets")]
    return page(run, plots.draw(Run(date=run.date, rows=few, limits=run.limits)))


@pytest.fixture(scope="module")
def desktop(text: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a browser of 1280 pixels says of the page, opened by a link to a sorted table."""
    folder = tmp_path_factory.mktemp("desktop")
    watch = "<script>window.errors = []; addEventListener('error', (e) => errors.push(e.message), true);"
    watch += "console.error = (...x) => errors.push(x.join(' '));"
    watch += "addEventListener('securitypolicyviolation', (e) => errors.push(e.violatedDirective));</script>"
    listening = text.replace("<title>", f"{watch}<title>", 1)
    (folder / "page.html").write_text(listening.replace("</body>", f"<script>{DESKTOP}</script></body>"))
    return said(folder / "page.html", folder, "#sort=table-linear_recurrence-growth:exponent:desc")


@pytest.fixture(scope="module")
def phone(text: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """In a frame as wide as a phone: a window cannot be as narrow."""
    folder = tmp_path_factory.mktemp("phone")
    (folder / "page.html").write_text(text)
    (folder / "frame.html").write_text(PHONE)
    return said(folder / "frame.html", folder)


def said(path: Path, folder: Path, fragment: str = "") -> dict[str, Any]:
    assert BROWSER is not None
    heard = ""
    for attempt in range(3):
        # A browser that gets no core for long may end before its page has spoken; a wrong page is wrong each time.
        command = [
            BROWSER,
            *FLAGS,
            f"--user-data-dir={folder / f'profile{attempt}'}",
            "--window-size=1280,900",
        ]
        command += ["--virtual-time-budget=5000", "--dump-dom", path.as_uri() + fragment]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        found = re.search(r'<pre id="said">(.*?)</pre>', done.stdout, re.DOTALL)
        if found is not None:
            answer: dict[str, Any] = json.loads(html.unescape(found.group(1)))
            return answer
        heard += f"\n{done.returncode}, {len(done.stdout)} characters of page; {done.stderr[-1000:]}"
    pytest.fail(f"the page said nothing: {heard}")


class Tags(HTMLParser):
    """Attributes that make a browser fetch, names that must be unique, and tags that are not closed."""

    VOID = frozenset({"meta", "link", "input", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.names: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "action", "data") and not str(
                value
            ).startswith(("#", "data:")):
                self.fetched.append(f"{tag} {name}={value}")
            if name == "id":
                self.names.append(str(value))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_one_file_with_closed_tags_and_unique_names(text: str) -> None:
    tags = Tags()
    tags.feed(text)
    assert tags.fetched == []
    assert tags.open == []
    assert len(tags.names) == len(set(tags.names))
    assert not re.search(r"url\((?!#)|@import|fetch\(|XMLHttpRequest", text)


def test_awkward_words_are_escaped_everywhere(text: str) -> None:
    assert '<b>"x"' not in text and "<twice>" not in text and "<8&9>" not in text
    assert html.escape(bench_runs.AWKWARD) in text
    assert text.count("</script>") == text.count("<script>")


def test_kinds_and_devices_are_escaped_too() -> None:
    bad = '"><script>x</script>'
    lengths = (256, 512, 1024, 2048)
    rows = [bench_runs.made_up_row(1e-6 * n, kind=bad, sweep="s", length=n, device=bad) for n in lengths]
    shown = page(Run(date="", rows=[*rows, bench_runs.made_up_row(1e-3, kind=bad)]))
    assert bad not in shown
    assert shown.count(f'<tr class="{html.escape(bad)}') == len(rows) + 2


def test_every_deep_link_has_its_table_and_every_operation_its_section(text: str) -> None:
    for name in ("linear_recurrence", "matrix_recurrence", "plan_buckets", "solve_recurrence"):
        assert f'<section id="{name}"' in text
        assert f'<table id="table-{name}">' in text
        assert f'href="#{name}"' in text


def test_a_page_without_pictures_says_how_to_get_them() -> None:
    shown = page(bench_runs.made_up_run(), (), "Run `pip install 'seqpar[report]'`.")
    assert "<svg" not in shown
    assert "pip install &#x27;seqpar[report]&#x27;" in shown


def test_a_page_of_no_rows_is_a_page() -> None:
    shown = page(Run(date="2026-05-04", machine={"cpu": "a CPU"}))
    tags = Tags()
    tags.feed(shown)
    assert "<h1>a CPU</h1>" in shown
    assert tags.open == []


@needs_browser
def test_a_click_sorts_numbers_by_value_and_another_the_other_way(desktop: dict[str, Any]) -> None:
    timed = ["0.32 ns", "2,320 s", "9,300 s"]
    assert desktop["up"][:3] == timed
    assert desktop["down"][:3] == timed[::-1]
    assert (desktop["upSort"], desktop["downSort"]) == ("ascending", "descending")


@needs_browser
def test_rows_without_times_are_last_either_way_and_in_the_order_of_the_run(desktop: dict[str, Any]) -> None:
    failed = [*(f"peer {i}" for i in range(7)), "diffrax"]
    assert desktop["before"][3:] == failed
    assert desktop["upWho"][3:] == failed
    assert desktop["downWho"][3:] == failed


@needs_browser
def test_infinity_is_more_than_any_number(desktop: dict[str, Any]) -> None:
    assert desktop["error"] == ["0", "inf"]


@needs_browser
def test_words_are_sorted_as_words_and_one_column_is_marked(desktop: dict[str, Any]) -> None:
    assert desktop["framework"] == sorted(desktop["framework"])
    assert desktop["others"] == 1


@needs_browser
def test_a_header_takes_the_focus_of_the_keyboard(desktop: dict[str, Any]) -> None:
    assert desktop["focus"] == "speed-up"


@needs_browser
def test_a_link_opens_the_page_with_its_table_sorted(desktop: dict[str, Any]) -> None:
    assert desktop["link"]["sorted"].count("descending") == 1
    numbers = [float(words.split()[0]) for words in desktop["link"]["exponents"]]
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[0] == 1.2


@needs_browser
def test_sorting_leaves_a_link_to_itself_and_a_new_link_is_followed(desktop: dict[str, Any]) -> None:
    assert desktop["upHash"] == "#sort=table-solve_recurrence:time:asc"
    assert desktop["followed"][0] == "146 ms"
    assert desktop["followed"][-1] == "400 us"


@needs_browser
def test_the_filter_shows_rows_with_all_words_and_counts_them(desktop: dict[str, Any]) -> None:
    assert desktop["filtered"]["here"] == 1
    assert desktop["filtered"]["elsewhere"] == 0
    assert re.fullmatch(r"1 of \d+ rows", desktop["filtered"]["count"])
    assert desktop["unfiltered"] == {"here": 11, "count": ""}


@needs_browser
def test_a_picture_can_be_made_larger(desktop: dict[str, Any]) -> None:
    small, large, pressed = desktop["zoom"]
    assert large > 1.3 * small
    assert pressed == "true"


@needs_browser
def test_the_browser_finds_no_error_and_asks_the_network_for_nothing(desktop: dict[str, Any]) -> None:
    assert desktop["errors"] == []
    assert desktop["requested"] == []
    assert desktop["injected"] == 0
    assert desktop["sideways"] <= 0


@needs_browser
def test_on_a_phone_the_page_does_not_scroll_sideways(phone: dict[str, Any]) -> None:
    assert phone["width"] == 390
    assert phone["scrolls"] <= 390
    assert phone["beyond"] == []
    assert phone["boxes"] == 0


@needs_browser
def test_on_a_phone_a_row_is_a_card_whose_numbers_are_in_sight(phone: dict[str, Any]) -> None:
    assert all(0 < left < right <= 390 for left, right in phone["card"])
    assert phone["sorted"] == "ascending"


@needs_browser
def test_on_a_phone_a_picture_scrolls_in_its_own_box(phone: dict[str, Any]) -> None:
    assert phone["picture"]
