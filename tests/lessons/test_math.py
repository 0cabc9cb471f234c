"""Formulas for the terminal and the browser."""

import io
import re
from xml.etree import ElementTree as ET

import pytest
from rich.cells import cell_len
from rich.console import Console

from scratchlm.lessons import all_lessons, math, page, render

FORMULAS = [
    latex
    for lesson in all_lessons()
    for formula in lesson.formulas
    for latex in (formula.latex, formula.printed)
    if latex
]


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"\frac{a+1}{\sqrt{d_k}}", "(a + 1)/√dₖ"),
        (r"x_i^2", "xᵢ²"),
        (r"e^{-x}", "e⁻ˣ"),
        (r"W_Q x", "W_Q x"),
        (r"\sum_{i=1}^{n} p_i \log q_i", "∑ᵢ₌₁ⁿ pᵢ log qᵢ"),
        (r"-\frac{1}{T} \sum_t", "−1/T ∑ₜ"),
        (r"\hat{m}_t + \bar{x}", "m\u0302ₜ + x\u0304"),
        (r"Q K^T", "QKᵀ"),
        (r"x \in \mathbb{R}^{n \times d}", "x ∈ ℝ^(n × d)"),
        (r"\mathrm{softmax}(x)_i", "softmax(x)ᵢ"),
        (r"\text{if } x > 0", "if x > 0"),
        (r"\theta_{t+1} = \theta_t - \alpha g", "θₜ₊₁ = θₜ − αg"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "(1 2; 3 4)"),
        (r"a' , f''", "a′, f′′"),
        (r"f'''", "f‴"),
    ],
)
def test_inline(latex, text):
    assert math.inline(latex).replace("″", "′′") == text


@pytest.mark.parametrize(
    ("latex", "picture"),
    [
        (r"y = \frac{x - \mu}{2}", ["    x − μ", "y = ─────", "      2"]),
        (r"\sum_{t=1}^{T} x_t", [" T", " ∑  xₜ", "t=1"]),
        (r"\left(\frac{a}{b}\right)^2", ["      2", "⎛ a ⎞", "⎜ ─ ⎟", "⎝ b ⎠"]),
        (r"\begin{pmatrix}1&20\\3&4\end{pmatrix}", ["⎛1  20⎞", "⎝3  4 ⎠"]),
        (r"\begin{cases}1 & x > 0\\0 & \text{else}\end{cases}", ["⎰1  x > 0", "⎱0  else"]),
        (r"\begin{aligned}a &= b\\c &= d\end{aligned}", ["a = b", "c = d"]),
    ],
)
def test_display(latex, picture):
    assert math.display(latex).splitlines() == picture


@pytest.mark.parametrize("latex", FORMULAS)
def test_every_formula_of_the_index(latex):
    for text in (math.inline(latex), math.display(latex)):
        assert text.strip()
        assert "\\" not in text
        # the braces that are meant to be seen
        drawn = latex.count("\\begin{cases}") + latex.count(r"\{")
        assert text.count("{") <= drawn
    for block in (False, True):
        ET.fromstring(math.mathml(latex, block=block).replace("&=", "&amp;="))  # well-formed


@pytest.mark.parametrize("latex", FORMULAS)
def test_a_formula_in_pieces_is_the_formula(latex):
    def leaves(text):
        return [(e.tag, e.text) for e in ET.fromstring(text).iter() if len(e) == 0]

    whole = ET.tostring(math.tree(latex, block=True), "unicode").replace("&amp;#x", "&#x")
    made = math.mathml(latex, block=True)
    spaces = ("{http://www.w3.org/1998/Math/MathML}mspace", None)
    names = [each for each in leaves(made) if each != spaces]
    assert names == [each for each in leaves(whole) if each != spaces]
    assert made.count("aria-label") == 1


@pytest.mark.parametrize(
    ("latex", "pieces"),
    [
        (r"a = b", ["a", "=b"]),
        (r"a = -b - c", ["a", "=−b", "−c"]),  # a minus is a sign of its number
        (r"f(x = y) = [i = j]", ["f(x=y)", "=[i=j]"]),
        (r"|a + b| \le |c|", ["|a+b|", "≤|c|"]),
        (r"a, \quad b = c", ["a,", "b", "=c"]),
        (r"a \quad = -b", ["a", "=−b"]),
        (r"a \cdots = b", ["a⋯", "=b"]),
        (r"\left( a = b \right)", ["(a=b)"]),
        (r"\begin{aligned} a &= b \\ c &= d \end{aligned}", ["a=bc=d"]),
    ],
)
def test_where_a_wide_formula_may_go_on_in_the_next_line(latex, pieces):
    made = ET.fromstring(math.mathml(latex, block=True))
    found = [*made.iter("{http://www.w3.org/1998/Math/MathML}math")]
    assert ["".join(each.itertext()) for each in found] == pieces
    assert math.mathml(latex).count("<math") == 1  # in a sentence it is one


@pytest.mark.parametrize(
    ("latex", "forms"),
    [
        (r"u |f| + |g|", ["prefix", "postfix"] * 2),
        (r"\| x \|", ["prefix", "postfix"]),
        (r"\left| x \right|", ["prefix", "postfix"]),
        (r"a | b", [None]),  # one alone may be anything
    ],
)
def test_bars_are_brackets_in_the_browser(latex, forms):
    signs = ET.fromstring(math.mathml(latex)).iter("{http://www.w3.org/1998/Math/MathML}mo")
    assert [each.get("form") for each in signs if each.text in "|‖"] == forms


def test_a_line_over_a_formula_is_as_long_as_the_formula():
    made = ET.fromstring(math.mathml(r"\overline{a b} + \bar{c}"))
    lined = [each for each in made.iter() if "border-top" in each.get("style", "")]
    assert ["".join(each.itertext()) for each in lined] == ["ab"]


def test_a_formula_keeps_its_full_stop_and_its_bracket():
    x, block = math.mathml("x"), math.mathml("x", block=True)
    for before, after in [("(", ""), ("", "."), ("(", "),"), ("&quot;", "&quot;"), ("", "，")]:
        expected = f'see <span class="together">{before}{x}{after}</span> and'
        assert math.together(f"see {before}{x}{after} and") == expected
    for text in (f"see {x} and", f"<b>{x}</b>", f"a{x}b", f"{block}."):
        assert math.together(text) == text


def unknown(text):
    """The commands in the formulas of a text that are shown as they were typed."""
    formulas = re.findall(r"\$\$(.+?)\$\$", text, re.DOTALL) + render._INLINE.findall(text)
    shown = [" ".join(ET.fromstring(math.mathml(each)).itertext()) for each in formulas]
    return [found for each in shown for found in re.findall(r"\\\w+", each)]


@pytest.mark.parametrize("lesson", all_lessons(), ids=lambda each: each.name)
def test_every_command_in_the_formulas_of_a_page_is_known(lesson):
    for cell in page.read_cells(lesson.folder / "lesson.py") if lesson.complete else ():
        if cell.kind == "markdown":
            text = re.sub(r"```.*?```|`[^`\n]+`", "", cell.text, flags=re.DOTALL)
            assert unknown(text) == [], f"the cell of line {cell.line}"
    assert unknown(r"$\nosuch{x}$ and $$\nor x$$") == [r"\nor", r"\nosuch"]
    assert unknown(r"$\arg\max_x f(x)$") == []


@pytest.mark.parametrize("lesson", all_lessons(), ids=lambda each: each.name)
def test_plain_formulas_are_one_line_that_any_terminal_shows(lesson):
    for formula in lesson.formulas:
        assert formula.plain.isprintable()
        assert "\\" not in formula.plain
        assert cell_len(formula.plain) <= 120


def test_boxes_are_rectangles():
    for latex in FORMULAS:
        box = math._layout(math.tree(latex, block=True), flat=False)
        assert len({cell_len(line) for line in box.lines}) == 1, latex


def test_a_formula_that_is_not_understood_is_shown_as_it_stands():
    assert render._legible(r"\frac{1}{", math.inline).strip()


def test_code_and_prices_are_no_formulas():
    from rich.console import Console

    console = Console(width=80, record=True, file=io.StringIO())
    console.print(*render.markdown("costs $3 and $4, `$a$` is code, $a_1$ is not, 2 * 3 * 4"))
    text = console.export_text()
    assert "costs $3 and $4" in text
    assert "$a$ is code" in text
    assert "a₁ is not" in text


def test_wide_formulas_are_cut_at_their_gaps_and_lose_nothing():
    wide = rf"m = \frac{{a}}{{b}} + {'c' * 40}, \quad n = \frac{{d}}{{e}} + {'f' * 40}"
    lines = render._drawn(wide).splitlines()
    assert max(map(cell_len, lines)) <= render.WIDTH
    assert [line for line in lines if line.startswith("n = ")]
    assert "g" * 90 in render._drawn("g" * 90).replace(" ", "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("the sum $a_1 +\nb_2$ ends", "the sum a₁ + b₂ ends"),
        ("costs $3 and $4, not $x^2$", "costs $3 and $4, not x²"),
        ("a $x and\n\nanother $y_1$", "a $x and another y₁"),
    ],
)
def test_formulas_in_a_paragraph(text, shown):
    out = io.StringIO()
    Console(file=out, width=70).print(*render.markdown(text))
    assert " ".join(out.getvalue().split()) == shown


@pytest.mark.parametrize(
    ("latex", "spaces"),
    [
        (r"\sin a \sin b", 3),
        (r"x \log_2 y", 2),
        (r"x \exp(y)", 1),
        (r"-\sum_i p_i", 0),
        (r"\sqrt{\sin x}", 1),
        (r"c(w) \log x", 2),
        (r"x \max(0, y)", 1),
        (r"= \max(0, y)", 0),
        (r"\mathrm{argmin}_{a \in M} f(a)", 1),
        (r"\max_j (x)", 1),
        (r"\tanh^{\prime} x", 1),
    ],
)
def test_names_of_functions_stand_apart_in_the_browser(latex, spaces):
    assert math.mathml(latex).count("<mspace") == spaces


def test_a_name_of_a_function_has_no_spaces_of_its_own():
    for name in ("max", "arg\\max", "Pr"):
        assert 'lspace="0" rspace="0"' in math.mathml(rf"x = \{name}(0)")
    assert math.inline(r"\mathrm{argmax}_v p") == "arg\u2009maxᵥ p"
    assert math.inline(r"\tanh^2, x") == "tanh², x"


@pytest.mark.parametrize(
    ("latex", "shown"),
    [
        (r"f^{\prime}", "<mrow><mi>f</mi><mrow><mi>&#x02032;</mi></mrow></mrow>"),
        (r"f''", "<mrow><mi>f</mi><mi>&#x02033;</mi></mrow>"),
        (r"x'_i", "<msub><mrow><mi>x</mi><mi>&#x02032;</mi></mrow><mi>i</mi></msub>"),
        (r"x^{2}", "<msup><mi>x</mi><mrow><mn>2</mn></mrow></msup>"),
    ],
)
def test_a_prime_is_no_exponent_in_the_browser(latex, shown):
    """Or it would be made smaller, and raised, twice."""
    assert shown in math.mathml(latex)
