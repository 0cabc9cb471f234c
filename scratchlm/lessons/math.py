"""LaTeX for a terminal and for a browser, from one tree: the MathML of ``latex2mathml``.

``inline(latex)`` gives one line of Unicode, ``display(latex)`` a picture of several lines with real
fractions, ``mathml(latex)`` what a browser shows without scripts or a network.
"""

from __future__ import annotations

import html
import itertools
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_SUPERSCRIPTS = dict(zip("0123456789+-−=()abcdefghijklmnoprstuvwxyzTABDEGHIJKLMNOPRUVWαβγδεθ⊤′″‴* ",
                         "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᵀᴬᴮᴰᴱᴳᴴᴵᴶᴷᴸᴹᴺᴼᴾᴿᵁⱽᵂᵅᵝᵞᵟᵋᶿᵀ′″‴* ",
                         strict=True))  # fmt: skip
_SUBSCRIPTS = dict(zip("0123456789+-−=()aehijklmnoprstuvxβγρφχ ",
                       "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓᵦᵧᵨᵩᵪ ", strict=True))  # fmt: skip
_ACCENTS = {
    **dict.fromkeys("^ˆ", "\u0302"), **dict.fromkeys("¯‾―", "\u0304"),
    **dict.fromkeys("~˜", "\u0303"),
    **dict.fromkeys("→\u20d7", "\u20d7"), "˙": "\u0307",
}  # fmt: skip
_SPACED = set("=≈≠<>≤≥≪≫∈∉⊂⊆→←⇒⇔↦∼≡∝∣⊙⊕⊗×·±∧∨:∘≜")
_SIGNS = set("+−-")
_TALL = {"(": "⎛⎜⎝", ")": "⎞⎟⎠", "[": "⎡⎢⎣", "]": "⎤⎥⎦", "|": "│││", "∣": "│││", "‖": "‖‖‖"}
_CURLY = {"{": "⎧⎨⎩⎪", "}": "⎫⎬⎭⎪"}


def tree(latex: str, *, block: bool) -> Any:
    """The MathML element of a formula."""
    from latex2mathml.converter import convert_to_element

    latex = re.sub(r"\\begin\{(aligned|align\*?|split)\}", r"\\begin{array}{rlrlrl}", latex)
    latex = re.sub(r"\\arg\s*\\(max|min)(?![a-z])", r"\\arg\1", latex)
    latex = re.sub(r"\\(?:mathrm|operatorname)\{arg(max|min)\}", r"\\arg\1", latex)
    latex = re.sub(r"\\end\{(aligned|align\*?|split)\}", r"\\end{array}", latex)
    return convert_to_element(latex, display="block" if block else "inline")


def mathml(latex: str, *, block: bool = False) -> str:
    """MathML, with the LaTeX as its label for who cannot see it.

    A formula on lines of its own may be wider than a phone, and browsers do not break MathML. So it
    is cut in pieces where paper breaks it, before a relation or a sign and after a gap, and the
    pieces flow like words.
    """
    from xml.etree import ElementTree as ET

    element = tree(latex.strip(), block=block)
    element.set("aria-label", latex.strip())
    for row in list(element.iter()):
        _space_functions(row)
        _pair_bars(row)
        _draw_line(row)
        _raise_primes(row)
    if block and len(pieces := _pieces(element)) > 1:
        attributes = {"class": "pieces", "role": "math", "aria-label": latex.strip()}
        element = element.makeelement("div", attributes)
        for after_gap, piece in pieces:
            if after_gap:
                element.append(element.makeelement("span", {}))
            element[-1].append(piece)
    text = ET.tostring(element, "unicode")
    return text.replace("&amp;#x", "&#x")  # latex2mathml has escaped its characters already


def _pair_bars(row: Any) -> None:
    """The bars of ``|x|`` are brackets, and a browser takes them for signs between two numbers."""
    bars = [child for child in row if _tag(child) == "mo" and _text(child) in ("|", "‖")]
    for index, bar in enumerate(bars if len(bars) % 2 == 0 else ()):
        bar.set("form", ("prefix", "postfix")[index % 2])


def _draw_line(over: Any) -> None:
    """The line over several letters as a border, since few fonts have one that grows."""
    if _tag(over) == "mover" and _text(over[1]) == "―":
        over.remove(over[1])
        over.tag = over.tag.replace("mover", "mrow")
        over.attrib.update(style="border-top: .06em solid; padding-top: .1em")


_OPERANDS = [*")]}|‖!′…⋯"]  # operators that a sign can follow
_BREAKS = [*"=≈≠<>≤≥≪≫∝∼≡≜←→↦⇐⇒⇔⟸⟹⟺"]


def _pieces(formula: Any) -> list[tuple[bool, Any]]:
    """The formula cut where no bracket is open, and of each piece, whether a gap is before it."""
    groups: list[tuple[bool, list[Any]]] = [(True, [])]
    depth, bars, operand = 0, 0, False
    for child in list(formula[0]):
        text, tag = _text(child), _tag(child)
        cut = depth == 0 and bars % 2 == 0
        if cut and operand and tag == "mo" and (text in _BREAKS or text in _SIGNS):
            child.set("form", "infix")  # the first sign of a row would be taken for a minus
            groups.append((False, []))
        groups[-1][1].append(child)
        if cut and tag == "mspace" and child.get("width") in ("1em", "2em"):
            groups.append((True, []))
        if tag == "mo":
            depth += (text in ("(", "[", "{")) - (text in (")", "]", "}"))
            bars += text in ("|", "‖")
        operand = tag not in ("mo", "mspace") or text in _OPERANDS
    made = []
    for after_gap, group in groups:
        if group:
            attributes = {"xmlns": formula.get("xmlns"), "displaystyle": "true"}
            piece = formula.makeelement(formula.tag, attributes)
            piece.append(piece.makeelement("mrow", {}))
            piece[0].extend(group)
            made.append((after_gap, piece))
    return made


_INLINE = re.compile(r'((?:&\w+;|[^\s<>\w&;])*)(<math [^>]*display="inline".*?</math>)'
                     r"((?:&\w+;|[^\s<>\w&])*)", re.DOTALL)  # fmt: skip


def together(page: str) -> str:
    """HTML in which no line begins with the full stop that belongs to a formula, or ends with the
    bracket before one: a browser may break a line on either side of a formula.
    """
    return _INLINE.sub(
        lambda m: f'<span class="together">{m[0]}</span>' if m[1] or m[3] else m[0], page
    )


def _space_functions(row: Any) -> None:
    """Names of functions as TeX spaces them: a thin space on either side, but none before the
    bracket of ``max(0, x)`` and after another sign; and a quotient's ``/`` has no space. Browsers
    give some more and others none.
    """
    for child in row:
        if _tag(child) == "mo" and (_WORDS.fullmatch(_text(child)) or _text(child) == "/"):
            child.attrib.update(lspace="0", rspace="0")
    if _tag(row) not in ("mrow", "mtd", "math", "msqrt"):
        return
    for left, right in itertools.pairwise(list(row)):
        after = _named(left) and (
            _tag(right) != "mo" or _named(right) or (len(left) and _text(right) in ("(", "[", "{"))
        )
        before = _named(right) and (_tag(left) != "mo" or _text(left) in _OPERANDS)
        if after or before:
            space = row.makeelement(right.tag.replace(_tag(right), "mspace"), {"width": "0.17em"})
            row.insert(list(row).index(right), space)


def _named(element: Any) -> bool:
    """Whether it is the name of a function, maybe with an index or a power."""
    return _WORDS.fullmatch(_text(element[0] if len(element) else element)) is not None


def _raise_primes(element: Any) -> None:
    """The sign of ``f′`` is as small and as high as it should be; a browser would make it smaller
    and raise it again.
    """
    tag = _tag(element)
    if tag not in ("msup", "msubsup"):
        return
    mark = html.unescape("".join(element[-1].itertext()))
    if not mark or mark.strip("′″‴"):
        return
    row = element.makeelement(element.tag.replace(tag, "mrow"), {})
    row.extend((element[0], element[-1]))
    if tag == "msubsup":
        element.tag = element.tag.replace(tag, "msub")
        element[:] = [row, element[1]]
    else:
        element.tag = row.tag
        element[:] = row


def inline(latex: str) -> str:
    r"""One line of Unicode: ``\frac{a+1}{\sqrt{d_k}}`` becomes ``(a + 1)/√dₖ``."""
    return _layout(tree(latex.strip(), block=False), flat=True).lines[0].strip()


def display(latex: str) -> str:
    """Some lines of Unicode, with fractions and the limits of sums stacked."""
    box = _layout(tree(latex.strip(), block=True), flat=False)
    return "\n".join(line.rstrip() for line in box.lines)


# ---------------------------------------------------------------- boxes of characters


@dataclass
class Box:
    """Lines of equal width; ``base`` is the line that a neighbor's base stands beside."""

    lines: list[str]
    base: int = 0

    @property
    def width(self) -> int:
        return _width(self.lines[0])

    @property
    def height(self) -> int:
        return len(self.lines)


def _width(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _pad(text: str, width: int, align: str = "center") -> str:
    room = width - _width(text)
    left = {"left": 0, "right": room, "center": room // 2}[align]
    return " " * left + text + " " * (room - left)


def _beside(*boxes: Box) -> Box:
    """Boxes from left to right, their bases on one line."""
    above = max(box.base for box in boxes)
    below = max(box.height - box.base for box in boxes)
    lines = [""] * (above + below)
    for box in boxes:
        for i in range(above + below):
            inside = i - above + box.base
            lines[i] += box.lines[inside] if 0 <= inside < box.height else " " * box.width
    return Box(lines, above)


def _stack(boxes: list[Box], base: int, align: str = "center") -> Box:
    """Boxes from top to bottom; ``base`` counts lines from the top."""
    width = max(box.width for box in boxes)
    return Box([_pad(line, width, align) for box in boxes for line in box.lines], base)


def _layout(element: Any, flat: bool) -> Box:
    rule = _RULES.get(_tag(element), _row)
    return rule(element, flat)


def _text(element: Any) -> str:
    return html.unescape(element.text or "")


def _leaf(element: Any, flat: bool) -> Box:
    text = _text(element).replace("\xa0", " ")
    if text and ord(text[0]) > 0xFFFF:  # bold and script letters, which few terminals have
        text = unicodedata.normalize("NFKC", text)
    return Box([text])


def _row(element: Any, flat: bool) -> Box:
    children = list(element)
    if not children:
        return Box([_text(element)])
    boxes: list[Box] = []
    operand = False  # whether what stands to the left is something that a sign can follow
    for child in children:
        box = _layout(child, flat)
        tag = _tag(child)
        text = box.lines[0] if box.height == 1 else ""
        if tag == "mo" and text in ("", "\u2061", "\u2062"):
            continue
        if tag == "mo" and (text in _SPACED or (text in _SIGNS and operand)):
            spaced = bool(boxes) and _ends_in_space(boxes)
            boxes.append(Box([f"{text} " if spaced else f" {text} "]))
            operand = False
        elif tag == "mo" and text in (",", ";"):
            if boxes and boxes[-1].lines == [" "]:  # after tanh²
                boxes.pop()
            boxes.append(Box([f"{text} "]))
            operand = False
        else:
            if boxes and _apart(boxes[-1], child, text, flat):
                boxes.append(Box([" "]))
            elif tag == "mfrac" and box.height > 1 and _ends_in_space(boxes):
                box = Box([line[1:] for line in box.lines], box.base)
            boxes.append(box)
            if _is_large(child):
                boxes.append(Box([" "]))
            operand = tag != "mo" or text not in ("(", "[", "{", "|", "∣", *_SIGNS)
    if not flat:
        boxes = _stretch(boxes)
    return _beside(*boxes) if boxes else Box([""])


def _ends_in_space(boxes: list[Box]) -> bool:
    return not boxes or boxes[-1].lines[boxes[-1].base].endswith(" ")


def _tag(element: Any) -> str:
    return str(element.tag.rpartition("}")[2])


def _apart(left: Box, element: Any, text: str, flat: bool) -> bool:
    """Whether a space belongs before ``element``: around words, and where scripts or quotients
    written in one line would run into their neighbors.
    """
    before = left.lines[left.base]
    if not before or not (before[-1].isalnum() or before[-1] in ")]}ᵀ" or "_" in before):
        return False
    if _is_large(element) or _is_word(text, element) or (flat and _tag(element) == "mfrac"):
        return True
    if not text or text[0] in "([)]},.!′'":
        return False
    wordlike = re.search(r"[A-Za-z]{2,}$", before) is not None and before[-3:] != " "
    return (
        wordlike and left.height == 1 and " " not in before and _WORDS.match(before) is not None
    ) or (flat and re.search(r"[_^][\w(∈ ]+\)?$", before) is not None and text[0].isalnum())


_WORDS = re.compile(
    r"(log|ln|exp|sin|cos|tanh|max|min|arg\s?max|arg\s?min|det|dim|lim|tr|sup|inf|Pr)$"
)


def _is_word(text: str, element: Any) -> bool:
    return _tag(element) in ("mi", "mo") and len(text) > 1 and text.isalpha()


def _is_large(element: Any) -> bool:
    if _tag(element) in ("munderover", "munder", "msub", "msubsup", "msup"):
        head = element[0]
        text = _text(head)
        return text in ("∑", "∏", "∫") or _WORDS.match(text) is not None
    return _text(element) in ("∑", "∏", "∫")


def _stretch(boxes: list[Box]) -> list[Box]:
    """Grow brackets to the height of what stands between them."""
    result = list(boxes)
    opened: list[int] = []
    bars: list[int] = []
    for index, box in enumerate(boxes):
        text = box.lines[0].strip() if box.height == 1 else ""
        if text in ("(", "[", "{"):
            opened.append(index)
        elif text[:1] in (")", "]", "}") and opened:
            _grow(result, opened.pop(), index)
        elif text in ("|", "‖"):
            bars.append(index)
            if len(bars) == 2:
                _grow(result, *bars)
                bars = []
    for start in opened:  # a brace with no partner: cases
        _grow(result, start, len(boxes))
    return result


def _grow(boxes: list[Box], start: int, end: int) -> None:
    inner = boxes[start + 1 : end]
    if not inner or all(box.height == 1 for box in inner):
        return
    above = max(box.base for box in inner)
    below = max(box.height - box.base for box in inner) - 1
    for index in {start, end} - {len(boxes)}:
        text = boxes[index].lines[0].strip()
        boxes[index] = _beside(
            _tall(text[0], above, below), Box([text[1:] or " " * (index == end)])
        )


def _tall(bracket: str, above: int, below: int) -> Box:
    height = above + 1 + below
    if bracket in _CURLY and height == 2:
        return Box(list("⎰⎱" if bracket == "{" else "⎱⎰"), above)
    if bracket in _CURLY:
        above = below = max(above, below, 1)
        top, middle, bottom, bar = list(_CURLY[bracket])
        pad = [bar] * (above - 1)
        return Box([top, *pad, middle, *pad, bottom], above)
    top, bar, bottom = list(_TALL[bracket])
    return Box([top, *[bar] * (height - 2), bottom], above)


def _atom(box: Box) -> bool:
    """Whether a line can stand in a quotient or under a root without brackets."""
    text = box.lines[0]
    return box.height == 1 and (
        re.fullmatch(r"[\w∂∇√.ᵀ′\u0300-\u036f⁰-₟ᵃ-ᵿ∞]+", text) is not None
        or re.fullmatch(r"\w*\([^()]*\)", text) is not None
    )


def _bracketed(box: Box) -> str:
    text = box.lines[0].strip()
    return text if _atom(Box([text])) else f"({text})"


def _fraction(element: Any, flat: bool) -> Box:
    top, bottom = (_layout(child, flat) for child in element)
    if flat:
        return Box([f"{_bracketed(top)}/{_bracketed(bottom)}"])
    bar = Box([f" {'─' * max(top.width, bottom.width)} "])
    return _stack([top, bar, bottom], top.height)


def _root(element: Any, flat: bool) -> Box:
    inner = _row(element, flat) if element.tag.endswith("msqrt") else _layout(element[0], flat)
    sign = "√"
    if element.tag.endswith("mroot"):
        sign = {"3": "∛", "4": "∜"}.get(_layout(element[1], True).lines[0], "√")
    if inner.height == 1:
        text = inner.lines[0].strip()
        return Box([sign + (text if _atom(Box([text])) else f"({text})")])
    body = Box(["_" * inner.width, *inner.lines], inner.base + 1)
    hook = Box([" ", *["│"] * (inner.height - 1), sign], inner.base + 1)
    return _beside(hook, body)


def _scripts(base: Box, lower: Box | None, upper: Box | None, flat: bool) -> Box:
    small = _small(lower, _SUBSCRIPTS), _small(upper, _SUPERSCRIPTS)
    if None not in small and base.height == 1:
        return Box([base.lines[0] + f"{small[0]}{small[1]}"])
    if flat:
        text = base.lines[0]
        for script, little, mark in ((lower, small[0], "_"), (upper, small[1], "^")):
            if script is not None:
                line = script.lines[0].strip()
                plain = line if _atom(Box([line])) else f"({line})"
                text += mark + plain if little is None else little
        return Box([text])
    rows_above = upper.lines if upper is not None else []
    rows_below = lower.lines if lower is not None else []
    width = max([_width(line) for line in [*rows_above, *rows_below]], default=0)
    middle = [" " * width] * base.height
    lines = [*(_pad(r, width, "left") for r in rows_above), *middle]
    lines += [_pad(r, width, "left") for r in rows_below]
    return _beside(base, Box(lines, len(rows_above) + base.base))


def _small(box: Box | None, alphabet: dict[str, str]) -> str | None:
    if box is None:
        return ""
    if box.height > 1:
        return None
    text = re.sub(r"\s*([=+−,-])\s*", r"\1", box.lines[0].strip())
    return "".join(alphabet[c] for c in text) if all(c in alphabet for c in text) else None


def _sub(element: Any, flat: bool) -> Box:
    return _scripts(_layout(element[0], flat), _layout(element[1], True), None, flat)


def _sup(element: Any, flat: bool) -> Box:
    return _scripts(_layout(element[0], flat), None, _layout(element[1], True), flat)


def _subsup(element: Any, flat: bool) -> Box:
    base, lower, upper = element
    return _scripts(_layout(base, flat), _layout(lower, True), _layout(upper, True), flat)


def _over(element: Any, flat: bool) -> Box:
    base, mark = _layout(element[0], flat), _layout(element[1], True)
    accent = _ACCENTS.get(mark.lines[0].strip())
    if accent is not None and base.height == 1:
        text = base.lines[0]
        return Box([text[:1] + accent + text[1:]] if _width(text) == 1 else
                   ["".join(c + accent for c in text)])  # fmt: skip
    if flat:
        return _scripts(base, None, mark, flat)
    return _stack([mark, base], mark.height + base.base)


def _tight(box: Box) -> Box:
    """Limits of a sum are written without spaces: ``t=1``."""
    return Box([re.sub(r"\s*([=≠<>≤≥+−])\s*", r"\1", line) for line in box.lines], box.base)


def _under(element: Any, flat: bool) -> Box:
    base, mark = _layout(element[0], flat), _tight(_layout(element[1], True))
    return _scripts(base, mark, None, True) if flat else _stack([base, mark], base.base)


def _underover(element: Any, flat: bool) -> Box:
    base, lower, upper = element
    if flat:
        return _subsup(element, flat)
    below, above = _tight(_layout(lower, True)), _tight(_layout(upper, True))
    middle = _layout(base, flat)
    return _stack([above, middle, below], above.height + middle.base)


def _grid(element: Any, flat: bool) -> Box:
    rows = [[_layout(cell, flat) for cell in row] for row in element]
    if flat:
        return Box(["; ".join(" ".join(b.lines[0].strip() for b in row) for row in rows)])
    columns = max(len(row) for row in rows)
    rows = [[*row, *[Box([""])] * (columns - len(row))] for row in rows]
    widths = [max(row[i].width for row in rows) for i in range(columns)]
    aligns = [_alignment(element, i) for i in range(columns)]
    lines: list[str] = []
    tall = False  # rows of several lines are kept apart
    for row in rows:
        cells = [
            Box([_pad(line, w, a) for line in box.lines], box.base)
            for box, w, a in zip(row, widths, aligns, strict=True)
        ]
        spaced = [piece for cell in cells for piece in (cell, Box(["  "]))][:-1]
        if any(a != "center" for a in aligns):  # aligned equations: the sign has its own spaces
            spaced = cells if "right" in aligns else spaced
        beside = _beside(*spaced)
        if lines and "right" in aligns and (beside.height > 1 or tall):
            lines.append(" " * beside.width)
        lines += beside.lines
        tall = beside.height > 1
    return Box(lines, len(lines) // 2)


def _alignment(table: Any, column: int) -> str:
    for row in table:
        if column < len(row):
            return str(row[column].get("columnalign", "center"))
    return "center"


def _space(element: Any, flat: bool) -> Box:
    width = element.get("width", "")
    return Box(["  " if width.startswith(("1", "2")) else " " if width else ""])


_RULES: dict[str, Callable[[Any, bool], Box]] = {
    "mi": _leaf, "mn": _leaf, "mo": _leaf, "mtext": _leaf, "mspace": _space,
    "mfrac": _fraction, "msqrt": _root, "mroot": _root,
    "msub": _sub, "msup": _sup, "msubsup": _subsup,
    "mover": _over, "munder": _under, "munderover": _underover, "mtable": _grid,
}  # fmt: skip
