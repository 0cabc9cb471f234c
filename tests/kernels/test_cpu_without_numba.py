"""Without Numba everything works, composed; who trains is told once that it is slower."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
sys.modules["numba"] = None  # as if it were not installed
import io
import numpy as np
import scratchlm
from rich.console import Console
from scratchlm import data, models, train
from scratchlm.registry import all_ops, get_op
from scratchlm.text import CharVocab

x = np.ones((1, 4, 256, 16), np.float32)
op = get_op("attention")
assert op.select(x, x, x).name == "reference"
op.run(x, x, x)
assert op.run is op.reference  # found out once, not at every call
for name, op in all_ops().items():
    if "numba" in op.implementations:
        try:
            scratchlm.use(**{name: "numba"})
        except RuntimeError as error:
            assert "pip install numba" in str(error), error
        else:
            raise AssertionError(name)

text = "what follows from this text, nobody knows. " * 50
vocabulary = CharVocab(text)
ids = vocabulary.encode(text)
corpus = data.Corpus(ids[:1500], ids[1500:], vocabulary, "here")
said = []
for _ in range(2):
    model = models.GPT(models.GPTConfig(len(vocabulary), 8, n_layer=1, n_head=2, n_embd=8), rng=0)
    out = io.StringIO()
    options = train.TrainConfig(steps=2, batch_size=2, length=8, eval_every=0)
    train.Trainer(model, corpus, options).fit(console=Console(file=out, width=200))
    said.append("pip install numba" in out.getvalue())
assert said == [True, False], said
"""


def test_everything_works_and_says_once_that_it_is_slower() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_kernels_need_not_be_there_at_all() -> None:
    script = "import sys; sys.modules['scratchlm_kernels'] = None; import scratchlm"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
