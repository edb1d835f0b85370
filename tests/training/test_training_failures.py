"""What can go wrong: one line, an exit code, and the last finished epoch, from which --resume ends as if nothing had been."""
import os
import shutil
import signal

import pytest
import torch
from small_run import words
from training import faults
from training.processes import Forked, wait_for
from training.whole import everything, log

from python_models import cli
from python_models.training.checkpoint import load_state
from python_models.training.loop import Task
from python_models.training.train import train

KEPT = "; the last finished epoch is intact, continue with --resume\n"


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """What an undisturbed training of three epochs leaves."""
    out = tmp_path_factory.mktemp("whole") / "run"
    process = Forked(words(data, out, "--epochs", 3), out.parent / "log")
    assert process.wait() == 0, process.text()
    return everything(out)


def goes_on(data, out, whole):
    """The first epoch is intact, and the resumed run ends as the undisturbed one."""
    assert load_state(out / "last")["irstd"]["epoch"] == 0 and not list(out.rglob(".*"))
    process = Forked(words(data, out, "--epochs", 3, "--resume"), out.parent / "log")
    assert process.wait() == 0, process.text()
    found = everything(out)
    found["config"]["train"]["workers"] = 0
    assert found == whole


@pytest.mark.parametrize("fault,workers,line", [
    (faults.worker_killed, 1, "a process that loads images was killed, often for want of memory (fewer --workers need less)"),
    (faults.weights_do_not_fit, 0, "run/model.safetensors: "),
    (faults.checkpoint_does_not_fit, 0, "run/last/state-b.safetensors: "),
], ids=lambda v: getattr(v, "__name__", None))
def test_a_fault_is_one_line_and_the_last_epoch_is_intact(data, tmp_path, whole, fault, workers, line):
    out = tmp_path / "run"
    process = Forked(words(data, out, "--epochs", 3, "--workers", workers), tmp_path / "log", prepare=fault)
    code, text = process.wait(), process.text()
    assert code == 2 and text.count("\n") == 1 and text.startswith("irstd train: ") and line in text and text.endswith(KEPT)
    assert "File too large" in text or fault is faults.worker_killed
    goes_on(data, out, whole)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_becomes_unreadable_is_named(data, tmp_path, whole, workers):
    copy, out = tmp_path / "data", tmp_path / "run"
    shutil.copytree(data, copy)
    process = Forked(words(copy, out, "--epochs", 3, "--workers", workers), tmp_path / "log", prepare=faults.image_breaks)
    code, text = process.wait(), process.text()
    first = (data / "synth" / "train.txt").read_text().split()[0]
    assert code == 2 and text.count("\n") == 1 and f"{copy}/images/{first}.png" in text and text.endswith(KEPT) and "Traceback" not in text
    known = whole["config"]
    whole = {**whole, "config": {**known, "data": {**known["data"], "root": str(copy)}, "train": {**known["train"], "data": str(copy)}}}
    shutil.copy(data / "images" / f"{first}.png", copy / "images")
    goes_on(copy, out, whole)


@pytest.mark.parametrize("sent,code,text", [(signal.SIGINT, 130, "irstd train: interrupted, the last finished epoch is intact; continue with --resume: irstd train --resume --out {}\n"), (signal.SIGTERM, -signal.SIGTERM, "")])
def test_a_signal_stops_at_once_and_the_run_can_go_on(data, tmp_path, sent, code, text):
    """Ctrl-C reaches the loading process as well."""
    out, args = tmp_path / "run", ["--epochs", 10_000, "--workers", 1]
    process = Forked(words(data, out, *args), tmp_path / "log")
    wait_for((out / "last" / "state.json").exists)
    os.killpg(process.pid, sent)
    assert process.wait() == code and process.text() == text.format(out)
    epochs = len(log(out))
    assert load_state(out / "last")["irstd"]["epoch"] in (epochs - 1, epochs - 2)
    again = Forked(words(data, out, *args, "--resume"), tmp_path / "log")
    wait_for(lambda: len(log(out)) > epochs)
    os.kill(again.pid, signal.SIGKILL)


def diverging(monkeypatch, spoil, epoch=1):
    """``spoil(task)`` after the last step of an epoch."""
    end = Task.on_train_batch_end

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if self.current_epoch == epoch and batch_idx == self.steps_per_epoch - 1:
            spoil(self)
        end(self, outputs, batch, batch_idx)

    monkeypatch.setattr(Task, "on_train_batch_end", on_train_batch_end)


def spoil_weight(task):
    task.net.head.bias.data.fill_(float("nan"))


def spoil_output(task):
    """Finite weights whose sums are not."""
    for parameter in task.net.parameters():
        parameter.data.fill_(1e38)


@pytest.mark.parametrize("spoil,values,message", [
    (spoil_weight, {"final": True}, "weight head.bias must be finite, got nan at the end of epoch 1"),
    (spoil_output, {"ema": 0.0}, "the network's output must be finite, got .* at the judgement on the validation list"),
])
def test_a_diverged_network_never_replaces_the_last_good_one(config, change, monkeypatch, spoil, values, message):
    diverging(monkeypatch, spoil)
    with pytest.raises(FloatingPointError, match=f"^train: {message}; what was finished before is intact; train anew with a lower --lr") as error:
        train(change(config, **values))
    assert "\n" not in str(error.value)
    state = load_state(config.out / "last")
    assert state["irstd"]["epoch"] == 0 and all(t.isfinite().all() for t in state["state_dict"].values() if torch.is_tensor(t))
    assert len(log(config.out)) == 1


def test_a_loss_that_is_no_number_is_named_with_its_step(config, monkeypatch):
    step = Task.training_step

    def poisoned(self, batch, batch_idx):
        if self.current_epoch == 1:
            batch = {**batch, "image": batch["image"] * float("nan")}
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Task, "training_step", poisoned)
    with pytest.raises(FloatingPointError, match="loss must be finite, got nan at epoch 1, step 0"):
        train(config)
    assert load_state(config.out / "last")["global_step"] == 3


def test_a_first_epoch_that_is_no_number_does_not_claim_that_something_is_left(config, monkeypatch):
    diverging(monkeypatch, spoil_weight, epoch=0)
    with pytest.raises(FloatingPointError, match="^train: weight head.bias must be finite, got nan at the end of epoch 0; train anew with a lower --lr"):
        train(config)
    assert not (config.out / "last").exists()


def test_an_interrupt_says_what_is_left_on_a_line_of_its_own(data, tmp_path, monkeypatch, capsys):
    """The progress bar is closed first."""
    step, out = Task.training_step, tmp_path / "a run"
    args = [w for w in words(data, out, "--epochs", 2) if w != "--no-progress"]

    def stop_at(epoch):
        def stop(self, batch, batch_idx):
            if (self.current_epoch, batch_idx) == (epoch, 1):
                raise KeyboardInterrupt
            return step(self, batch, batch_idx)
        return stop

    for epoch, more, left in ((0, [], "no epoch had been finished"), (1, ["--resume"], "the last finished epoch is intact")):
        monkeypatch.setattr(Task, "training_step", stop_at(epoch))
        capsys.readouterr()
        assert cli.main([*args, *more]) == 130
        before, last = capsys.readouterr().err.rstrip("\n").rsplit("\n", 1)
        assert last == f"irstd train: interrupted, {left}; continue with --resume: irstd train --resume --out '{out}'" and "train: " in before


def test_an_interrupt_before_the_folder_promises_nothing(data, tmp_path, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("python_models.data.open_dataset", stop)
    assert cli.main(words(data, tmp_path / "run")) == 130
    assert capsys.readouterr().err == "irstd train: interrupted, nothing had begun\n"


def test_an_interrupt_stays_one_for_a_caller(config, change, monkeypatch):
    def stop(self, batch, batch_idx):
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(Task, "training_step", stop)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert train(change(config, resume=True))["steps"] == 6
