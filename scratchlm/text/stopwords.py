"""Function words: what a bag of words is better off without, and a language model is not.

The two lists hold closed classes (articles, pronouns, prepositions, conjunctions, auxiliaries,
particles), which any grammar names. Words that negate (*not*, *no*, *nor*, *never*, 不, 没, 别) are
left out of both on purpose: without them, *not good* and *good* are one.
"""

from __future__ import annotations

from collections.abc import Iterable

_ENGLISH = """
a an the this that these those
i me my mine myself we us our ours ourselves you your yours yourself yourselves
he him his himself she her hers herself it its itself they them their theirs themselves
who whom whose which what where when why how
am is are was were be been being have has had having do does did doing
will would shall should can could may might must ought
and or but if because as until while although though since unless than whether so
of at by for with about against between into through during before after above below to from up
down in out on off over under upon within without toward towards among along across behind beside
again further then once here there all any both each few more most other some such only own same
too very just also yet still even ever
's 're 've 'll 'd 'm 't
"""

_CHINESE = """
的 地 得 了 着 过 吗 呢 吧 啊 呀 嘛 啦 哦 么 们
我 你 您 他 她 它 我们 你们 他们 她们 它们 咱们 自己 这 那 这个 那个 这些 那些 这里 那里 这儿 那儿
谁 什么 哪 哪儿 哪里 怎么 怎样 多少 几 为什么
是 在 有 会 能 要 可以 应该
把 被 让 给 对 对于 关于 从 到 向 往 以 为 为了 由 于 跟 和 与 同 及 比 按 按照 除了
因为 所以 但是 可是 不过 如果 虽然 而 而且 并 并且 或 或者 还是 就 才 也 都 还 又 再 很 太 更 最 只
个 之 其 所 等 则 即 若
"""

STOP_WORDS: dict[str, frozenset[str]] = {
    "english": frozenset(_ENGLISH.split()),
    "chinese": frozenset(_CHINESE.split()),
}


def remove_stop_words(words: Iterable[str], language: str = "english") -> list[str]:
    """The words that are no stop words, whatever their case, in order.

    Args:
        words: of a text; of Chinese, segmented.
        language: ``"english"`` or ``"chinese"``.

    Raises:
        TypeError: a single string, which would be cut into characters.
        ValueError: no list for this language.
    """
    if isinstance(words, str):
        raise TypeError("remove_stop_words: needs a list of words; of a text: split_words(text)")
    if language not in STOP_WORDS:
        raise ValueError(
            f"remove_stop_words: no list for {language!r}; there are {', '.join(STOP_WORDS)}"
        )
    stop = STOP_WORDS[language]
    return [word for word in words if word.lower() not in stop]
