"""`irstd predict`: exit codes, lines, and what an interrupt says."""
import json
import os
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from python_models import cli
from python_models.inference import Predictor
from python_models.runs import load_run


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (48, 40), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def predict(trained, tmp_path, capsys):
    """predict(*args) -> (exit code, stdout, lines of stderr); writes to tmp_path/out."""
    def call(*args, out=tmp_path / "out"):
        capsys.readouterr()
        code = cli.main(["predict", str(trained), *(str(a) for a in args), "--out", str(out), "--backend", "reference", "--device", "cpu"])
        got = capsys.readouterr()
        assert all(line.startswith("irstd predict: ") for line in got.err.splitlines()), got.err
        return code, got.out, got.err.splitlines()
    return call


def test_everything_read_is_0(predict, images, tmp_path):
    code, text, errors = predict(images, "--outputs", "masks", "scores")
    assert code == 0 and not errors and text.endswith(f" targets in 3 of 3 images, written to {tmp_path / 'out'}\n")
    assert len(list((tmp_path / "out" / "scores").iterdir())) == 3 and not (tmp_path / "out" / "overlays").exists()


def test_something_unread_is_1_and_the_count_says_so(predict, images):
    (images / "bad.png").write_text("no image")
    (images / "cut.png").write_bytes((images / "0.png").read_bytes()[:900])
    code, text, errors = predict(images, images / "gone.png")
    assert code == 1 and "targets in 3 of 6 images" in text
    assert [next(n for n in ("bad", "gone", "cut") if n in line) for line in errors] == ["bad", "gone", "cut"]


def test_nothing_read_is_2_and_claims_nothing(predict, images, tmp_path):
    (images / "bad.png").write_text("no image")
    (images / "cut.png").write_bytes((images / "0.png").read_bytes()[:900])
    empty = tmp_path / "empty"
    empty.mkdir()
    for source in (images / "bad.png", images / "cut.png", empty, tmp_path / "gone"):
        code, text, errors = predict(source)
        assert code == 2 and text == "" and len(errors) == 1 and str(source) in errors[0]
    assert not (tmp_path / "out").exists()


def test_existing_predictions_need_overwrite(predict, images):
    assert predict(images)[0] == 0
    code, _, errors = predict(images)
    assert code == 2 and errors[0].endswith("holds predictions; give another --out, or --overwrite")
    assert predict(images, "--overwrite")[0] == 0


def test_float_counts_want_their_full_scale(predict, images, tmp_path):
    np.save(images / "3.npy", np.full((32, 32), 700.0, np.float32))
    code, _, errors = predict(images / "3.npy")
    assert code == 2 and "--full-scale" in errors[0] and "got 700..700" in errors[0]
    assert predict(images / "3.npy", "--full-scale", 1000)[0] == 0
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["full_scale"] == 1000
    assert predict(images / "3.npy", "--full-scale", 0, "--overwrite")[2] == ["irstd predict: full_scale must be > 0, got 0.0"]


def test_dark_16_bit_images_are_noted(predict, images, tmp_path):
    Image.fromarray(np.full((32, 32), 16000, np.uint16)).save(images / "4.png")
    assert "note: no 16-bit image exceeds 16000 of 65535" in predict(images / "4.png")[1]
    assert "note" not in predict(images / "4.png", "--full-scale", 16383, "--overwrite")[1]


def test_tiles_of_a_global_network_are_noted(predict, images):
    assert "note: sgem_unet looks at all it is shown at once" in predict(images, "--tile", 32, "--halo", 16)[1]


def test_wrong_tiles_are_one_line_and_nothing_is_written(predict, images, tmp_path):
    code, text, errors = predict(images, "--halo", 16)
    assert code == 2 and text == "" and errors == ["irstd predict: halo needs a tile, got none"] and not (tmp_path / "out").exists()


def test_an_interrupt_says_what_is_kept(predict, images, tmp_path, monkeypatch):
    whole, calls = Predictor.__call__, []

    def stop(self, pixels):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(self, pixels)

    monkeypatch.setattr(Predictor, "__call__", stop)
    code, text, errors = predict(images)
    assert code == 130 and text == "" and errors[0].startswith("irstd predict: stopped after 2 of 3 images") and errors[1:] == ["irstd predict: interrupted"]
    assert (tmp_path / "out" / "targets.jsonl.partial").is_file() and not (tmp_path / "out" / "targets.jsonl").exists()


def test_score_maps_are_those_of_the_run(predict, trained, images, tmp_path):
    from python_models.data import read_image
    from python_models.inference import predict_logits, quantise_scores

    predict(images, "--outputs", "scores", "--weights", "last")
    net = load_run(trained, "last", "reference")
    for path in images.iterdir():
        logits = predict_logits(net, torch.from_numpy(read_image(path))[None])
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "scores" / path.name)), quantise_scores(logits))


def test_the_manifest_counts_as_the_screen_does(predict, images, tmp_path):
    (images / "cut.png").write_bytes((images / "0.png").read_bytes()[:900])
    Image.new("L", (9, 9)).save(images / "small.png")
    code, text, errors = predict(images, images / "gone.png")
    about = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert code == 1 and f"in {about['images']} of {about['of']} images" in text and (about["images"], about["of"], about["complete"]) == (3, 6, True)
    assert [f"irstd predict: {line}" for line in about["failed"]] == errors and len(errors) == 3
    predict(images / "0.png", "--overwrite")
    about = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert (about["images"], about["of"], about["failed"]) == (1, 1, [])


@pytest.fixture(scope="module")
def fixed(tmp_path_factory):
    """A run of an untrained network that sees 32x32."""
    from python_models import build_model
    from python_models.runs import save_run, save_weights

    folder = tmp_path_factory.mktemp("fixed")
    net = build_model("sgem_unet", "tiny", "reference", input_size=32, widths=[4, 4, 8, 8, 8])
    save_run(folder, net, {}, {})
    save_weights(folder, net.state_dict(), best=True)
    return folder


@pytest.fixture
def predict_fixed(fixed, tmp_path, capsys):
    def call(*args):
        code = cli.main(["predict", str(fixed), *(str(a) for a in args), "--out", str(tmp_path / "out"), "--backend", "reference", "--overwrite"])
        return code, *capsys.readouterr()
    return call


def test_images_shrunk_more_than_twice_are_noted_once(predict_fixed, images):
    assert "note" not in predict_fixed(images)[1]
    for name, size in (("limit", (64, 64)), ("wide", (65, 40)), ("big", (80, 100))):
        Image.new("L", size).save(images / f"{name}.png")
    text, hint = predict_fixed(images)[1], "the network sees 32x32: small targets vanish; --tile 32 works at native size"
    assert f"note: {images / 'big.png'} is 100x80 (one of 2 such images), {hint}\n" in text and text.count("note") == 1
    assert f"note: {images / 'wide.png'} is 40x65, {hint}\n" in predict_fixed(images / "wide.png")[1]
    assert "vanish" not in predict_fixed(images / "limit.png")[1] + predict_fixed(images, "--tile", "32")[1]


def test_a_tile_that_does_not_fit_is_told_which_does(predict_fixed, images):
    for args, fits in (((64,), "--tile 32"), ((64, "--halo", 4), "--tile 24"), ((64, "--halo", 16), "--tile 32 without a halo")):
        code, _, error = predict_fixed(images, "--tile", *args)
        assert code == 2 and error.count("\n") == 1 and error.rstrip().endswith(f"; give {fits}")
    assert predict_fixed(images, "--tile", 24, "--halo", 4)[0] == predict_fixed(images, "--tile", 32)[0] == 0


def test_a_source_after_the_outputs_is_told_where_to_stand(capsys, images):
    for source in (str(images), str(images / "*.png")):
        assert cli.main(["predict", "run", "--outputs", "masks", "targets", source, "--batch", "2"]) == 2
        line = capsys.readouterr().err
        assert line.startswith(f"irstd predict: outputs: {source} is a path; sources come before --outputs") and line.count("\n") == 1
    assert cli.main(["predict", "run", str(images), "--outputs", "mask"]) == 2
    assert "invalid choice 'mask'" in capsys.readouterr().err


def test_saturated_images_are_noted_once(predict, images):
    assert "full scale" not in predict(images)[1]
    Image.fromarray(np.full((48, 40), 255, np.uint8)).save(images / "white.png")
    Image.fromarray(np.eye(48, 40, dtype=np.uint8) * 255).save(images / "line.png")
    text = predict(images, "--overwrite")[1]
    assert f"note: {images / 'white.png'} has 100.0 % of its pixels at full scale (one of 2 such images), where what is brighter is lost\n" in text
    assert text.count("note: ") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_utf8_does_not_stop_the_others(predict, images, tmp_path):
    (images / "0.png").rename(images / os.fsdecode(b"\xe4.png"))
    Image.fromarray(np.full((48, 40), 255, np.uint8)).save(images / os.fsdecode(b"\xe5.png"))
    code, text, errors = predict(images, "--threshold", "1e-6", "--outputs", "masks", "targets")
    assert code == 0 and not errors and "in 4 of 4 images" in text and "\\udce5.png has 100.0 %" in text
    assert b"\n\xe4.png,\xe4," in (tmp_path / "out" / "targets.csv").read_bytes()
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["complete"]
