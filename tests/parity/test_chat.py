"""Conversations are what transformers makes of them; and the real chat model answers."""

from __future__ import annotations

import numpy as np
import pytest

from scratchlm import Chat
from scratchlm.data import locate
from scratchlm.text import ChatTemplate, load_tokenizer

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

TALKS = [
    [("user", "What is the capital of France?")],
    [("system", "You speak like a pirate."), ("user", "Who are you?")],
    [("user", "Hi"), ("assistant", "Hello!"), ("user", "2+2?"), ("assistant", "4")],
    [("system", ""), ("user", ""), ("assistant", ""), ("user", "\n\n  x\n")],
    [("assistant", "May I help you?"), ("user", " 你好，世界 🦊\tü\u0301 1234567 \r\n")],
    [("user", "it's {{ 1 + 1 }} {% for %} 'quoted' \"twice\" \\n <|im_x|> | & <b>")],
]


def fetched():
    pytest.importorskip("gguf")
    try:
        return next(locate("smollm2").glob("*.gguf"))
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def ours():
    return load_tokenizer(fetched())


@pytest.fixture(scope="module")
def theirs(ours):
    """transformers' tokenizer of the same vocabulary, with the program in the same file."""
    tokenizers = pytest.importorskip("tokenizers")
    import json

    whole = tokenizers.Tokenizer.from_str(json.dumps(ours.as_dict()))
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=whole)
    made.chat_template = ours.chat_template
    return made


def messages(talk):
    return [{"role": role, "content": content} for role, content in talk]


@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("talk", TALKS)
def test_text_and_ids(ours, theirs, talk, more):
    template = ChatTemplate.from_jinja(ours.chat_template)
    options = {"add_generation_prompt": more}
    want = theirs.apply_chat_template(messages(talk), tokenize=False, **options)
    assert template.render(messages(talk), **options) == want
    ids = theirs.apply_chat_template(messages(talk), tokenize=True, return_dict=True, **options)
    assert template.encode(messages(talk), ours, **options)[0].tolist() == ids["input_ids"]


def test_what_the_file_says(ours):
    assert ours.eos_id == 2
    assert ours.token(ours.eos_id) == b"<|im_end|>"
    assert ChatTemplate.from_jinja(ours.chat_template).system == (
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    )


@pytest.mark.slow
def test_the_capital_of_france():
    chat = Chat.load(fetched(), max_tokens=40)
    assert "Paris" in chat.ask("What is the capital of France?")
    assert chat.pace.ended == "end"
    assert "Rome" in chat.ask("And of Italy?")  # which only the first turn explains
    assert chat.pace.read < 20 < chat.cache.length
    # read afresh, without a cache, the same tokens are the likeliest
    ids = np.array(chat.ids[: chat.cache.length + 1])
    logits = chat.model(ids[None, :-1], last_only=True).data[0, -1]
    assert logits.argmax() == ids[-1] == chat.tokenizer.eos_id
