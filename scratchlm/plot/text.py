"""Text that can be read: tokens as labels, and a font for every character.

Fonts are searched in this order: DejaVu (it comes with matplotlib), the Chinese, Japanese and
Korean fonts that the system has, the font of the ``zhplot`` package (the ``cjk`` extra). What none
of them holds is drawn as a box, and one warning names the command that mends it.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BASE = "DejaVu Sans"
BOX = "□"

# families by how common they are: free fonts, Windows, macOS, then fonts for neighboring scripts
CJK_FAMILIES = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN",
    "Noto Sans CJK JP", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "LXGW WenKai",
    "Droid Sans Fallback", "AR PL UMing CN", "AR PL UKai CN",
    "Microsoft YaHei", "SimHei", "DengXian", "SimSun", "Microsoft JhengHei", "Yu Gothic",
    "Malgun Gothic",
    "PingFang SC", "PingFang HK", "Hiragino Sans GB", "Heiti TC", "STHeiti", "Songti SC",
    "Arial Unicode MS", "Noto Serif CJK SC", "Noto Serif CJK JP", "Noto Sans CJK TC",
    "Noto Sans CJK KR", "Noto Sans TC", "Noto Sans JP", "Noto Sans KR", "Hiragino Sans",
    "IPAexGothic", "IPAGothic", "TakaoPGothic", "NanumGothic", "Unifont",
)  # fmt: skip

_VISIBLE = {" ": "␣", "\n": "↵", "\t": "⇥"}
_warned: set[str] = set()  # kinds of character that a warning was given for


def token_label(token: Any, longest: int = 20) -> str:
    """A token that can be seen: ``" a"`` → ``␣a``, newline → ``↵``, half a character → ``<0xE6>``.

    Args:
        token: text, or bytes in UTF-8; bytes that are no whole character (byte-level tokenizers cut
            them so) are shown in hexadecimal, and so are control characters.
        longest: a longer label is cut, its end shown as ``…``.

    Raises:
        TypeError: the token is neither ``str`` nor ``bytes``.
    """
    if isinstance(token, bytes | bytearray):
        token = bytes(token).decode("utf-8", "surrogateescape")
    elif not isinstance(token, str):
        raise TypeError(
            f"token_label: a token is str or bytes, not {type(token).__name__} ({token!r}); "
            "decode ids first, as in [tokenizer.decode([i]) for i in ids]"
        )
    if not token:
        return "<empty>"
    shown = [_visible(character) for character in token]
    if len(shown) > longest:
        shown = [*shown[: longest - 1], "…"]
    return "".join(shown)


def _visible(character: str) -> str:
    code = ord(character)
    if character in _VISIBLE:
        return _VISIBLE[character]
    if 0xDC80 <= code <= 0xDCFF:  # how "surrogateescape" carries the byte 0x80 to 0xFF
        return f"<0x{code - 0xDC00:02X}>"
    if character.isprintable():
        return character
    return f"<0x{code:02X}>" if code < 0x80 else f"<U+{code:04X}>"


def token_labels(tokens: Sequence[Any], count: int, what: str) -> list[str]:
    """A label for each of ``count`` rows or columns.

    Raises:
        ValueError: as many tokens as there are rows are needed.
        TypeError: a single string, or a token that is neither ``str`` nor ``bytes``.
    """
    if isinstance(tokens, str | bytes):
        raise TypeError(
            f"{what}: tokens are a list of str or bytes, not one {type(tokens).__name__}; "
            "characters as tokens: list(text)"
        )
    tokens = list(tokens)
    if len(tokens) != count:
        raise ValueError(
            f"{what}: {len(tokens)} tokens for {count} positions; give one for each, in order"
        )
    return [token_label(token) for token in tokens]


# ---------------------------------------------------------------- fonts


@functools.lru_cache(maxsize=64)
def _glyphs(path: str) -> frozenset[int]:
    """The characters that a font file can draw."""
    from matplotlib.font_manager import get_font

    return frozenset(get_font(path).get_charmap())


def installed_fonts() -> dict[str, str]:
    """Family → file of the fonts that matplotlib has found."""
    from matplotlib.font_manager import fontManager

    files: dict[str, str] = {}
    for entry in fontManager.ttflist:
        if entry.style == "normal" and (entry.name not in files or entry.weight in (400, "normal")):
            files[entry.name] = entry.fname
    return files


def extra_font() -> str | None:
    """The file of the ``cjk`` extra's font.

    The package itself is not imported: that would switch the font of every figure.
    """
    found = importlib.util.find_spec("zhplot")
    if found is None or found.origin is None:
        return None
    font = Path(found.origin).parent / "fonts" / "NotoSansSC-Regular.ttf"
    return str(font) if font.is_file() else None


def families(text: str) -> tuple[list[str], set[str]]:
    """The font families that draw ``text`` together, and the characters that none of them holds."""
    from matplotlib.font_manager import findfont

    chosen = [BASE]
    missing = {c for c in text if not c.isspace() and not _ascii(c)}
    if missing:
        missing -= _held(findfont(BASE), missing)
    if not missing:
        return chosen, missing
    fonts = installed_fonts()
    for family in CJK_FAMILIES:
        if family in fonts:
            held = _held(fonts[family], missing)
            if held:
                chosen.append(family)
                missing -= held
        if not missing:
            return chosen, missing
    path = extra_font()
    held = _held(path, missing) if path else set()
    if path and held:
        chosen.append(_register(path))
        missing -= held
    return chosen, missing


def _register(path: str) -> str:
    """Make a font file known to matplotlib; its family."""
    from matplotlib.font_manager import fontManager, get_font

    family: str = get_font(path).family_name
    if all(entry.fname != path for entry in fontManager.ttflist):
        fontManager.addfont(path)
    return family


def _held(path: str, characters: set[str]) -> set[str]:
    try:
        glyphs = _glyphs(path)
    except (OSError, RuntimeError):  # uninstalled since matplotlib listed it, or broken
        return set()
    return {c for c in characters if ord(c) in glyphs}


def _ascii(character: str) -> bool:
    return " " <= character <= "~"


def _is_cjk(character: str) -> bool:
    """Han, kana, hangul, their punctuation and full-width forms."""
    code = ord(character)
    return (
        0x2E80 <= code <= 0x9FFF
        or 0xAC00 <= code <= 0xD7AF
        or 0xF900 <= code <= 0xFAFF
        or 0xFE30 <= code <= 0xFE4F
        or 0xFF00 <= code <= 0xFFEF
        or 0x20000 <= code <= 0x3FFFF
    )


def legible(drawn: Any) -> None:
    """Give every text of a Figure or Axes (or of a single Text) a font that holds its characters.

    Call it again after adding text of your own; :func:`scratchlm.plot.save` does.
    """
    from matplotlib.text import Text

    artists = [drawn.figure if hasattr(drawn, "figure") and drawn.figure is not None else drawn]
    texts = [t for artist in artists for t in artist.findobj(Text) if not _plain(t.get_text())]
    if not texts:
        return
    missing: set[str] = set()
    for text in texts:
        fonts, absent = families(text.get_text())
        if len(fonts) > 1:
            text.set_fontfamily(fonts)
        if absent:
            missing |= absent
            text.set_text(_boxed(text.get_text(), absent))
    _box_tick_labels(artists, missing)
    _warn(missing)


def _plain(text: str) -> bool:
    return all(_ascii(c) or c == "\n" for c in text)


def _boxed(text: str, absent: set[str]) -> str:
    return "".join(BOX if c in absent else c for c in text)


def _box_tick_labels(artists: list[Any], missing: set[str]) -> None:
    """Tick labels are written anew at each draw: change what they are written from."""
    from matplotlib.axis import Axis

    for axis in (axis for artist in artists if missing for axis in artist.findobj(Axis)):
        for minor in (False, True):
            labels = [label.get_text() for label in axis.get_ticklabels(minor=minor)]
            if any(missing & set(label) for label in labels):
                axis.set_ticklabels([_boxed(label, missing) for label in labels], minor=minor)


def _warn(missing: set[str]) -> None:
    """One warning in a process for CJK characters, and one for others."""
    cjk = {c for c in missing if _is_cjk(c)}
    fixes = {
        "cjk": (cjk, "no font here holds Chinese; install one: pip install 'scratchlm[cjk]'"),
        "other": (missing - cjk, "no installed font holds them"),
    }
    for kind, (characters, fix) in fixes.items():
        if characters and kind not in _warned:
            _warned.add(kind)
            sample = "".join(sorted(characters)[:8])
            warnings.warn(
                f"plot: {sample} drawn as {BOX}: {fix}", UserWarning, stacklevel=_levels()
            )


def _levels() -> int:
    """How far up the caller of this package is: a warning points at the user's own line."""
    frame, levels = inspect.currentframe(), 0
    while frame is not None and str(frame.f_globals.get("__name__")).startswith(__package__):
        frame, levels = frame.f_back, levels + 1
    return levels
