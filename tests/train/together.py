"""What the processes of `test_together.py` run: a Trainer of some of the cases, a few steps.

    mpiexec -n N python together.py CASE,… OUT '{"options of the config": …}' '{"what happens": …}'

The first process writes OUT/CASE/weights.npz, each one OUT/CASE/rank-R.json.
"""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from task_cases import MAKE, config

from scratchlm.train import Trainer
from scratchlm.train.workers import workers


def main(names: str, out: str, options: str, happens: str) -> None:
    for name in names.split(","):
        folder = Path(out) / name
        folder.mkdir(parents=True, exist_ok=True)
        one(name, folder, options, json.loads(happens))


def one(name: str, folder: Path, options: str, event: dict) -> None:
    make, model = MAKE[name]
    seed = workers().rank + event.get("seed", 0)  # all begin with the first one's weights anyway
    net = model(dtype=np.float64, dropout=event.get("dropout", 0.0), seed=seed)
    settings = config(**json.loads(options))
    run = folder / "run" if event.get("saved") else None
    trainer = Trainer(net, make(), settings, out=run, resume=event.get("resume", False))
    rank, size = trainer.workers.rank, trainer.workers.size
    if event.get("what") == "outside" and rank == event["rank"]:
        raise KeyError("a bug outside of training")
    step = trainer.train_step

    def train_step():
        if rank == event.get("rank", -1) and trainer.step == event["step"]:
            if event["what"] == "late ctrl-c":  # when the others have been told that there is none
                update = trainer.optimizer.step

                def late():
                    os.kill(os.getpid(), signal.SIGINT)
                    trainer.optimizer.step = update
                    update()

                trainer.optimizer.step = late
            elif event["what"] == "ctrl-c":
                os.kill(os.getpid(), signal.SIGINT)
            elif event["what"] == "nan":
                next(net.parameters()).data[...] = np.nan
            elif event["what"] == "full disk":
                from scratchlm.train import checkpoint

                def full(path, raw):
                    raise OSError(28, "No space left on device")

                checkpoint._write = full
            else:
                raise KeyError("a bug in one process alone")
        return step()

    trainer.train_step = train_step
    said = ""
    try:
        trainer.fit(progress=False)
    except (FloatingPointError, OSError, RuntimeError) as error:
        said = f"{type(error).__name__}: {error}"
    if not rank:
        np.savez(folder / "weights.npz", **net.state_dict())
    about = {
        "step": trainer.step, "interrupted": trainer.interrupted, "size": size, "said": said,
        "sum": [float(p.data.sum()) for p in net.parameters()], "history": trainer.history,
        "rng": json.dumps(net.rng_state(), sort_keys=True),
    }  # fmt: skip
    (folder / f"rank-{rank}.json").write_text(json.dumps(about), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
