import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.text import clean, strip_markup

anything = st.text(st.characters(exclude_categories=["Cs"])) | st.text(
    "ab.!?/:@ww\u200b\ufeff\u00ad＜>&;http\n\u3000ｗ\u2024"
)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One &amp; <b>two</b></p><p>3 &lt; 4</p>", "\nOne & two\n\n3 < 4\n"),
        ("a<!-- no --><script>if (a < b) { }</script>b", "ab"),
        ("<style>p { }</style><template><p>x</template>y", "y"),
        ("if a < b and c > d", "if a < b and c > d"),
        ("<div>open <b>for ever", "\nopen for ever"),
        ("a<br>b", "a\nb"),
        ("</script>a", "a"),
        ("&#20320;&#x597D;", "你好"),
        ("", ""),
    ],
)
def test_markup(html, text):
    assert strip_markup(html) == text


def test_what_cannot_be_seen_goes():
    assert clean("\ufeffco\u00adope\u200bra\u2060te \u202eabc\u202c") == "cooperate abc"
    assert (
        clean("می\u200cخواهم 👩\u200d👧") == "می\u200cخواهم 👩\u200d👧"
    )  # these joiners mean something
    assert clean("Ａ\x00１\u3000\u3000ﬁ\r\n\r\nx") == "A1 fi\nx"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see https://a.org/b?c=d#e. Then", "see <url>. Then"),
        ("(www.a-b.com/x_y/)", "(<url>)"),
        ("mail to some.body+x@mail.example.org!", "mail to <url>!"),
        ("参见https://a.org/b，以及", "参见<url>，以及"),
        ("http://x，然后", "<url>，然后"),
        ("a@b is a matrix product", "a@b is a matrix product"),
        ("x = http", "x = http"),
    ],
)
def test_addresses(text, expected):
    assert clean(text, form="NFC", addresses="<url>") == expected


def test_repeats():
    assert (
        clean("so!!!!! good....... 好！！！！ aaa 1111", repeats=3)
        == "so!!! good... 好!!! aaa 1111"
    )
    assert clean("--- ==", repeats=1) == "- ="
    assert clean("!!!!", form="NFC") == "!!!!"
    with pytest.raises(ValueError, match="repeats=0 would delete the mark"):
        clean("a", repeats=0)


def test_markup_first():
    """What a reader of the page sees as < is text, and stays."""
    assert clean("<p>a &lt;b&gt; ＜i＞ &nbsp;c</p>", markup=True) == "a <b> <i> c"


def test_options():
    assert clean("ＡＢ", lowercase=True) == "ab"
    assert clean("①", form="NFC") == "①"
    with pytest.raises(TypeError, match="got bytes"):
        clean(b"a")
    with pytest.raises(ValueError, match="no form"):
        clean("a", form="x")


@given(anything, st.sampled_from([None, 1, 3]), st.booleans())
def test_cleaning_again_changes_nothing(text, repeats, lowercase):
    once = clean(text, repeats=repeats, lowercase=lowercase)
    assert clean(once, repeats=repeats, lowercase=lowercase) == once
    assert unicodedata.is_normalized("NFKC", once)
    assert not set(once) & set("\u200b\ufeff\u00ad\x00\r\t")


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zs", "Zl", "Zp"])))
def test_nothing_that_is_seen_is_lost(text):
    assert clean(text, form="NFC") == unicodedata.normalize("NFC", text)


@given(anything)
def test_any_text_may_be_markup(text):
    strip_markup(text)
