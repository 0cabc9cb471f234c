"""Each task asks what it says it asks, and goes on in the middle of an epoch."""

import shutil
import signal

import numpy as np
import pytest
from task_cases import (
    MAKE,
    RNG,
    TOKENIZER,
    bert,
    config,
    encoder_decoder,
    labelled,
    reverse,
    same,
    t5,
    tagged,
    texts,
)

from scratchlm import Tensor, metrics, models
from scratchlm import functional as F
from scratchlm.models import (
    T5,
    BERTForMaskedLM,
    BERTForSequenceClassification,
    BERTForTokenClassification,
    EncoderDecoder,
)
from scratchlm.text import BPE, CharVocab, WordVocab
from scratchlm.train import (
    Classification,
    Instructions,
    MaskedLM,
    Pairs,
    Tagging,
    Task,
    Trainer,
    examples,
    load_checkpoint,
)

ALL = pytest.mark.parametrize("name", MAKE)


# -- each task ---------------------------------------------------------------------------------


@ALL
def test_trained_stopped_and_gone_on_with_bit_for_bit(name, tmp_path):
    pytest.importorskip("safetensors")
    make, model = MAKE[name]
    straight, broken, resumed = model(), model(), model(seed=99)
    Trainer(straight, make(), config()).fit(progress=False)
    first = Trainer(broken, make(), config(), out=tmp_path)
    step = first.train_step

    def pressing():
        if first.step == 10:
            signal.raise_signal(signal.SIGINT)
        return step()

    first.train_step = pressing
    first.fit(progress=False)
    assert first.step == 11  # in the middle of the second epoch: 30 examples are 8 batches
    shutil.copytree(tmp_path, tmp_path / "copy")
    last = Trainer(resumed, make(), out=tmp_path, resume=True)
    last.fit(progress=False)
    assert same(straight, resumed)
    figures = [r for r in last.history if "validation_loss" in r]
    assert [r["step"] for r in figures] == [8, 16, 20]
    assert load_checkpoint(tmp_path).state["task"] == type(make()).__name__
    if name != "next token":  # a run that forgets where it was in the epoch would be noticed
        forgetful, other = make(), model(seed=99)
        forgetful.load_state_dict = lambda state: None
        Trainer(other, forgetful, out=tmp_path / "copy", resume=True).fit(progress=False)
        assert not same(straight, other)


@ALL
def test_a_batch_is_the_mean_of_its_parts_weighed_by_their_counts(name):
    make, model = MAKE[name]
    task, model = make(), model(dtype=np.float64, dropout=0.0)
    batch = task.sample(7, RNG(1))
    whole = task.loss(model, batch)
    assert whole.shape == ()
    parts = [{k: a[i : i + 3] for k, a in batch.items()} for i in (0, 3, 6)]
    counts = [task.count(part) for part in parts]
    assert sum(counts) == task.count(batch) > 0
    total = sum(
        task.loss(model, part).item() * count / sum(counts)
        for part, count in zip(parts, counts, strict=True)
    )
    # two ways to add 50 float64 numbers of order 1
    assert total == pytest.approx(whole.item(), rel=1e-13)


@ALL
def test_what_is_kept_back_is_evaluated_whole(name):
    make, model = MAKE[name]
    task, model = make(), model(dtype=np.float64)
    figures = task.evaluate(model, batch_size=4)
    model.eval()
    total = count = 0
    for batch in task.held_out(9, None):
        total += task.loss(model, batch).item() * task.count(batch)
        count += task.count(batch)
    if name == "masked":  # other batches ask other questions
        assert figures == task.evaluate(model, batch_size=4)
    else:
        assert figures["validation_loss"] == pytest.approx(total / count, rel=1e-12)
    assert task.evaluate(model, batch_size=2, batches=1)["validation_loss"] > 0
    assert 0 <= figures["accuracy"] <= 1


@ALL
def test_the_fingerprint_and_the_epoch(name):
    make, _ = MAKE[name]
    a, b = make(), make()
    assert a.fingerprint() == make().fingerprint()
    if name == "next token":
        return
    spoiled = b.train[0]["targets" if "targets" in b.train[0] else "ids"]
    spoiled[...] = spoiled + 1
    assert a.fingerprint() != b.fingerprint()
    rng, seen = RNG(0), 0
    while seen < len(a.train):
        batch = a.sample(4, rng)
        seen += len(batch["ids"])
        assert a.tokens(batch) <= sum(x.size for x in batch.values())
    assert (seen, a.epochs.epoch) == (30, 0)


def test_the_loss_is_for_the_targets_alone():
    """What is predicted where no target is has no say."""
    task, model = MAKE["tags"][0](), MAKE["tags"][1](dtype=np.float64, dropout=0.0)
    batch = task.sample(4, RNG(0))
    logits = task.logits(model, batch)
    spoiled = logits.data + 5.0 * (batch["targets"] == -100)[..., None] * RNG(0).normal(size=2)
    assert F.cross_entropy(Tensor(spoiled), batch["targets"]).item() == pytest.approx(
        task.loss(model, batch).item(), rel=1e-13
    )


# -- masked LM ---------------------------------------------------------------------------------


def test_masks_are_drawn_anew_but_not_in_evaluation():
    task = MaskedLM(["the film was very good"] * 4, ["it was not a good film"] * 4, TOKENIZER)
    a, b = task.sample(4, RNG(0)), task.sample(4, RNG(1))
    assert not np.array_equal(a["targets"], b["targets"])
    c, d = (next(task.held_out(4, None)) for _ in range(2))
    np.testing.assert_array_equal(c["targets"], d["targets"])
    assert (a["ids"][:, 0] == 2).all()  # [CLS]
    assert (a["targets"][:, [0, -1]] == -100).all()


def test_masked_lm_of_characters():
    text = CharVocab("the cat sat")
    n = len(text)
    task = MaskedLM(["the cat", "a hat"], ["that"], text, mask_id=n, pad_id=n + 1)
    assert task.vocab_size == n + 2
    assert task.special_ids == [n, n + 1]
    batch = task.sample(2, RNG(0))
    assert batch["ids"].max() <= n + 1
    with pytest.raises(ValueError, match=r"no \[MASK\] or no \[PAD\]; say mask_id="):
        MaskedLM(["a"], (), text)
    with pytest.raises(ValueError, match="say vocab_size="):
        MaskedLM([np.array([1])], mask_id=5, pad_id=6)


def test_pairs_of_texts():
    task = MaskedLM([("the film", "was good"), "a film"], (), TOKENIZER)
    batch = task.collate(task.train, RNG(0))
    np.testing.assert_array_equal(batch["types"], [[0, 0, 0, 0, 1, 1, 1], [0] * 7])
    np.testing.assert_array_equal(batch["mask"].sum(-1), [7, 4])
    model = bert(BERTForMaskedLM, np.float64, dropout=0.0)
    with_types = task.loss(model, batch).item()
    batch["types"] = np.zeros_like(batch["types"])
    assert task.loss(model, batch).item() != with_types


def test_only_what_is_hidden_is_answered():
    """The loss is that of all the logits; a model without ``at`` is asked for them."""

    class Everything(BERTForMaskedLM):
        def forward(self, ids, targets=None, *, attention_mask=None):
            return super().forward(ids, targets, attention_mask=attention_mask)

    task = MaskedLM(texts(12), (), TOKENIZER, share=0.4, label_smoothing=0.1)
    batch = task.sample(12, RNG(0))
    short = bert(BERTForMaskedLM, np.float64, dropout=0.0)
    whole = Everything(short.config, rng=1, dtype=np.float64)
    whole.load_state_dict(short.state_dict())
    # the same numbers up to the order in which they are summed
    assert task.loss(short, batch).item() == pytest.approx(
        task.loss(whole, batch).item(), rel=1e-13
    )


# -- tags --------------------------------------------------------------------------------------


def test_a_word_in_pieces_is_tagged_at_its_first():
    task = Tagging([(["films", "was", "\x00"], ["B-F", "O", "O"])], (), TOKENIZER)
    (example,) = task.train
    assert [TOKENIZER.token(i) for i in example["ids"]] == [
        "[CLS]", "film", "##s", "was", "[UNK]", "[SEP]",
    ]  # fmt: skip
    B, O = task.labels.index("B-F"), task.labels.index("O")
    assert example["targets"].tolist() == [-100, B, -100, O, O, -100]
    cut = Tagging([(["films", "was"], ["B-F", "O"])], (), TOKENIZER, max_length=4)
    assert cut.train[0]["targets"].tolist() == [-100, cut.labels.index("B-F"), -100, -100]


def test_entities_are_scored_whole():
    tokenizer = WordVocab(["a", "b", "c"])
    task = Tagging(
        [(["a", "b", "c"], ["O", "B-X", "I-X"])], (), tokenizer, labels=["O", "B-X", "I-X"]
    )
    truth = [np.array([0, 1, 2, -100]), np.array([1, -100])]
    guess = [np.array([0, 1, 0, 2]), np.array([1, 1])]
    found = task.scores(truth, guess)
    assert found["accuracy"] == 3 / 4
    assert found["entity_f1"] == metrics.entity_f1(
        [["O", "B-X", "I-X"], ["B-X"]], [["O", "B-X", "O"], ["B-X"]]
    )
    words = Tagging([(["a"], ["noun"])], (), tokenizer)
    assert words.scores([np.array([0])], [np.array([0])]) == {"accuracy": 1.0}


# -- classes -----------------------------------------------------------------------------------


def test_classes_and_their_figures():
    task = Classification(labelled(30), labelled(9, 1), TOKENIZER)
    assert task.labels == ["neg", "pos"]
    assert task.about()["labels"] == ["neg", "pos"]
    found = task.scores([0, 0, 1, 1], [0, 1, 1, 1])
    assert found == {
        "accuracy": 0.75,
        "f1": metrics.f1([0, 0, 1, 1], [0, 1, 1, 1], average="macro"),
    }
    own = Classification([(np.array([3, 4]), 7)], labels=[9, 7])
    assert own.train[0]["targets"] == 1


def test_classification_learns():
    train, held_out = labelled(300, 5), labelled(60, 6)
    task = Classification(train, held_out, TOKENIZER)
    model = bert(BERTForSequenceClassification, dropout=0.0, n_embd=16, n_inner=32)
    settings = config(steps=250, batch_size=16, eval_every=0, eval_batches=None, lr=5e-3)
    trainer = Trainer(model, task, settings).fit(progress=False)
    guess = sum(label == "neg" for _, label in held_out) / len(held_out)
    assert trainer.history[-1]["accuracy"] > max(guess, 1 - guess) + 0.2


# -- pairs and prompts -------------------------------------------------------------------------


def test_teacher_forcing():
    pairs = [(np.array([5, 6]), np.array([7, 8, 9])), (np.array([5]), np.array([7]))]
    task = Pairs(pairs, pad_id=0, start_id=1, end_id=2)
    batch = task.collate(task.train, RNG(0))
    np.testing.assert_array_equal(batch["ids"], [[5, 6], [5, 0]])
    np.testing.assert_array_equal(batch["decoder_ids"], [[1, 7, 8, 9], [1, 7, 0, 0]])
    np.testing.assert_array_equal(batch["targets"], [[7, 8, 9, 2], [7, 2, -100, -100]])
    model = encoder_decoder(np.float64, dropout=0.0)
    whole = np.array([[1, 7, 8, 9, 2], [1, 7, 2, 0, 0]])
    assert task.loss(model, batch).item() == pytest.approx(
        model.loss(batch["ids"], whole).item(), rel=1e-14
    )
    ended = Pairs(pairs, pad_id=0, start_id=0, end_id=1, source_end_id=1, max_length=2)
    assert [e["ids"].tolist() for e in ended.train] == [[5, 1], [5, 1]]
    assert [e["targets"].tolist() for e in ended.train] == [[7, 1], [7, 1]]


def test_texts_in_two_vocabularies():
    source, target = WordVocab(["a", "b"]), CharVocab("xyz!?.")
    pairs = [("a b a", "xyz")]
    task = Pairs(pairs, (), source, target, pad_id=6, start_id=7, end_id=8)
    assert task.train[0]["ids"].tolist() == source.encode("a b a").tolist()
    assert task.train[0]["targets"].tolist() == [*target.encode("xyz").tolist(), 8]
    about = task.about()
    assert about["vocabulary"] == source.as_dict()
    assert about["target_vocabulary"] == target.as_dict()


def test_answers_alone_count():
    task = Instructions([(np.array([5, 6, 7]), np.array([8, 9]))], end_id=2)
    assert task.train[0]["ids"].tolist() == [5, 6, 7, 8, 9]
    assert task.train[0]["targets"].tolist() == [-100, -100, 8, 9, 2]
    cut = Instructions([(np.array([5, 6, 7]), np.array([8, 9]))], end_id=2, max_length=4)
    assert cut.train[0]["ids"].tolist() == [6, 7, 8, 9]
    assert cut.train[0]["targets"].tolist() == [-100, 8, 9, 2]
    shorter = Instructions([(np.array([5, 6, 7]), np.array([8, 9]))], end_id=2, max_length=1)
    assert (shorter.train[0]["ids"].tolist(), shorter.train[0]["targets"].tolist()) == ([7], [8])
    spoken = Instructions([("xyz", "c")], (), BPE.train("abc abc", 260))
    assert spoken.train[0]["targets"].tolist()[:2] == [-100, -100]


# -- refused -----------------------------------------------------------------------------------


def refused(kind, words, *arguments, error=ValueError, **options):
    with pytest.raises(error, match=words):
        kind(*arguments, **options)


def test_examples_that_can_not_be():
    refused(Classification, "no examples to train on", [], (), TOKENIZER)
    refused(
        Classification, "validation example 0: the label 'x' is none of the 1", [("a", 1)],
        [("a", "x")], TOKENIZER,
    )  # fmt: skip
    refused(Classification, "training example 1: it has no token", [("a", 1), ("", 1)], (),
            WordVocab(["a"]))  # fmt: skip
    refused(Classification, "example 0: it is a text, and there is no tokenizer", [("a", 1)])
    refused(Classification, r"example 0: .*float64", [(np.ones(3), 1)], error=TypeError)
    refused(Classification, "a pair of texts needs", [(("a", "b"), 1)], (), WordVocab(["a"]))
    refused(Tagging, "it has 2 words and 1 tags", [(["a", "b"], ["O"])], (), WordVocab(["a"]))
    refused(Tagging, "nothing of the word", [([""], ["O"])], (), CharVocab("ab"))
    refused(Tagging, "example 0: nothing is to be predicted", [([], [])], (), TOKENIZER)
    refused(MaskedLM, "it has special tokens only", [""], (), TOKENIZER)
    refused(
        Pairs, "training example 0: a text holds the id 0, which pad_id says is padding",
        [(np.array([0]), np.array([1]))], pad_id=0, start_id=1, end_id=2,
    )  # fmt: skip
    refused(Instructions, "nothing is to be predicted", [(np.array([1, 2]), np.array([], int))])
    refused(Instructions, "the prompt has no token", [(np.array([], int), np.array([1]))])


@pytest.mark.parametrize(
    ("task", "model", "words"),
    [
        (MAKE["classes"][0], lambda: bert(BERTForSequenceClassification, num_labels=3),
         "there are 2 labels .* the model has num_labels=3"),
        (MAKE["classes"][0], lambda: bert(BERTForSequenceClassification, block_size=5),
         "length=10, but the model has positions for block_size=5"),
        (MAKE["masked"][0], lambda: bert(BERTForMaskedLM, vocab_size=9), "only vocab_size=9"),
        (MAKE["pairs"][0], t5, "start_id=1, but the model's is 0"),
        (lambda: Pairs(reverse(3), pad_id=1, start_id=0, end_id=2), t5, "pad_id=1, but"),
        (lambda: Pairs([(np.array([3]), np.array([12]))], pad_id=0, start_id=1, end_id=2),
         encoder_decoder, "ids up to 12, but target_vocab_size=12"),
    ],
)  # fmt: skip
def test_models_that_do_not_fit(task, model, words):
    with pytest.raises(ValueError, match=words):
        Trainer(model(), task(), config())


def test_another_task_or_other_data_are_refused(tmp_path):
    pytest.importorskip("safetensors")
    model = bert(BERTForSequenceClassification)
    task = Classification(labelled(30), (), TOKENIZER)
    trainer = Trainer(model, task, config(steps=2), out=tmp_path).fit(progress=False)
    assert not any("validation_loss" in r for r in trainer.history)
    with pytest.raises(ValueError, match="keeps nothing back"):
        trainer.validation_loss()
    other = Classification(labelled(31), (), TOKENIZER)
    with pytest.raises(ValueError, match="trained on another text"):
        Trainer(model, other, config(), out=tmp_path, resume=True)
    tags, tagger = Tagging(tagged(30), (), TOKENIZER), bert(BERTForTokenClassification)
    with pytest.raises(ValueError, match="is of the task Classification, not Tagging"):
        Trainer(tagger, tags, config(), out=tmp_path, resume=True)


def test_a_task_of_ones_own():
    """Two methods are enough: here, which of two numbers is larger."""

    class Larger(Task):
        def sample(self, n, rng):
            x = rng.normal(size=(n, 2)).astype(np.float32)
            return {"ids": x, "targets": x.argmax(-1)}

        def logits(self, model, batch):
            return model(Tensor(batch["ids"]))

    model = models.gpt.Linear(2, 2, rng=0)
    trainer = Trainer(model, Larger(), config(steps=200, batch_size=16, lr=3e-2))
    trainer.fit(progress=False)
    x = RNG(9).normal(size=(200, 2)).astype(np.float32)
    assert (model(Tensor(x)).data.argmax(-1) == x.argmax(-1)).mean() > 0.95


def test_only_what_a_model_takes_is_passed():
    assert "attention_mask" in examples._parameters(T5.forward)
    assert "attention_mask" not in examples._parameters(EncoderDecoder.forward)
