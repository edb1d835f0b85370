"""`irstd convert`: published weights, key by key, and one line for what does not fit."""
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from python_models import build_model, cli
from python_models.files import read_weights
from python_models.irsam.convert import NEW, compare, load_pretrained, read_checkpoint

KEYS = Path(__file__).parent / "models" / "keys"


@pytest.fixture(autouse=True)
def always_one_thread(one_thread):
    """For every test here."""


def _values(name):
    generator, tensors = torch.Generator().manual_seed(5), {}
    for line in (KEYS / f"{name}.tsv").read_text().splitlines():
        key, shape = line.split("\t")
        tensors[key] = torch.rand([int(n) for n in shape.split("x")], generator=generator) + 0.5 if shape else torch.tensor(3)
    return tensors


@pytest.fixture(scope="module")
def mobile_sam(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mobile_sam.pt"
    torch.save(_values("mobile_sam"), path)
    return path


def _fails(capsys, *args):
    capsys.readouterr()
    assert cli.main(["convert", *map(str, args), "--to", "irsam"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("irstd convert: ") and len(err) < 700
    return err


@pytest.mark.parametrize("preset, new", [("paper", 40), ("public", 28)])
def test_mobile_sam(mobile_sam, tmp_path, capsys, preset, new):
    out, values = tmp_path / "out.safetensors", read_checkpoint(mobile_sam)
    assert cli.main(["convert", str(mobile_sam), str(out), "--to", "irsam", "--preset", preset]) == 0
    text = capsys.readouterr().out
    assert f"439 tensors loaded, {new} new: " in text and "mask_decoder.edge_token" in text and f"--weights {out} --preset {preset}" in text
    written = read_weights(out)
    assert all(torch.equal(written[k], v) for k, v in values.items()) and len(written) == 439 + new
    mean, std = written["normaliser.mean"], written["normaliser.std"]
    assert torch.allclose(mean * 255, torch.tensor([123.675, 116.28, 103.53]))
    assert torch.allclose(std * 255, torch.tensor([58.395, 57.12, 57.375]))
    assert cli.main(["convert", str(mobile_sam), str(tmp_path / "again.safetensors"), "--to", "irsam", "--preset", preset]) == 0
    assert (tmp_path / "again.safetensors").read_bytes() == out.read_bytes()


def test_the_released_network_loads_completely(tmp_path, capsys):
    source, out = tmp_path / "released.safetensors", tmp_path / "out.safetensors"
    save_file(values := _values("irsam_public"), source)
    assert cli.main(["convert", str(source), str(out), "--to", "irsam", "--preset", "public"]) == 0
    assert "465 tensors loaded, 2 new: normaliser\n" in capsys.readouterr().out
    written = read_weights(out)
    assert all(torch.equal(written[k], v) for k, v in values.items())
    with torch.device("meta"):
        report = compare(values, build_model("irsam", "paper", "reference"))
    assert str(report) == "465 tensors loaded, 14 new: image_encoder.wpmd, normaliser" and not (report.missing or report.unexpected or report.misshapen)


def test_every_mismatch_is_one_line_and_changes_nothing():
    net, values = build_model("irsam", "public", "reference"), _values("mobile_sam")
    before = {k: v.clone() for k, v in net.state_dict().items()}
    del values["mask_decoder.iou_token.weight"], values["image_encoder.neck.0.weight"]
    values["mask_decoder.mask_tokens.weight"] = torch.zeros(3, 256)
    values["pixel_mean"] = torch.zeros(3)
    values["image_encoder.neck.2.weight"] = torch.zeros(256, 256, 3, 3, dtype=torch.int32)
    values["image_encoder.neck.1.weight"][7] = float("nan")
    with pytest.raises(ValueError) as error:
        load_pretrained(net, values)
    text = str(error.value)
    assert text.startswith("convert: the checkpoint does not fit irsam: 2 missing (image_encoder.neck.0.weight, mask_decoder.iou_token.weight)")
    assert "; 1 unexpected (pixel_mean); " in text
    assert "; 1 of another shape (mask_decoder.mask_tokens.weight (3, 256) for (4, 256)); " in text
    assert text.endswith("; 1 not real numbers (image_encoder.neck.2.weight int32); 1 not finite (image_encoder.neck.1.weight)") and "\n" not in text
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_known_new_keys_are_those_that_mobile_sam_lacks():
    released, sam = _values("irsam_public").keys(), _values("mobile_sam").keys()
    assert released - sam == {k for k in released if k.startswith(NEW)} and not any(k.startswith(NEW) for k in sam)


def test_what_is_no_checkpoint_is_refused(tmp_path, capsys, mobile_sam):
    out = tmp_path / "out.safetensors"
    files = {"broken.pt": (b"no weights", "is not a file of tensors as torch.save writes it"), "broken.safetensors": (b"x", "is not a whole safetensors file"), "empty.pt": (b"", "is empty"),
             "code.pt": (pickle.dumps(Path), "is not a"), "cut.pt": (mobile_sam.read_bytes()[:100_000], "is not a whole file of tensors")}
    for name, (content, message) in files.items():
        (tmp_path / name).write_bytes(content)
        assert message in _fails(capsys, tmp_path / name, out)
    torch.save({"a": torch.zeros(1), "when": Path("x")}, tmp_path / "class.pt")  # would call something
    assert "Path); nothing of it was run" in _fails(capsys, tmp_path / "class.pt", out)
    torch.save({"state_dict": _values("mobile_sam")}, tmp_path / "nested.pt")
    assert "must hold tensors by name and nothing else, got 'state_dict', a dict; save that part alone" in _fails(capsys, tmp_path / "nested.pt", out)
    assert "is not a file" in _fails(capsys, (tmp_path / "folder.pt").mkdir() or tmp_path / "folder.pt", out)
    assert "must end in .safetensors, .pt or .pth" in _fails(capsys, tmp_path / "weights.bin", out)
    assert "does not exist" in _fails(capsys, tmp_path / "none.pt", out)
    assert "out must end in .safetensors" in _fails(capsys, mobile_sam, tmp_path / "out.pt")
    assert not out.exists()


def test_an_existing_file_is_kept(tmp_path, capsys, mobile_sam):
    out = tmp_path / "out.safetensors"
    out.write_bytes(b"mine")
    assert "--overwrite" in _fails(capsys, mobile_sam, out) and out.read_bytes() == b"mine"
    assert "does not fit irsam" in _fails(capsys, mobile_sam, out, "--overwrite", "--preset", "tiny") and out.read_bytes() == b"mine"
    assert cli.main(["convert", str(mobile_sam), str(out), "--to", "irsam", "--overwrite"]) == 0 and len(read_weights(out)) == 479
    assert "another file" in _fails(capsys, out, out, "--overwrite")
