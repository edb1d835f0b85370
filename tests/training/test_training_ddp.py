"""Two processes are one: the same weights within rounding, one writer, resume to the bit, and clear failures."""
import os
import shutil
import signal

import pytest
import torch
from small_run import words
from training import faults
from training.processes import Forked, Started, together, wait_for
from training.whole import everything, log

from python_models.files import read_weights

SGD = ("--epochs", 2, "--optimizer", "sgd", "--lr", 0.05, "--ema", 0.9, "--clip", 1.0)
TOLERANCE = 2e-5  # of the largest weight of a tensor, after 6 or 8 steps of plain SGD in float32
WARNING = "irstd train: warning: batch normalisation uses the statistics of each process's own images on the CPU; only GPUs share them\n"


def distance(one, other):
    """Largest difference of any tensor, relative to its largest entry."""
    a, b = (read_weights(folder / "raw.safetensors") for folder in (one, other))
    assert a.keys() == b.keys()
    return max(((a[k] - b[k]).abs().max() / a[k].abs().max().clamp(min=1e-3)).item() for k in a if a[k].is_floating_point())


@pytest.fixture(scope="module")
def odd(data, tmp_path_factory):
    """The set with 11 training images, which do not divide among two processes."""
    folder = tmp_path_factory.mktemp("odd") / "data"
    shutil.copytree(data, folder)
    names = (folder / "synth" / "train.txt").read_text().split()
    (folder / "synth" / "train.txt").write_text("\n".join(names[:11]) + "\n")
    return folder


@pytest.fixture(scope="module")
def alone(odd, tmp_path_factory):
    """The training in one process, the last batch of 3 images included."""
    out = tmp_path_factory.mktemp("alone") / "run"
    process = Forked(words(odd, out, *SGD, "--no-drop-last"), out.parent / "log", prepare=faults.statistics_stay)
    assert process.wait() == 0, process.text()
    return out


@pytest.mark.parametrize("slurm", [False, True], ids=["torchrun", "slurm"])
def test_two_processes_equal_one(odd, alone, tmp_path, slurm):
    """As two devices of a computer, and as two computers. Also: only the first process writes; no image counts twice."""
    share = ("--nodes", 2) if slurm else ("--devices", 2)
    codes, texts = together(words(odd, tmp_path / "run", *SGD, "--no-drop-last", *share), tmp_path, slurm=slurm, prepare=faults.only_the_first_writes)
    assert codes == [0, 0], texts
    assert texts[0].startswith(WARNING) and texts[1] == ""
    assert distance(alone, tmp_path / "run") < TOLERANCE
    one, two = log(alone), log(tmp_path / "run")
    assert [(r["step"], r["lr"]) for r in one] == [(r["step"], r["lr"]) for r in two] == [("3", one[0]["lr"]), ("6", one[1]["lr"])]
    assert all(float(a["loss"]) == pytest.approx(float(b["loss"]), rel=1e-5) for a, b in zip(one, two))


@pytest.mark.parametrize("fault", [faults.losses_apart, None], ids=["loss of each part", "statistics of each part"])
def test_the_tolerance_sees_a_loss_or_a_batch_norm_that_is_not_shared(odd, alone, tmp_path, fault):
    """The second is what happens on the CPU, where batch normalisation cannot look at the other process's images."""
    codes, texts = together(words(odd, tmp_path / "run", *SGD, "--no-drop-last", "--devices", 2), tmp_path, prepare=fault)
    assert codes == [0, 0], texts
    assert distance(alone, tmp_path / "run") > 100 * TOLERANCE


def test_two_killed_processes_resume_to_the_bit(data, tmp_path):
    args = ["--devices", 2, "--epochs", 4, "--optimizer", "adan", "--early-stop", 9, "--workers", 1]
    for name in ("whole", "broken"):
        if name == "broken":
            started = together(words(data, tmp_path / name, *args), tmp_path, wait=False)
            wait_for(lambda: len(log(tmp_path / "broken")) > 1 if (tmp_path / "broken" / "log.csv").exists() else False)
            for process in started:
                os.kill(process.pid, signal.SIGKILL)
            assert [p.wait() for p in started] == [-signal.SIGKILL] * 2 and len(log(tmp_path / "broken")) < 4
        codes, texts = together(words(data, tmp_path / name, *args, *(["--resume"] if name == "broken" else [])), tmp_path)
        assert codes == [0, 0], texts
    assert everything(tmp_path / "whole") == everything(tmp_path / "broken")
    process = Forked(words(data, tmp_path / "broken", *args, "--devices", 1, "--resume"), tmp_path / "log")
    assert process.wait() == 0, process.text()  # and one process may go on where two stopped


def test_a_process_that_stops_is_one_line_on_each_side(data, tmp_path):
    args = words(data, tmp_path / "run", "--devices", 2, "--epochs", 3)
    codes, texts = together(args, tmp_path, prepare=faults.process_killed)
    assert codes == [2, -signal.SIGKILL] and texts == [
        WARNING + "irstd train: another process of this training has stopped, its own line says why; "
        "the last finished epoch is intact, continue with --resume\n", ""]
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    codes, texts = together(words(copy, tmp_path / "image", "--devices", 2, "--epochs", 3), tmp_path, prepare=faults.image_breaks)
    assert codes == [2, 2] and all(text.removeprefix(WARNING).count("\n") == 1 for text in texts)
    assert sum("is no image" in t or "images/" in t for t in texts) == 1 and sum("another process" in t for t in texts) == 1, texts


def test_a_number_of_processes_that_was_not_asked_for_is_refused(data, tmp_path):
    for slurm, who in ((False, "torchrun"), (True, "SLURM (the variable SLURM_NTASKS)")):
        codes, texts = together(words(data, tmp_path / "run"), tmp_path, slurm=slurm)
        assert codes == [2, 2] and texts[0] == f"irstd train: devices x nodes must be 2, the processes that {who} has started, got 1 x 1\n"
    assert not (tmp_path / "run").exists()


def test_the_command_starts_its_own_processes_and_torchrun_starts_them_too(data, tmp_path):
    """Real interpreters: `irstd train --devices 2 --seeds 0 1`, and torchrun, against processes made here in the same way."""
    args = ["--devices", 2, "--epochs", 1]
    own = Started(words(data, tmp_path / "own", *args, "--seeds", 0, 1), tmp_path / "own.log")
    assert own.wait(300) == 0, own.text()
    assert "seed 1" in own.text() and own.text().count("written to") == 1
    codes, texts = together(words(data, tmp_path / "here", *args, "--seed", 1), tmp_path)
    assert codes == [0, 0], texts
    assert distance(tmp_path / "here", tmp_path / "own" / "seed-1") == 0
    command = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "python_models.cli")
    torchrun = Started(words(data, tmp_path / "run", *args), tmp_path / "torchrun.log", command=command)
    assert torchrun.wait(300) == 0, torchrun.text()
    assert distance(tmp_path / "own" / "seed-0", tmp_path / "run") == 0 < distance(tmp_path / "here", tmp_path / "run")


def test_rows_of_all_processes_are_gathered_and_only_rows(monkeypatch):
    from python_models.training import distributed

    own, other = torch.arange(6.0).view(3, 2).requires_grad_(), torch.full((3, 2), 7.0)

    def all_gather(into, mine):
        into[0].copy_(mine)
        into[1].copy_(other)

    monkeypatch.setattr(distributed.dist, "all_gather", all_gather)
    vector, scalar = torch.ones(3), torch.tensor(1.0)
    out = distributed.gather_rows({"logits": own, "maps": [own * 2], "vector": vector, "scalar": scalar, "other": other[:2], "name": "x"}, [3, 2], 0)
    assert torch.equal(out["logits"], torch.cat([own, other[:2]])) and torch.equal(out["maps"][0][:3], own * 2)
    assert out["vector"] is vector and out["scalar"] is scalar and len(out["other"]) == 2 and out["name"] == "x"
    (out["logits"] * torch.arange(5.0)[:, None]).sum().backward()
    assert torch.equal(own.grad, 2 * torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]))
