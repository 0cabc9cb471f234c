"""A conversation with small random models, which answer nonsense, but always the same."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from scratchlm import Chat, Tensor, no_grad
from scratchlm import chat as module
from scratchlm.generate import generate
from scratchlm.models import GPT, GPTConfig, Llama, LlamaConfig
from scratchlm.text import BPE, ChatTemplate

TOKENIZER = BPE.train(
    "system user assistant \n what is it? tell me more, 你好 " * 5,
    290,
    special_tokens=["<|im_start|>", "<|im_end|>"],
)
START, END = TOKENIZER.encode("<|im_start|><|im_end|>").tolist()
V = len(TOKENIZER)
QUESTIONS = ["what is it?", "tell me more", "你好, and\nnow?", "x", "what is it?"]


def make(kind, block_size=512, seed=3):
    if kind == "llama":
        config = LlamaConfig(V, block_size, n_layer=2, n_head=4, n_kv_head=2, n_embd=32, n_inner=48)
        return Llama(config, rng=seed, std=0.3, dtype=np.float64).eval()
    config = GPTConfig(V, block_size, n_layer=2, n_head=2, n_embd=16)
    return GPT(config, rng=seed, std=0.5, dtype=np.float64).eval()


@pytest.fixture(params=["llama", "gpt"])
def model(request):
    return make(request.param)


class Says(GPT):
    """Says these ids, whatever it is asked."""

    def __init__(self, ids):
        super().__init__(GPTConfig(V, 512, n_layer=1, n_head=1, n_embd=4), rng=0)
        self.says = iter(ids)

    def forward(self, ids, *, cache, last_only):
        cache.advance(ids.shape[-1])
        return Tensor(np.eye(V)[None, [next(self.says)]])


def talk(model, **options):
    options = {"max_tokens": 12, **options}
    return Chat(model, TOKENIZER, ChatTemplate("You help."), **options)


def fresh(chat, ids):
    """What the model writes after ids that it reads all at once, without a cache."""
    out = generate(
        chat.model, ids, chat.max_tokens, greedy=True, eos_id=END, cache=False
    )[len(ids) :]  # fmt: skip
    return out.tolist()


def test_answers_are_those_of_a_fresh_reading(model):
    chat = talk(model)
    for question in QUESTIONS:
        chat.hear(question)
        asked = list(chat.ids)
        want = fresh(chat, asked)
        answer = chat.ask(question)  # what was heard and not answered is taken back, and asked anew
        said = [i for i in want if i != END]
        assert answer == TOKENIZER.decode(said)
        assert chat.ids[: len(asked) + len(said)] == [*asked, *said]
    assert len(chat.messages) == 2 * len(QUESTIONS)
    assert TOKENIZER.decode(chat.ids) == chat.template.render(chat.messages)


def test_the_cache_is_that_of_a_fresh_reading(model):
    chat = talk(model)
    for question in QUESTIONS[:3]:
        chat.ask(question)
    chat.hear("x")
    n = chat.cache.length
    with no_grad():
        kept = chat.model(np.array([chat.ids[n:]]), cache=chat.cache, last_only=True).data
        read = chat.model(np.array([chat.ids]), last_only=True).data
    # float64; sums in another order, through two layers of logits near 1
    np.testing.assert_allclose(kept, read, rtol=1e-9, atol=1e-11)


def test_each_turn_reads_only_what_is_new(model, monkeypatch):
    chat, forward, read = talk(model), model.forward, []
    monkeypatch.setattr(
        model, "forward", lambda ids, cache, last_only: (
            read.append(ids.shape[-1]), forward(ids, cache=cache, last_only=last_only))[1]
    )  # fmt: skip
    before = 0
    for question in QUESTIONS:
        read.clear()
        chat.hear(question)
        new = len(chat.ids) - before
        list(chat.answer())
        assert read[0] == chat.pace.read <= new + 3  # the end of the last answer, too
        assert read[1:] == [1] * (chat.pace.written - 1)
        before = len(chat.ids)
    assert chat.cache.length <= len(chat.ids)


def test_a_planted_fault_is_seen(model):
    """A cache whose length is off by one gives other answers."""
    answers = []
    for fault in (0, 1):
        chat = talk(model)
        chat.ask(QUESTIONS[0])
        chat.cache.length -= fault
        chat.ids = chat.ids[: len(chat.ids) - fault]
        answers.append([chat.ask(question) for question in QUESTIONS[1:]])
    assert answers[0] != answers[1]


def test_long_questions_are_read_in_parts(model, monkeypatch):
    question = "tell me more " * 9
    want = talk(model).ask(question)
    monkeypatch.setattr(module, "AT_ONCE", 5)
    assert talk(model).ask(question) == want


def test_the_oldest_turns_are_dropped(model):
    chat = talk(model, context=120, system="Be brief.")
    dropped = []
    for question in itertools.islice(itertools.cycle(QUESTIONS), 12):
        dropped.append(chat.hear(question))
        asked = list(chat.ids)
        assert len(asked) + chat.max_tokens <= 120
        list(chat.answer())
        text = TOKENIZER.decode(chat.ids)
        assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")
        if dropped[-1]:
            assert len(asked) <= 60 or len(chat.messages) == 2
            assert chat.ids[len(asked) :][: chat.pace.written] == fresh(chat, asked)
    assert sum(dropped) == chat.dropped > 0
    assert dropped.count(0) > 6  # not at every turn
    assert len(chat.messages) == 24 - chat.dropped


def test_a_question_that_is_too_long_changes_nothing(model):
    chat = talk(model, context=80)
    first = chat.ask(QUESTIONS[0])
    state = chat.messages, chat.ids, chat.cache.length
    with pytest.raises(ValueError, match="there is room for 68: a context of 80, less 12"):
        chat.hear("tell me more " * 30)
    assert (chat.messages, chat.ids, chat.cache.length) == state
    other = talk(model, context=80)
    assert [first, chat.ask("x")] == [other.ask(QUESTIONS[0]), other.ask("x")]


def test_a_stopped_answer_stays(model):
    chat = talk(model)
    whole = talk(model).ask(QUESTIONS[0])
    chat.hear(QUESTIONS[0])
    pieces = chat.answer()
    part = next(pieces)
    pieces.close()
    assert chat.pace.ended == "stopped"
    assert chat.messages[-1]["content"].startswith(part)
    assert whole.startswith(chat.messages[-1]["content"])
    assert TOKENIZER.decode(chat.ids) == chat.template.render(chat.messages)
    chat.hear("x")
    asked = list(chat.ids)
    list(chat.answer())
    assert chat.ids[len(asked) :][: chat.pace.written] == fresh(chat, asked)


@pytest.mark.parametrize("at", [0, 1])
def test_ctrl_c_before_the_first_word_takes_the_question_back(model, monkeypatch, at):
    chat = talk(model)
    for question in QUESTIONS[:at]:
        chat.ask(question)
    before = list(chat.messages), list(chat.ids)

    def stopped(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(model.lm_head, "forward", stopped)
        chat.hear("tell me more")
        with pytest.raises(KeyboardInterrupt):
            list(chat.answer())
    assert (chat.messages, chat.ids) == before
    assert chat.pace.written == 0
    other = talk(model)
    want = [other.ask(question) for question in [*QUESTIONS[:at], "x"]][-1]
    assert chat.ask("x") == want


def test_reset_forgets(model):
    chat = talk(model)
    first = [chat.ask(question) for question in QUESTIONS[:2]]
    chat.reset()
    assert chat.messages == [] == chat.ids
    assert [chat.ask(question) for question in QUESTIONS[:2]] == first


def test_the_same_seed_draws_the_same():
    options = {"temperature": 1.0, "top_p": 0.95}
    answers = [talk(make("llama"), seed=seed, **options).ask("x") for seed in (1, 1, 2)]
    assert answers[0] == answers[1] != answers[2]


def test_how_an_answer_ended():
    chat = talk(Says([70, 71, 72, 73]), max_tokens=3)
    assert chat.ask("x") == TOKENIZER.decode([70, 71, 72])
    assert (chat.pace.ended, chat.pace.written) == ("length", 3)
    chat = talk(Says([70, END]))
    assert chat.ask("x") == TOKENIZER.decode([70])
    assert (chat.pace.ended, chat.pace.written) == ("end", 2)
    assert chat.ids.count(END) == 3  # of the system, the question, the answer


def test_what_can_not_be():
    model = make("gpt", block_size=64)
    with pytest.raises(ValueError, match="came without a chat template"):
        Chat(model, TOKENIZER)
    for sizes in ({"max_tokens": 64}, {"context": 65, "max_tokens": 9}, {"max_tokens": 0}):
        with pytest.raises(ValueError, match="must be at least 1 and less than context"):
            talk(model, **sizes)
    with pytest.raises(ValueError, match="temperature=-1"):
        talk(model, max_tokens=9, temperature=-1)
    with pytest.raises(ValueError, match="nothing was asked"):
        talk(model, max_tokens=9).answer()
