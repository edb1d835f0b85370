"""The page: whole, self-contained, deterministic, with the numbers of the run and its evaluation."""
import json
import re

import numpy as np

from python_models.report import write_report
from report.make_run import make_evaluation, make_images, make_run

SECTIONS = ["results", "training", "speed", "configuration", "terms"]
EVALUATION = "eval/Small-synth-test/result.json"


def change(path, edit):
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def test_every_section_is_there_and_the_contents_lead_to_them(reported):
    page = reported()
    assert [a["id"] for a in page.all("section")] == SECTIONS
    assert [a["href"] for a in page.all("a")] == [f"#{s}" for s in SECTIONS]
    assert page.all("html") == [{"lang": "en"}] and len(page.all("h1")) == 1
    assert len(page.all("image")) == 6 and len(page.all("svg")) == 6 + 6 + 2


def test_nothing_is_loaded_from_anywhere_and_no_script_runs(reported):
    page = reported()
    assert not re.search(r"https?:|ftp:|@import|javascript:", page.html, re.I)
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "img")
        for name, value in attributes.items():
            assert not name.startswith("on") and name not in ("src", "srcset")
            if name.endswith("href"):
                assert value.startswith(("#", "data:image/png;base64,"))
    assert "default-src 'none'" in str(page.all("meta"))
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)", page.html))


def test_equal_folders_give_equal_bytes(run, tmp_path):
    pages = []
    for name in ("x.html", "y.html"):
        write_report([run], tmp_path / name)
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]
    change(run / "config.json", lambda c: c["train"].update(seed=1))
    write_report([run], tmp_path / "z.html")
    assert (tmp_path / "z.html").read_bytes() != pages[0]


def test_element_ids_are_unique_and_referred_to(reported):
    page = reported()
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {r for r in re.findall(r"url\(#(\w+)\)", page.html)} <= set(ids)
    assert {a["xlink:href"][1:] for a in page.all("use")} <= set(ids)


def test_figures_are_those_of_the_evaluation(run, reported):
    page, scorers = reported(), json.loads((run / EVALUATION).read_text())["scorers"]
    for row, scores in zip(page.values["Pixels, %"][1:], scorers.values()):
        f = scores["figures"]["exact"]
        assert row == [f[k] for k in ("IoU", "nIoU", "F1", "precision", "recall")] + [scores["auc"]]
    expected = [[f["Pd"], f["n_hit"], f["Fa"], f["Fa_objects_per_image"]] for p in ("exact", "legacy", "overlap", "shooting")
                for f in (s["figures"][p] for s in scorers.values())]
    assert page.values["Targets, by protocol"][1:] == expected
    f, interval = scorers["sgem_unet"]["figures"]["legacy"], scorers["sgem_unet"]["intervals"]["legacy"]
    shown = next(r for r in page.tables["Targets, by protocol"] if r[0] == "legacy")
    assert shown[1:4] == ["sgem_unet", f"{100 * f['Pd']:.2f} [{100 * interval['Pd'][0]:.2f} – {100 * interval['Pd'][1]:.2f}]", f"{f['n_hit']} of 150"]
    assert page.tables["Highest Pd, %, with Fa no more than (10⁻⁶)"][0][1:] == ["1", "10", "1000"]
    assert page.values["Highest Pd, %, with Fa no more than (10⁻⁶)"][1] == list(scorers["sgem_unet"]["pd_at_fa"].values())
    found = [["1 – 9", *["no target"] * 2], ["10 – 81", *["90.0 [9 of 10]"] * 2], ["≥ 82", *["90.0 [18 of 20]"] * 2]]
    assert page.tables["Targets found by size, %"][1:] == found
    assert page.tables["Evaluation"][1][-3:] == ["32.1", "cpu", "1"]


def test_the_head_names_what_a_result_depends_on(reported):
    words = reported().words
    for fact in ("sgem_unet tiny", "M parameters", "Small, split synth", "aaaaaaaaaaaaaaaa", "0123456789abcdef", "size native, threshold 0.5",
                 "12 epochs, epoch 9 selected", "torch 2.13.0", "bootstrap over the images, 1000 samples, seed 0, level 0.95"):
        assert fact in words


def test_versions_of_the_evaluation_are_named_where_they_differ(run, reported):
    assert "judged with" not in reported().words
    change(run / EVALUATION, lambda r: r["versions"].update(torch="2.12.0"))
    assert "torch 2.13.0; judged with torch 2.12.0" in reported().words


def test_values_that_are_not_the_default_are_marked(reported):
    page = reported()
    rows = {r[0]: r[1:] for r in page.tables["Training"] if len(r) == 3}
    assert rows["batch_size"] == ["4", "default 8"] and rows["clip"] == ["0", ""] and rows["data"] == ["DATA/Small", ""]
    network = {r[0]: r[1:] for r in page.tables["Network"]}
    assert network["attention"] == ["linear", "default bilinear"] and network["widths"][1] == "default 8, 16, 32, 56, 64"
    defaults = [cell for row in [*rows.values(), *network.values()] for cell in row if cell.startswith("default ")]
    assert len([a for a in page.all("td") if a.get("class") == "changed"]) == len(defaults)


def test_tables_and_pictures_say_what_they_are(reported):
    page = reported()
    assert all(page.tables) and len(page.all("caption")) == len(page.all("table"))
    assert all(a.get("scope") in ("col", "row", "rowgroup") for a in page.all("th"))
    assert all(a.get("role") == "img" and a.get("aria-label") for a in page.all("svg"))
    assert "miss in 1 at row 21, column 31" in [a["aria-label"] for a in page.all("svg")]


def test_a_run_without_evaluation_says_how_to_judge_it(tmp_path, reported):
    page = reported(make_run(tmp_path / "b", judged=False))
    assert f"irstd eval {tmp_path / 'b'} --baseline tophat" in page.words
    assert [a["id"] for a in page.all("section")] == SECTIONS and len(page.all("svg")) == 6 and not page.all("image")


def test_a_run_without_a_log_says_so(tmp_path, reported):
    page = reported(make_run(tmp_path / "b", epochs=0, judged=False))
    assert "no finished epoch" in page.words and "Nothing has been timed" in page.words and not page.all("svg")


def test_an_unfinished_run_has_no_selected_epoch(run, reported):
    (run / "metrics.json").unlink()
    assert "12 epochs, not finished" in reported().words


def test_missing_parts_of_an_evaluation_are_named(run, reported):
    for name in ("curve.csv", "roc.csv", "targets.jsonl"):
        (run / "eval/Small-synth-test" / name).unlink()
    change(run / EVALUATION, lambda r: [s.update(by_size=[], by_scr=[], pd_at_fa={}, intervals={}, auc=None) for s in r["scorers"].values()])
    page = reported()
    assert "No curves are stored" in page.words and "no miss and no false alarm is stored" in page.words
    assert "Targets found by size, %" not in page.tables and page.tables["Pixels, %"][1][-1] == "–"


def test_undefined_figures_are_dashes(run, reported):
    change(run / EVALUATION, lambda r: r["scorers"]["sgem_unet"]["figures"]["exact"].update(Pd=None, Fa=float("nan")))
    assert next(r for r in reported().tables["Targets, by protocol"] if r[0] == "exact")[2:5:2] == ["–", "–"]


def test_runs_side_by_side(run, tmp_path, reported):
    b, c = make_run(tmp_path / "b", seed=5, lr=0.1), make_run(tmp_path / "c", judged=False)
    page = reported(run, b, c)
    assert [r[0] for r in page.tables["Pixels, %"][1:]] == ["a", "b", "top-hat (a)", "top-hat (b)"]
    assert "3 runs: a, b, c" in page.words and "c has not been judged" in page.words
    assert [r for r in page.tables["Training"] if r[0] == "lr"] == [["lr", "0.003", "0.1", "0.003", "default 0.002"]]
    assert page.html.count('<tr class="differs">') == 2 and "seeds" not in page.words


def test_a_scorer_that_runs_share_is_shown_once(run, tmp_path, reported):
    b = make_run(tmp_path / "b", lr=0.1)
    assert [r[0] for r in reported(run, b).tables["Pixels, %"][1:]] == ["a", "b", "top-hat"]


def test_the_folder_of_a_training_from_several_seeds_stands_for_its_runs(tmp_path, reported):
    runs = [make_run(tmp_path / "many" / f"seed-{seed}", seed=seed) for seed in (10, 9, 2)]
    page = reported(tmp_path / "many")
    assert [r[0] for r in page.tables["Pixels, %"][1:4]] == ["seed-2", "seed-9", "seed-10"]
    pd = [json.loads((r / EVALUATION).read_text())["scorers"]["sgem_unet"]["figures"]["legacy"]["Pd"] for r in runs]
    legacy = page.tables["Targets, by protocol"][1 + 7 : 1 + 2 * 7]  # per protocol three runs, three filters, the mean
    assert legacy[0][0] == "legacy" and legacy[-1][:2] == ["mean ± s.d., 3 seeds", f"{100 * np.mean(pd):.2f} [± {100 * np.std(pd, ddof=1):.2f}]"]
    (tmp_path / "many" / "seed-x").mkdir()
    change(runs[0] / "config.json", lambda c: c["train"].update(lr=0.1))
    assert "mean ± s.d." not in reported(tmp_path / "many").words


def test_what_cannot_be_compared_stands_in_tables_of_its_own(run, reported):
    make_evaluation(run / "eval/other", make_images(run.parent / "others", 2), scorers=("sgem_unet",), split="another")
    page = reported()
    assert page.html.count("<article>") == 2 and page.words.index("Small synth test") < page.words.index("Small another test")
    change(run / "eval/other/result.json", lambda r: r.update(split="synth", images=4))
    page = reported()
    assert page.html.count("<article>") == 1
    assert [r[0] for r in page.tables["Pixels, %"][1:]] == ["sgem_unet (Small-synth-test)", "sgem_unet (other)", "top-hat"]


def test_the_tiles_name_scorer_and_protocol(run, reported):
    def names(page):
        return re.findall(r"<h4>(.*?)</h4>\n<dl class=\"tiles\">", page.html)

    assert names(reported()) == ["sgem_unet, protocol exact"]
    change(run / EVALUATION, lambda r: [s.update(figures={"legacy": s["figures"]["legacy"]}, intervals={}) for s in r["scorers"].values()])
    assert names(reported()) == ["sgem_unet, protocol legacy"]
    make_evaluation(run / "eval/other", make_images(run.parent / "others", 4), scorers=("sgem_unet",))
    assert names(reported()) == []  # two networks have no one headline


def test_a_list_that_was_judged_twice_is_named_once(run, reported):
    make_evaluation(run / "eval/other", make_images(run.parent / "others", 4), scorers=("sgem_unet",))
    head = reported().html.split("</header>")[0]
    assert head.count("Small synth test, 4 images (0123456789abcdef), size native, threshold 0.5") == 1
    change(run / "eval/other/result.json", lambda r: r.update(threshold=0.4))
    assert "threshold 0.5; Small synth test" in reported().html.split("</header>")[0]


def test_settings_that_only_some_scorers_have_say_whose_they_are(run, reported):
    def facts(page):
        return dict(re.findall(r"<span>([\w -]+) <b>(.*?)</b></span>", page.html))

    change(run / EVALUATION, lambda r: r.update(tophat={"size": 7, "k": 3.0}, notes=["4 images are few", "small"]))
    alone = facts(reported())
    assert (alone["weights"], alone["top-hat"], alone["notes"]) == ("best", "size 7, k 3.0", "4 images are few; small")
    make_evaluation(run / "eval/files", make_images(run.parent / "others", 4), scorers=("files",), seed=7)
    change(run / "eval/files/result.json", lambda r: r.update(weights=None, predictions="SOME/files"))
    both = facts(reported())
    assert (both["weights"], both["predictions"], both["top-hat"]) == ("best (sgem_unet)", "SOME/files (files)", "size 7, k 3.0")
    assert (both["images"], both["threshold"]) == ("4", "0.5")  # what all share stands alone
    change(run / "eval/files/result.json", lambda r: r.update(weights="last"))
    assert facts(reported())["weights"] == "best (sgem_unet); last (files)"


def test_the_plot_says_that_pd_is_not_monotone(run, reported):
    words = "Pd is not monotone in the threshold"
    assert words in reported().words
    for name in ("curve.csv", "roc.csv"):
        (run / "eval/Small-synth-test" / name).unlink()
    assert words not in reported().words


def test_folders_of_evaluations_that_were_killed_are_left_out(run, reported):
    whole = reported().html
    make_evaluation(run / "eval/.Small-synth-test.123.tmp", make_images(run.parent / "others", 4), scorers=("sgem_unet",), seed=9)
    assert reported().html == whole


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return sum(w * (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4) for w, c in zip((0.2126, 0.7152, 0.0722), parts))


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_text_and_curves_stand_out_in_light_and_dark(reported):
    """WCAG 2: 4.5 for text, 3 for graphics."""
    schemes = re.findall(r":root \{(.*?)\}", reported().html, re.S)[:2]
    assert len(schemes) == 2 and contrast("#000000", "#ffffff") == 21
    for scheme in schemes:
        colours = dict(re.findall(r"--([\w]+): (#[0-9a-f]{6});", scheme))
        assert min(contrast(colours[text], colours[ground]) for text in ("ink", "muted", "accent") for ground in ("bg", "panel")) >= 4.5
        assert min(contrast(colours[f"s{i}"], colours["bg"]) for i in range(6)) >= 3 and contrast(colours["line"], colours["bg"]) < 3
