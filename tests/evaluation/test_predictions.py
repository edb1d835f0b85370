"""Folders of anybody's prediction files: what is read how, and one line for everything that is wrong or could be meant in two ways."""
import shutil

import numpy as np
import pytest
import tifffile
from evaluation.sets import judge, refused, write_predictions, write_set
from PIL import Image

from python_models import cli
from python_models.data import DataError
from python_models.evaluation import open_predictions

SIZE = (12, 14)
SIZES = {"a0": SIZE, "a1": SIZE}


def squares(low=0, high=255, dtype=np.uint8):
    out = np.full((2, *SIZE), low, dtype)
    out[0, 2:4, 3:5] = out[1, 7:9, 3:5] = high
    return out


def ramp(dtype, top):
    return np.linspace(0, top, 2 * SIZE[0] * SIZE[1]).reshape(2, *SIZE).astype(dtype)


@pytest.mark.parametrize("arrays,kind", [
    (squares(), "mask"), (squares(high=1), "mask"), (squares() * 0, "mask"), (squares() > 0, "mask"), (squares(high=65535, dtype=np.uint16), "mask"),
    (squares(high=255, dtype=np.int64), "mask"), (squares(high=1, dtype=np.float32), "mask"),
    (ramp(np.uint8, 255), "scores"), (ramp(np.uint16, 65535), "scores"),
    (ramp(np.float64, 1), "scores"), (ramp(np.float16, 0.3), "scores"),
])
def test_auto_finds_the_reading_of_all_files(arrays, kind, tmp_path):
    files = open_predictions(write_predictions(tmp_path, arrays), SIZES)
    assert files.kind == kind and f"2 files read as {kind} (decided from their values)" in files.described


@pytest.mark.parametrize("one,two,words", [
    (squares()[0], squares(high=1)[1], "a1.npy holds 0 and 1, a0.npy 0 and 255; give --input mask"),
    (squares(high=7)[0], squares(high=7)[1], "the values are 0 and 7, a mask holds 0 and 1 or 0 and full scale"),
    (ramp(np.float32, 12)[0] - 6, ramp(np.float32, 12)[1], "values -6 .. 12 are no scores in [0, 1]; give --input logits"),
    (ramp(np.uint8, 255)[0], ramp(np.uint16, 60000)[1], "the files are uint16 and uint8"),
    (ramp(np.uint8, 255)[0], ramp(np.float32, 1)[1], "the files are float32 and uint8"),
    (ramp(np.uint16, 200)[0], ramp(np.uint16, 200)[1], "uint16 files with values up to 200 may be 8-bit scores"),
])
def test_what_could_be_meant_in_two_ways_is_an_error(one, two, words, tmp_path):
    with pytest.raises(DataError, match="input cannot be told") as error:
        open_predictions(write_predictions(tmp_path, [one, two]), SIZES)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("input,arrays,words", [
    ("mask", ramp(np.uint8, 255), "mask must be 0 and one of 1, 255 and full scale; 2 of 2 files are not: a0.npy is uint8, 0 .. 127"),
    ("logits", ramp(np.uint8, 255), "logits must be floating-point numbers; 2 of 2 files are not"),
    ("scores", ramp(np.float32, 1.5), "scores must be numbers in [0, 1] or integers of 8 or 16 bits; 1 of 2 files are not: a1.npy is float32"),
    ("scores", ramp(np.int32, 255), "scores must be numbers in [0, 1] or integers of 8 or 16 bits; 2 of 2"),
])
def test_files_must_hold_what_the_option_says(input, arrays, words, tmp_path):
    with pytest.raises(DataError) as error:
        open_predictions(write_predictions(tmp_path, arrays), SIZES, input)
    assert words in str(error.value)


def test_values_are_read_exactly(tmp_path):
    eight = open_predictions(write_predictions(tmp_path / "8", ramp(np.uint8, 255), "png"), SIZES).read("a1", SIZE)
    assert np.array_equal(eight, ramp(np.uint8, 255)[1] / 255) and not (np.array([51 / 255]) > 0.2).any() and 51 / 255 in ramp(np.uint8, 255) / 255
    sixteen = open_predictions(write_predictions(tmp_path / "16", ramp(np.uint16, 65535), "png"), SIZES).read("a0", SIZE)
    assert np.array_equal(sixteen, ramp(np.uint16, 65535)[0] / 65535)
    logits = open_predictions(write_predictions(tmp_path / "x", ramp(np.float32, 9) - 4), SIZES, "logits")
    assert logits.input == "logits" and np.array_equal(logits.read("a0", SIZE), ramp(np.float32, 9)[0] - 4)


def test_formats(tmp_path):
    write_predictions(tmp_path, squares(), "bmp")
    tifffile.imwrite(tmp_path / "a1.tif", squares()[1])
    (tmp_path / "a1.bmp").unlink()
    files = open_predictions(tmp_path, SIZES)
    assert [files.read(n, SIZE).sum() for n in SIZES] == [4, 4] and files.unused == ()
    Image.fromarray(np.repeat(squares()[0][:, :, None], 3, 2)).save(tmp_path / "a0.bmp")  # grey stored as colour
    assert open_predictions(tmp_path, SIZES).read("a0", SIZE).sum() == 4
    Image.fromarray(np.stack([squares()[0]] * 2 + [squares()[1]], 2)).save(tmp_path / "a0.bmp")
    with pytest.raises(DataError, match=r"a0\.bmp: a prediction must be grey, this file holds colour"):
        open_predictions(tmp_path, SIZES)


def test_arrays_as_networks_give_them(tmp_path):
    write_predictions(tmp_path, [squares()[0][None], squares()[1][None, None]])
    files = open_predictions(tmp_path, SIZES)
    assert [np.array_equal(files.read(n, SIZE), s > 0) for n, s in zip(SIZES, squares())] == [True, True]
    np.save(tmp_path / "a0.npy", squares())
    with pytest.raises(DataError, match=r"a0\.npy: "):
        open_predictions(tmp_path, SIZES)


def test_names_in_folders(tmp_path):
    write_predictions(tmp_path / "sky", squares(), "png")
    files = open_predictions(tmp_path, {"sky/a0": SIZE, "sky/a1": SIZE})
    assert files.read("sky/a1", SIZE).sum() == 4


def test_every_missing_name_is_counted(tmp_path):
    write_predictions(tmp_path, squares(), "png", "_pred")
    with pytest.raises(DataError, match=r"no file for 2 of 2 images: a0, a1 \(NAME and one of .*; a0_pred is there, give --suffix _pred\)"):
        open_predictions(tmp_path, SIZES)
    with pytest.raises(DataError, match=r"no file for 1 of 3 images: a2 \(NAME_pred and"):
        open_predictions(tmp_path, {**SIZES, "a2": SIZE}, suffix="_pred")
    write_predictions(tmp_path / "plain", squares(), "png")
    with pytest.raises(DataError, match="a0 is there, leave --suffix out"):
        open_predictions(tmp_path / "plain", SIZES, suffix="_out")


def test_a_name_is_not_taken_for_a_longer_one(tmp_path):
    write_predictions(tmp_path, [squares()[0]] * 11, "png")
    assert {p.name for p in open_predictions(tmp_path, SIZES).unused} == {f"a{i}.png" for i in range(2, 11)}
    (tmp_path / "a1.png").unlink()
    with pytest.raises(DataError, match="no file for 1 of 2 images: a1 "):
        open_predictions(tmp_path, SIZES)


def test_two_files_of_one_image(tmp_path):
    write_predictions(write_predictions(tmp_path, squares(), "png"), squares())
    with pytest.raises(DataError, match=r"more than one file for 2 of 2 images: a0.npy and a0.png, a1.npy"):
        open_predictions(tmp_path, SIZES)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(value, tmp_path):
    arrays = ramp(np.float32, 1)
    arrays[1, 3, 3] = value
    with pytest.raises(DataError, match=r"1 of 2 files hold values that are not finite: a1\.npy"):
        open_predictions(write_predictions(tmp_path, arrays), SIZES)


def test_other_sizes_need_the_option(tmp_path):
    write_predictions(tmp_path, [squares()[0], np.zeros((6, 7), np.uint8)], "png")
    with pytest.raises(DataError, match=r"1 of 2 files differ in size from their image: a1.png is 7 x 6, its image 14 x 12; --resize-predictions"):
        open_predictions(tmp_path, SIZES)
    files = open_predictions(tmp_path, SIZES, resize="nearest")
    assert files.read("a1", SIZE).shape == SIZE and "1 resized (nearest)" in files.described


def test_resizing(tmp_path):
    small = np.zeros((1, 6, 7), np.float32)
    small[0, 2, 3] = 1
    write_predictions(tmp_path, small)
    nearest = open_predictions(tmp_path, {"a0": SIZE}, "scores", resize="nearest").read("a0", SIZE)
    assert np.argwhere(nearest).tolist() == [[4, 6], [4, 7], [5, 6], [5, 7]]
    bilinear = open_predictions(tmp_path, {"a0": SIZE}, "scores", resize="bilinear").read("a0", SIZE)
    assert np.isclose(bilinear.sum(), 4) and bilinear.max() == 0.5625


@pytest.mark.parametrize("name,content,words", [
    ("a1.png", b"", "a1.png: the file is empty"),
    ("a1.png", b"no image", "a1.png: not a PNG"),
    ("a1.npy", b"\x93NUMPY\x01\x00", "a1.npy: cannot be read"),
    ("a1.npy", b"PK\x05\x06" + bytes(18), "a1.npy: not a PNG, BMP, JPEG, TIFF or .npy file"),
])
def test_broken_files_are_named(name, content, words, tmp_path):
    write_predictions(tmp_path, squares()[:1])
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        open_predictions(tmp_path, SIZES)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_pickled_array_is_not_loaded(tmp_path):
    write_predictions(tmp_path, squares()[:1])
    np.save(tmp_path / "a1.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(DataError, match="a1.npy: cannot be read"):
        open_predictions(tmp_path, SIZES)


def test_truncated_png(tmp_path):
    write_predictions(tmp_path, ramp(np.uint8, 255), "png")
    content = (tmp_path / "a1.png").read_bytes()
    (tmp_path / "a1.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="a1.png"):
        open_predictions(tmp_path, SIZES)


def test_the_command_says_what_it_left_out_and_refuses_what_it_cannot_use(tmp_path, capsys):
    data = write_set(tmp_path / "set", squares())
    folder = write_predictions(tmp_path / "p", squares(), "png")
    (folder / "notes.txt").write_text("x")
    result = judge(capsys, folder, data, "--out", tmp_path / "out")
    assert cli.main([*map(str, ("eval", "--predictions", folder, "--data", data, "--no-plots", "--out", tmp_path / "out"))]) == 0
    assert "warning: 1 files of" in (err := capsys.readouterr().err) and "notes.txt" in err
    assert (result["input"], result["weights"], result["predictions"]) == ("mask", None, str(folder)) and result["scorers"]["p"]["figures"]["exact"]["IoU"] == 1
    assert refused(capsys, "--predictions", tmp_path / "none", "--data", data).endswith("does not exist")
    file = next(folder.iterdir())
    assert f"predictions: {file} must be a folder, got a file" in refused(capsys, "--predictions", file, "--data", data)
    assert "data must be given" in refused(capsys, "--predictions", folder)
    assert "got both" in refused(capsys, "run", "--predictions", folder, "--data", data)
    assert "got neither" in refused(capsys)
    assert "give another --out, or --overwrite" in refused(capsys, "--predictions", folder, "--data", data, "--threshold", "0.4", "--out", tmp_path / "out")
    shutil.move(folder, tmp_path / "top-hat")
    assert "must not have the name of the baseline" in refused(capsys, "--predictions", tmp_path / "top-hat", "--data", data, "--baseline", "tophat")
    assert "suffix belongs to --predictions" in refused(capsys, "run", "--suffix", "_x")
