"""What reading beforehand is worth: a BERT pre-trained on news, and one from scratch.

Both are the same small model, and learn to tell five kinds of news from each other by the same few
labelled articles, in the same number of steps. One of them has read all articles of the training
part before, without their labels, as a masked language model. Naive Bayes, which counts words, says
what the labels are worth without a network. The articles of the test part are seen by nobody before
the end; rates and numbers of steps were chosen on the validation part, for each of the two.

``stages`` says what reading was worth by then: it is stopped every so often, and fine-tuned on the
fewest labels. It pays long before the loss has fallen far, and not at all before that.

It takes some ten minutes, most of them for the reading, and runs only when it is asked for:
``python -m benchmarks transfer``. The reading is kept in the cache, and an interrupted one goes on
where it was. ``scratchlm fetch bbc`` gets the articles first.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scratchlm import no_grad
from scratchlm.data import labelled
from scratchlm.data.examples import Split
from scratchlm.downloads import cache_folder
from scratchlm.models import BERTConfig, BERTForMaskedLM, BERTForSequenceClassification
from scratchlm.text import WordPiece
from scratchlm.train import Classification, MaskedLM, TrainConfig, Trainer, load_checkpoint
from scratchlm.train.checkpoint import checkpoints

SEED = 0  # of the split and of the reading
LENGTH = 64  # tokens, [CLS] and [SEP] among them
WORDS = 4000  # the most frequent; others are [UNK]
SHARE = 0.3  # of tokens that are asked: more than BERT's, since the text is short
STD = 0.06
KINDS = 5  # of news
READING = TrainConfig(
    steps=8000, batch_size=32, lr=2e-3, warmup=0.03, final_lr=0.02, weight_decay=0.01,
    eval_every=500, eval_batches=4, save_every=1000, keep=100, log_every=100, seed=SEED,
)  # fmt: skip
SIZES: dict[int | None, tuple[int, int]] = {  # labels (None: all of them): steps, seeds
    50: (100, 5),
    200: (150, 3),
    1000: (300, 3),
    None: (400, 3),
}
RATES = {"pre-trained": 1e-3, "from scratch": 3e-3}
GAPS = (
    "The [MASK] minister said the government would not change its plans",
    "shares in the [MASK] rose after the firm announced higher profits",
    "the film won the award for best [MASK]",
)

Pairs = Sequence[tuple[str, int]]
Weights = Mapping[str, np.ndarray]


def run(rounds: int = 9) -> dict[str, Any]:
    """``rounds`` has no effect: what repeats here are the seeds of ``SIZES``."""
    news = labelled("news-en").split(validation=0.1, test=0.25, seed=SEED)
    tokenizer = WordPiece.of_words((text for text, _ in news.train), most=WORDS)
    stages, history = read(news, tokenizer)
    blank, reader = stages[0], stages[READING.steps]

    @functools.cache
    def accuracy(read: int | None, size: int | None, seed: int) -> float:
        """After so many steps of reading (None: from scratch) and learning from so many labels."""
        weights, name = (None, "from scratch") if read is None else (stages[read], "pre-trained")
        some = choose(news.train, size, seed)
        return fine_tune(
            weights, tokenizer, some, news.test, steps=SIZES[size][0], lr=RATES[name], seed=seed
        )

    rows = []
    for size, (steps, seeds) in SIZES.items():
        for seed in range(seeds):
            some = choose(news.train, size, seed)
            rows.append({
                "labels": len(some), "seed": seed, "steps": steps,
                "pre-trained": accuracy(READING.steps, size, seed),
                "from scratch": accuracy(None, size, seed),
                "naive Bayes": naive_bayes(tokenizer, some, news.test),
            })  # fmt: skip
            print("  ".join(f"{key} {value:.4g}" for key, value in rows[-1].items()), flush=True)
    fewest = min(size for size in SIZES if size is not None)
    return {
        "unit": "accuracy on the test part",
        "parts": {name: len(getattr(news, name)) for name in ("train", "validation", "test")},
        "vocabulary": len(tokenizer),
        "parameters": with_weights(reader, tokenizer).num_parameters(),
        "reading": history,
        "gaps": {
            text: {
                "before": guesses(with_weights(blank, tokenizer), tokenizer, text),
                "after": guesses(with_weights(reader, tokenizer), tokenizer, text),
            }
            for text in GAPS
        },
        "rows": rows,
        "stages": [
            {
                "step": step,
                "labels": fewest,
                "accuracies": [accuracy(step, fewest, seed) for seed in range(SIZES[fewest][1])],
            }
            for step in stages
        ],
    }


def sizes(tokenizer: WordPiece, dropout: float = 0.0) -> BERTConfig:
    """Two layers of width 64."""
    return BERTConfig(
        vocab_size=len(tokenizer), block_size=LENGTH, n_layer=2, n_head=4, n_embd=64, n_inner=256,
        num_labels=KINDS, pooling="mean", dropout=dropout, attention_dropout=0.0,
    )  # fmt: skip


def new_reader(tokenizer: WordPiece) -> BERTForMaskedLM:
    """A model that knows nothing: its loss at step 0 is ln V."""
    model = BERTForMaskedLM(sizes(tokenizer), rng=SEED, std=STD)
    with no_grad():  # loud enough inside to learn fast, quiet at its end (lesson 29)
        last = model.cls.predictions.transform.LayerNorm.weight
        last.copy_(0.5 * last.data)
    return model


def with_weights(weights: Weights, tokenizer: WordPiece) -> BERTForMaskedLM:
    model = new_reader(tokenizer)
    model.load_state_dict(dict(weights))
    return model.eval()


def read(news: Split, tokenizer: WordPiece) -> tuple[dict[int, Weights], list[dict[str, Any]]]:
    """Read the training part: the weights after so many steps, and the log of the losses."""
    first, last = (tokenizer.vocabulary[token] for token in ("[CLS]", "[SEP]"))

    def pieces(pairs: Pairs) -> list[np.ndarray]:
        """The articles, cut into pieces that the model can read."""
        room, cut = LENGTH - 2, []
        for text, _ in pairs:
            ids = tokenizer.encode(text)
            cut += [[first, *ids[i : i + room], last] for i in range(0, len(ids), room)]
        return [np.array(piece) for piece in cut]

    task = MaskedLM(
        pieces(news.train), pieces(news.validation), tokenizer, max_length=LENGTH, share=SHARE,
        source="news-en",
    )  # fmt: skip
    model = new_reader(tokenizer)
    stages = {0: {name: weight.copy() for name, weight in model.state_dict().items()}}
    out = cache_folder() / "runs" / "transfer"
    known = out.exists() and checkpoints(out)
    trainer = Trainer(model, task, READING, out=out, resume=bool(known)).fit()
    if trainer.interrupted:
        raise SystemExit("interrupted: the same command goes on from here")
    for path in checkpoints(out):
        kept = load_checkpoint(path)
        stages[kept.state["step"]] = kept.arrays["model"]
    return stages, trainer.history


def choose(pairs: Pairs, size: int | None, seed: int) -> list[tuple[str, int]]:
    """So many of the pairs, as many of each label up to one; None: all."""
    if size is None:
        return list(pairs)
    order = np.random.default_rng(seed).permutation(len(pairs))
    seen: Counter[int] = Counter()
    turns = []
    for i in order:
        turns.append((seen[pairs[i][1]], i))
        seen[pairs[i][1]] += 1
    return [pairs[i] for _, i in sorted(turns)[:size]]


def fine_tune(
    weights: Weights | None,
    tokenizer: WordPiece,
    train: Pairs,
    test: Pairs,
    *,
    steps: int,
    lr: float,
    seed: int,
) -> float:
    """The accuracy on ``test`` after learning from ``train``; ``weights`` None: from scratch."""
    # the labelled articles are few, and seen again and again
    model = BERTForSequenceClassification(sizes(tokenizer, dropout=0.1), rng=seed, std=STD)
    own = model.state_dict()
    model.load_state_dict(own | {k: w for k, w in (weights or {}).items() if k in own})
    task = Classification(train, test, tokenizer, labels=list(range(KINDS)), max_length=LENGTH)
    schedule = TrainConfig(
        steps=steps, batch_size=16, lr=lr, warmup=0.1, final_lr=0.02, weight_decay=0.01,
        eval_every=0, eval_batches=None, seed=seed,
    )  # fmt: skip
    return Trainer(model, task, schedule).fit(progress=False).history[-1]["accuracy"]


def naive_bayes(tokenizer: WordPiece, train: Pairs, test: Pairs) -> float:
    """The accuracy of counting which words occur in which kind.

    It reads as much of an article as the network does.
    """
    kinds = sorted({label for _, label in train})
    counts: dict[int, Counter[int]] = {kind: Counter() for kind in kinds}
    texts = Counter(label for _, label in train)
    for text, label in train:
        counts[label].update(tokenizer.inputs(text, max_length=LENGTH)[0].tolist())
    log_p = np.empty((len(kinds), len(tokenizer)))
    for row, kind in zip(log_p, kinds, strict=True):
        row[:] = [math.log(counts[kind][i] + 1) for i in range(len(tokenizer))]  # 1 added to each
        row -= math.log(counts[kind].total() + len(tokenizer))
    prior = np.log([texts[kind] for kind in kinds])
    guessed = [
        kinds[int((prior + log_p[:, tokenizer.inputs(text, max_length=LENGTH)[0]].sum(1)).argmax())]
        for text, _ in test
    ]
    return float(np.mean([kind == label for kind, (_, label) in zip(guessed, test, strict=True)]))


def guesses(model: BERTForMaskedLM, tokenizer: WordPiece, text: str, most: int = 5) -> list[Any]:
    """The likeliest tokens for the [MASK] of a text, with their probabilities."""
    ids, _ = tokenizer.inputs(text)
    with no_grad():
        z = model(ids[None], at=(ids == tokenizer.vocabulary["[MASK]"])[None]).data[0]
    p = np.exp(z - z.max())
    p /= p.sum()
    return [[tokenizer.token(int(i)), round(float(p[i]), 4)] for i in p.argsort()[::-1][:most]]


def show(result: dict[str, Any], console: Any) -> None:
    from rich.table import Table

    losses = [each["validation_loss"] for each in result["reading"] if "validation_loss" in each]
    console.print(
        f"{result['parameters']:,} parameters read {result['parts']['train']:,} articles: loss "
        f"{losses[0]:.2f} at first (ln V = {np.log(result['vocabulary']):.2f}), at last "
        f"{losses[-1]:.2f} on the validation part",
        highlight=False,
    )
    table = Table(title="Five kinds of news: accuracy on the test part")
    for column in ("labels", "method", "mean", "lowest", "highest", "seeds"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for labels, name, values in curves(result["rows"]):
        spread = (f"{f(values):.1%}" for f in (np.mean, min, max))
        table.add_row(f"{labels:,}", name, *spread, str(len(values)))
    console.print(table)
    table = Table(title=f"With {result['stages'][0]['labels']} labels, after so much reading")
    for column in ("steps", "mean", "lowest", "highest"):
        table.add_column(column, justify="right")
    for stage in result["stages"]:
        spread = (f"{f(stage['accuracies']):.1%}" for f in (np.mean, min, max))
        table.add_row(f"{stage['step']:,}", *spread)
    console.print(table)


METHODS = ("pre-trained", "from scratch", "naive Bayes")


def curves(rows: list[dict[str, Any]]) -> list[tuple[int, str, list[float]]]:
    """(labels, method, accuracies of the seeds), the fewest labels first."""
    labels = sorted({row["labels"] for row in rows})
    return [
        (size, name, [row[name] for row in rows if row["labels"] == size])
        for size in labels
        for name in METHODS
    ]
