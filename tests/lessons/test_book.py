"""The HTML book, on the sample lesson; each promise of it with a fault that breaks it."""

import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pytest
from rich.console import Console

from scratchlm.lessons import all_lessons, book, display, figure, page, render, slider
from scratchlm.lessons.display import Output, to_html

BOOK = Path(__file__).parents[2] / "lessons" / "book"


@pytest.fixture
def lesson(sample):
    return sample


# ---------------------------------------------------------------- what a built book must hold


class Links(HTMLParser):
    """The ids of a page, the links that a reader may follow, and what a browser loads by itself."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.targets, self.loaded = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids.add(attributes.get("id"))
        if tag == "a":
            self.targets.append(attributes.get("href") or "")
        elif tag == "link" and attributes.get("rel") not in ("index", "search", "next", "prev"):
            self.loaded.append(attributes.get("href") or "")
        self.loaded += [attributes.get(key) or "" for key in ("src", "srcset", "poster", "data")]


def requests(out):
    """Everything outside of the book that a browser would ask for when it opens a page of it."""
    found = []
    for path in out.rglob("*"):
        if path.suffix == ".html":
            loaded = Links(path.read_text(encoding="utf-8")).loaded
            found += [(path.name, each) for each in loaded if re.match(r"(https?:)?//", each)]
        elif path.suffix == ".css":
            text = path.read_text(encoding="utf-8")
            away = re.findall(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")]+)", text)
            found += [(path.name, each) for each in away]
    return found


def broken(out):
    """The links between pages that lead nowhere: no such file, or no such place in it."""
    pages = {p: Links(p.read_text(encoding="utf-8")) for p in out.rglob("*.html")}
    found = []
    for path, links in pages.items():
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc or not target:
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            missing = not file.exists()
            place = unquote(parts.fragment)
            if missing or (place and file in pages and place not in pages[file].ids):
                found.append((path.name, target))
    return found


def build(folder, out, root):
    return subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(folder), str(out)],
        env={**os.environ, "SCRATCHLM_LESSONS": str(root)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )


CHROME = shutil.which("chromium") or shutil.which("google-chrome")


def dom(address):
    """The page as a browser has it, after its scripts have run for five seconds of its own time."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000",
               "--allow-file-access-from-files"]  # fmt: skip
    done = subprocess.run(
        [CHROME, *options, "--dump-dom", address],
        capture_output=True, text=True, encoding="utf-8", timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


# What is wrong with a page on a phone, in light and in dark: what makes the whole page scroll
# sideways, formulas not understood, images that did not load, text too faint to read.
LOOK = """
const seen = e => getComputedStyle(e).visibility !== 'hidden' && e.getClientRects().length;
const numbers = text => text.match(/[\\d.]+/g).map(Number);
const over = ([r, g, b, a = 1], under) => [r, g, b].map((x, i) => x * a + under[i] * (1 - a));
const linear = x => x < 0.04 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
const share = [0.2126, 0.7152, 0.0722];
const light = rgb => rgb.reduce((sum, x, i) => sum + linear(x / 255) * share[i], 0.05);
function parents(e) { return e ? [...parents(e.parentElement), e] : []; }
function look(page, theme) {
  page.body.dataset.theme = theme;
  const found = [], width = page.documentElement.clientWidth, view = page.defaultView;
  const style = e => view.getComputedStyle(e);
  for (const e of page.querySelectorAll('.content *')) {
    const box = e.getBoundingClientRect(), words = e.textContent.trim().slice(0, 20);
    const inside = parents(e.parentElement).some(a => a.closest('article')
      && style(a).overflowX === 'auto' && a.getBoundingClientRect().right <= width + 1);
    if (seen(e) && box.right > width + 1 && !inside) found.push(`wide: ${e.tagName} ${words}`);
    if (e.localName === 'merror') found.push(`formula: ${words}`);
    if (e.tagName === 'IMG' && !e.naturalWidth) found.push(`image: ${e.alt}`);
    const text = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!text || !seen(e) || ['STYLE', 'SCRIPT'].includes(e.tagName)) continue;
    let below = [255, 255, 255], ink = numbers(style(e).color);
    for (const a of parents(e)) below = over(numbers(style(a).backgroundColor), below);
    const [dim, bright] = [light(over(ink, below)), light(below)].sort((a, b) => a - b);
    if (bright / dim < 4.5) found.push(`faint in ${theme}: ${words}`);
  }
  return found;
}
addEventListener('load', () => {
  const page = document.querySelector('iframe').contentDocument;
  page.head.insertAdjacentHTML('beforeend', '<style>* { transition: none !important }</style>');
  const found = ['light', 'dark'].flatMap(theme => look(page, theme));
  document.body.innerHTML = `<pre>${JSON.stringify([...new Set(found)])}</pre>`;
});
"""


def faults(page, folder):
    """What :data:`LOOK` finds on a page that is 390 pixels wide."""
    frame = f'<iframe src="{page.as_uri()}" width="390" height="844" style="border: 0"></iframe>'
    file = folder / "look.html"
    file.write_text(f"<!doctype html><script>{LOOK}</script><body>{frame}", encoding="utf-8")
    return json.loads(
        unescape(re.search("<body><pre>(.*?)</pre>", dom(file.as_uri()), re.DOTALL)[1])
    )


def search(out, word):
    """The pages that the book's own search finds, opened from the disk."""
    text = dom(f"{(out / 'search.html').as_uri()}?q={quote(word)}")
    assert "Search finished" in text or "did not match" in text
    found = text.partition('<ul role="list" class="search">')[2].partition("</ul>")[0]
    pages = re.findall(r'href="([^"#]*)', found)
    return list(dict.fromkeys(pages))


@pytest.mark.slow
def test_book_is_built_with_results_and_without_a_network(lesson, tmp_path):
    pytest.importorskip("myst_nb", reason="the book needs the dependency group `book`")
    folder, out = tmp_path / "book", tmp_path / "out"
    made = shutil.ignore_patterns("pages", "extra", "_build", "glossary.md", "formulas.md")
    shutil.copytree(BOOK, folder, ignore=made)
    done = build(folder, out, lesson.root)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "01_scale ran in" in done.stderr

    text = (out / "pages" / "01_scale.html").read_text(encoding="utf-8")
    for piece in ("<mfrac>", "the hook is 0.5", 'alt="a line that rises to two"', "By hand",
                  "costs $3 and $4", '<input type="range"', ">(1.1)</a>",
                  '<div class="pieces"', '</math>,</span>'):  # fmt: skip
        assert piece in text
    assert "Scaling" in (out / "index.html").read_text(encoding="utf-8")
    terms = (out / "glossary.html").read_text(encoding="utf-8")
    assert re.findall(r"<td><p>(line|直线|scale|缩放)</p></td>", terms) == [
        "line",
        "直线",
        "scale",
        "缩放",
    ]
    formulas = (out / "formulas.html").read_text(encoding="utf-8")
    assert "D5 §4.1" in formulas
    assert "misprinted" in formulas
    assert 'href="pages/01_scale.html#equation-eq-01-1"' in formulas

    files = out / "files" / "01_scale"
    assert (files / "exercise.py").read_text() == (lesson.folder / "exercise.py").read_text()
    offered = json.loads((files / "01_scale.ipynb").read_text(encoding="utf-8"))
    assert not any(cell.get("outputs") for cell in offered["cells"])
    assert "[lesson" not in str(offered)  # links are the book's

    assert requests(out) == []
    assert broken(out) == []
    found = (out / "searchindex.js").read_text(encoding="utf-8")
    assert found.startswith("Search.setIndex(")  # a script, which a browser loads from a disk
    assert "glossary" in found

    if CHROME is not None:
        for name in ("index", "glossary", "formulas", "search", "pages/01_scale"):
            assert faults(out / f"{name}.html", tmp_path) == [], name
        whole = text.replace("the hook is 0.5", '<b style="color: #777">dim</b>').replace(
            "<h1>", '<div style="width: 600px">broad</div><merror>E</merror><img alt="I"><h1>', 1
        )
        planted = out / "pages" / "planted.html"
        planted.write_text(whole, encoding="utf-8")
        assert faults(planted, tmp_path) == [
            "wide: DIV broad", "formula: E", "image: I", "faint in light: dim", "faint in dark: dim"
        ]  # fmt: skip
        planted.unlink()

        assert search(out, "scale")[0] == "pages/01_scale.html"
        assert "glossary.html" in search(out, "缩放")
        assert search(out, "nonsense") == []

    # the faults that these two would find
    style, index = out / "_static" / "book.css", out / "index.html"
    style.write_text("@import 'https://fonts.example/a.css';" + style.read_text())
    whole = index.read_text(encoding="utf-8")
    index.write_text(whole + '<script src="//cdn.example/x.js"></script>', encoding="utf-8")
    assert {name for name, _ in requests(out)} == {"book.css", "index.html"}
    index.write_text(whole + '<a href="glossary.html#none">', encoding="utf-8")
    assert broken(out) == [("index.html", "glossary.html#none")]
    (files / "exercise.py").unlink()
    assert ("01_scale.html", "../files/01_scale/exercise.py") in broken(out)

    # built again, nothing runs; a page that fails stops the book and says where
    assert "ran in" not in build(folder, out, lesson.root).stderr
    source = lesson.folder / "lesson.py"
    source.write_text(source.read_text(encoding="utf-8").replace('"the hook is"', "hook"))
    done = build(folder, out, lesson.root)
    assert done.returncode != 0
    assert "01_scale did not run" in done.stderr
    assert "NameError" in done.stderr


# ---------------------------------------------------------------- glossary and formulas


def test_terms_come_from_the_recap(lesson, edit):
    assert [(t.english, t.chinese, t.note) for t in book.terms(lesson)] == [
        ("scale", "缩放", "a number before $x$"),
        ("line", "直线", ""),
    ]
    edit("lesson.py", "| line | 直线 | |", "| line | straight | |")
    with pytest.raises(ValueError, match=r"01_scale, recap: the term \['line', 'straight', ''\]"):
        book.terms(lesson)
    edit("lesson.py", "| English | 中文 | here |", "| English | here |")
    with pytest.raises(ValueError, match="01_scale: the recap has no table that begins"):
        book.terms(lesson)


def test_a_term_of_two_lessons_stands_once(lesson):
    text = book.glossary([lesson, lesson])
    assert text.count("| scale |") == 1
    assert text.count("(pages/01_scale.ipynb)") == 4


@pytest.mark.parametrize("lesson", all_lessons(), ids=lambda each: each.name)
def test_every_recap_has_its_terms(lesson):
    assert not lesson.complete or len(book.terms(lesson)) >= 3


def as_typed(text):
    """Formulas that Markdown did not take for such: it shows their dollars."""
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    markdown_it = pytest.importorskip("markdown_it")
    reader = markdown_it.MarkdownIt("commonmark").enable("table")
    reader.use(dollarmath_plugin, double_inline=True, allow_digits=False)
    words = [c for token in reader.parse(text) for c in token.children or () if c.type == "text"]
    return [each.content for each in words if re.search(r"\$(?!\d)", each.content)]


@pytest.mark.parametrize("lesson", all_lessons(), ids=lambda each: each.name)
def test_no_formula_is_shown_as_it_was_typed(lesson):
    pytest.importorskip("mdit_py_plugins", reason="comes with the dependency group `book`")
    for cell in page.read_cells(lesson.folder / "lesson.py") if lesson.complete else ():
        if cell.kind == "markdown":
            assert as_typed(cell.text) == [], f"line {cell.line}"
    assert as_typed("$3 and $4 are prices; $x$ by itself is none") != []  # one or the other
    assert as_typed("it costs $3 and $4") == as_typed("let $x$ be") == []
    # one that begins a paragraph or a cell that ends with a digit is taken for a price
    assert as_typed("| a |\n|---|\n| $x$, which is 1 |") == ["$x$, which is 1"]
    assert as_typed("$x$ of $y$ are 0") == ["$x", "y$ are 0"]


def accidental(text):
    """Lines of a paragraph that begin as a list does, which makes them one: "sums to", "1. How"."""
    lines = text.splitlines()
    item = re.compile(r"\s+|[-+*] |\d+[.)] |[|#]|$")
    return [
        line
        for before, line in itertools.pairwise(lines)
        if re.match(r"([-+*]|1[.)]) ", line) and not item.match(before)
    ]


@pytest.mark.parametrize("lesson", all_lessons(), ids=lambda each: each.name)
def test_no_line_of_a_paragraph_becomes_a_list(lesson):
    for cell in page.read_cells(lesson.folder / "lesson.py") if lesson.complete else ():
        if cell.kind == "markdown":
            outside = re.sub(r"```.*?```|\$\$.*?\$\$", "", cell.text, flags=re.DOTALL)
            assert accidental(outside) == [], f"the cell of line {cell.line}"
    assert accidental("one row that sums to\n1. How many?") == ["1. How many?"]
    assert accidental("x\n- y, and\n\n1. z\n   of\n2. w\n\n- v\n- u") == ["- y, and"]


def test_every_formula_of_the_index_is_on_the_formula_page():
    lessons = [each for each in all_lessons() if each.complete]
    text = book.formula_index(lessons)
    for lesson in lessons:
        for formula in lesson.formulas:
            assert f"**{formula.name}**" in text
            assert formula.latex in text
            assert formula.printed in text
            for document in formula.documents:
                assert f"### {document}\n" in text
    sections = re.findall(r"^### (D.*)$", text, re.MULTILINE)
    assert len(set(sections)) == len(sections)
    assert sections == sorted(sections, key=book._section)
    assert book._section("D1 §4.9") < book._section("D1 §4.10") < book._section("")


def test_a_formula_is_found_where_it_stands(lesson, edit):
    formula = lesson.formulas[0]
    assert book.place(formula, lesson) == ("equation-eq-01-1", "(1.1)")
    edit("lesson.py", r"# y = \frac{x W^T}{1} + b", "# $$\n#\n# $$\n# y = \\frac{x \\, W^T}{1}+b")
    edit("lesson.py", "# $$\n# $$\n#\n# $$", "# $$\n# a = c\n# $$\n#\n# $$")
    assert book.place(formula, lesson) == ("equation-eq-01-2", "(1.2)")
    edit("lesson.py", r"# y = \frac{x \, W^T}{1}+b", r"# z = \sqrt{u}")
    assert book.place(formula, lesson) == ("formula", "")


def test_formulas_have_their_numbers_in_the_terminal_and_in_a_page_of_its_own(lesson):
    cells = page.read_cells(lesson.folder / "lesson.py")
    for width in (60, 100):
        console = Console(width=width, file=io.StringIO())
        console.print(*render.terminal(lesson, cells))
        assert console.file.getvalue().count("(1.1)") == 1
    html = render.page(lesson, cells)
    assert 'id="eq-01-1"' in html
    assert '<span class="number">(1.1)</span>' in html
    wide = "$$\n" + " + ".join(f"a_{{{i}}}" for i in range(18)) + "\n$$ (eq-01-2)"
    console = Console(width=80, file=io.StringIO())
    console.print(*render.markdown(wide))  # no room beside it: the number stands below
    assert "a₁₇" in console.file.getvalue()
    assert console.file.getvalue().rstrip().endswith("(1.2)")


# ---------------------------------------------------------------- links and notebooks


def test_lessons_are_linked_in_prose_only(lesson):
    pages = {each.number: each for each in page_lessons(lesson)}
    to_4 = "(04_later.ipynb)"
    for text, expected in [
        ("see lesson 04.", f"see [lesson 04]{to_4}."),
        ("Lesson\n04", f"[Lesson\n04]{to_4}"),
        ("lessons 02, 04 and 01", f"lessons 02, [04]{to_4} and 01"),
        ("`lesson 04`, $lesson 04$", "`lesson 04`, $lesson 04$"),
        ("```\nlesson 04\n```", "```\nlesson 04\n```"),
        ("[lesson 04](elsewhere)", "[lesson 04](elsewhere)"),
        ("lesson 01, lesson 09, lesson 4", "lesson 01, lesson 09, lesson 4"),
        ("by formula (1.1),", 'by <a href="#equation-eq-01-1">formula (1.1)</a>,'),
        ("formula (9.1), (1.1)", "formula (9.1), (1.1)"),
    ]:
        assert book.linked(text, pages[1], pages) == expected
    with pytest.raises(ValueError, match=r"names formula \(1.3\), but 01_scale has 1 numbered"):
        book.linked("formula (1.3)", pages[1], pages)


def page_lessons(lesson):
    from scratchlm.lessons.index import read_index

    return read_index(lesson.root)


def test_the_card_has_its_prerequisites_as_links(lesson):
    first, later = page_lessons(lesson)
    card = Output("table", "04", rows=[["before it", "01"], ["time", "5 minutes"]])
    html = book.linked_card(to_html(card), later, {1: first, 4: later})
    assert '<td><a href="01_scale.html">01 Scaling</a></td>' in html
    assert '<a href="../files/04_later/04_later.ipynb" download>' in html
    cited = Output("table", "01", rows=[["before it", "none"], ["documents", "D5 §4.1"]])
    html_of_first = book.linked_card(to_html(cited), first, {1: first})
    assert '<td><a href="../formulas.html#d5-4-1">D5 §4.1</a></td>' in html_of_first
    assert "<td>01</td>" in book.linked_card(to_html(card), later, {})  # no such page: no link
    other = to_html(Output("table", "", rows=[["before it", "nothing"]]))
    assert book.linked_card(other, later, {1: first}) == other


@pytest.mark.slow
def test_the_offered_notebook_runs(lesson, tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="comes with the dependency group `book`")
    client = pytest.importorskip("nbclient", reason="comes with the dependency group `book`")
    cells = page.read_cells(lesson.folder / "lesson.py")
    whole = nbformat.reads(book.notebook(cells), as_version=4)
    nbformat.validate(whole)
    client.NotebookClient(whole, timeout=120, resources={"metadata": {"path": tmp_path}}).execute()
    shown = str(whole)
    for piece in ("the hook is 0.5", "a line that rises to two", "a line to 2.0", "return x / 2"):
        assert piece in shown


def test_a_number_in_a_table_is_not_broken():
    whole = ["1.5e-05", "8 × 10 × 10", "(2, 3)"]
    html = to_html(
        Output("table", rows=[[*whole, "1e-05 or less", "-2", "e-mail", "(a, b)", "a × b"]])
    )
    assert re.findall("<td( [^>]*)?>", html) == [' style="white-space: nowrap"'] * 3 + [""] * 5


# ---------------------------------------------------------------- sliders


def draw(drawn):
    def line(slope):
        drawn.append(slope)
        fig, ax = figure(width=2, height=1)
        ax.plot([0, slope])
        return fig

    return line


def test_a_slider_draws_all_frames_for_a_page_and_one_for_a_script(monkeypatch, capsys):
    drawn, seen = [], []
    options = {"label": "slope", "alt": lambda slope: f"to {slope}", "start": 1}
    slider([1, 2, 3], draw(drawn), **options)
    assert drawn == [2]
    assert "[figure] slope = 2: to 2" in capsys.readouterr().out
    monkeypatch.setattr(display, "collector", seen.append)
    slider([1, 2, 3], draw(drawn), **options)
    assert drawn == [2, 1, 2, 3]
    html = to_html(seen[0])
    images = re.findall(r"<img[^>]*>", html)
    assert len(images) == 3
    # without JavaScript: the figure of `start` is seen, the others are not
    assert ["display: none" in each for each in images] == [True, False, True]
    assert [re.search(r'alt="(.*?)"', each)[1] for each in images] == ["to 1", "to 2", "to 3"]
    control = re.search(r"<label>slope (<input.*?>) <output>2</output></label>", html, re.DOTALL)[1]
    for piece in ('type="range"', 'max="2"', 'value="1"', 'aria-valuetext="2"', "oninput="):
        assert piece in control
    assert "scripting: none" in html
    assert "http" not in re.sub(r'src="data:.*?"', "", html)


def test_a_figure_is_drawn_where_it_is_seen(monkeypatch, capsys):
    fig, seen, saved = figure(width=2, height=1)[0], [], []
    save = fig.savefig
    monkeypatch.setattr(fig, "savefig", lambda *a, **o: (saved.append(1), save(*a, **o)))
    display.show(fig, alt="nothing yet")
    assert "[figure] nothing yet" in capsys.readouterr().out
    assert not saved
    monkeypatch.setattr(display, "collector", seen.append)
    display.show(fig, alt="nothing yet")
    assert len(saved) == 1
    assert seen[0].png.startswith(b"\x89PNG")


def test_a_slider_refuses_what_it_cannot_show():
    line = draw([])
    with pytest.raises(ValueError, match="slider: start=3 is no index of the 3 values"):
        slider([1, 2, 3], line, label="slope", alt="a line", start=3)
    with pytest.raises(ValueError, match="slider: start=0 is no index of the 0 values"):
        slider([], line, label="slope", alt="a line")
    with pytest.raises(ValueError, match="slider: label is empty"):
        slider([1], line, label=" ", alt="a line")
    with pytest.raises(ValueError, match="slider: alt is empty"):
        slider([1], line, label="slope", alt="")


def test_what_a_slider_has_shown_is_kept(lesson, tmp_path):
    frames = [Output("figure", f"to {i}", png=bytes([i]), value=str(i)) for i in range(3)]
    cells = [page.Cell("code", "x", 1, [Output("slider", "slope", frames=frames, start=2)])]
    page.save_outputs(lesson, cells, tmp_path / "kept.json")
    assert page.load_outputs(lesson, tmp_path / "kept.json") == cells


@pytest.mark.skipif(CHROME is None, reason="needs Chromium, to move a slider")
def test_a_moved_slider_shows_another_figure(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(display, "collector", seen.append)
    slider([1, 2, 3], draw([]), label="slope", alt=lambda slope: f"to {slope}", start=1)
    move = (
        "<script>const s = document.querySelector('input'); s.value = 2; "
        "s.dispatchEvent(new Event('input'))</script>"
    )
    file = tmp_path / "page.html"
    file.write_text(f"<!doctype html><meta charset=utf-8>{to_html(seen[0])}{move}")
    text = dom(file.as_uri())
    images = re.findall(r"<img[^>]*>", text)
    assert ["display: none" in each for each in images] == [True, True, False]
    assert "<output>3</output>" in text
    assert 'aria-valuetext="3"' in text
