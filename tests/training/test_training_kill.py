"""kill -9 at random moments, --resume, and no bit is different.

IRSTD_KILLS=20 kills so many times, and starts every process anew as a user does (slow); see docs/training.md.
"""
import os
import random
import signal
import time

from small_run import words
from training.processes import Forked, Started, wait_for
from training.whole import everything, log

KILLS = int(os.environ.get("IRSTD_KILLS", "4"))


def written(folder):
    """Changes with every finished epoch."""
    path = folder / "last" / "state.json"
    return path.stat().st_mtime_ns if path.is_file() else None


def test_killed_again_and_again_a_training_ends_to_the_bit_as_an_undisturbed_one(data, tmp_path):
    """Adan, averaged weights, a count towards the early stop, judgements at every second epoch, a loading process. Most kills fall
    into the epoch after one to three that a process has finished, others before; tiny epochs make writing a large share."""
    epochs = 5 * KILLS + 4
    args = ["--epochs", epochs, "--optimizer", "adan", "--lr", "0.003", "--ema", "0.9", "--early-stop", epochs, "--val-every", "2", "--workers", "1"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    start = Started if "IRSTD_KILLS" in os.environ else Forked
    began = time.monotonic()
    assert Started(words(data, whole, *args), tmp_path / "log").wait(600) == 0
    draw, kills, during = random.Random(KILLS), 0, []
    while kills < KILLS:
        process = start(words(data, broken, *args, *(["--resume"] if broken.is_dir() else [])), tmp_path / "log")
        if draw.random() < 0.75:
            for _ in range(draw.randint(1, 3)):
                wait_for(lambda now=written(broken), p=process: written(broken) != now or not p.running())
            time.sleep(draw.uniform(0, float(log(broken)[-1]["seconds"])))
        else:
            time.sleep(draw.uniform(0, 1.0))
        if not process.running():
            break
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        kills += 1
        during.append(f"{len(log(broken)) if (broken / 'log.csv').exists() else 0}{'w' if list(broken.rglob('.*.tmp')) else ''}")
    assert kills >= min(KILLS, 3), (tmp_path / "log").read_text()
    last = start(words(data, broken, *args, *(["--resume"] if broken.is_dir() else [])), tmp_path / "log")
    assert last.wait(600) == 0, last.text()
    one, other = everything(whole), everything(broken)
    assert one == other
    assert len(one["log"]) == epochs and len(one["state"]) > 100
    print(f"{kills} kills after these epochs (w: while a file was written): {' '.join(during)}; {time.monotonic() - began:.0f} s")
