"""Rewrites the generated tables of README.md from benchmarks/results/*.json; `--check` only says whether they are current."""
import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BASELINES = ("reference", "compiled", "composition")


def own(row: dict) -> float:
    """The op is timed in two places of each round; the slower median counts."""
    return max(row["ext"]["median_ms"], row["again"]["median_ms"])


def ratio(rows: list[dict], baseline: str) -> str:
    """The smallest speed-up over the allocators, by medians; '=' where it is within the spread of the op timed twice, or of the baseline."""
    row = min(rows, key=lambda r: r[baseline]["median_ms"] / own(r))
    mine, other = own(row), row[baseline]
    noise = max(abs(row["again"]["median_ms"] - row["ext"]["median_ms"]), row["ext"]["iqr_ms"], other["iqr_ms"])
    text = f"{other['median_ms'] / mine:.2f}"
    return f"{text} =" if abs(other["median_ms"] - mine) <= noise else text


def grouped(rows: list[dict]) -> list[list[dict]]:
    """The rows of one measurement, an allocator each."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["op"], row["case"], row["mode"], row["threads"]), []).append(row)
    return list(groups.values())


def ops_table(result: dict) -> str:
    machine = result["machine"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, torch {result['torch']}, float32, commit {result['commit']}; medians of interleaved rounds, the worse of two allocators for each ratio.",
        "",
        "| op | case | mode | threads | ms | x eager | x compiled | x composition | % of GEMM rate | % of copy rate | error | error of eager |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for rows in grouped(result["rows"]):
        r = max(rows, key=own)
        kind = "forward" if r["mode"] == "forward" else "gradient"
        rate = 100 * r["flops"] / (own(r) * 1e-3) / r["gemm_flops_per_s"]
        copy = f"{100 * r['bytes'] / (own(r) * 1e-3) / r['copy_bytes_per_s']:.0f}" if kind == "forward" else "-"
        ratios = " | ".join(ratio(rows, b) if b in r else "-" for b in BASELINES)
        lines.append(f"| `{r['op']}` | {r['case']} | {r['mode']} | {r['threads']} | {own(r):.2f} | {ratios} | {rate:.0f} | {copy} | {r[kind + '_error_ext']:.1e} | {r[kind + '_error_reference']:.1e} |")
    return "\n".join(lines)


def cold_table(result: dict) -> str:
    lines = [f"{result['machine']['cpu']}, commit {result['commit']}; medians, the worse of two allocators for each ratio.", "", "| case | threads | ms | of a copy | of one step | x grouped convolutions | with gradients |",
             "|---|---|---|---|---|---|---|"]
    for first in result["rows"]:
        rows = [r for r in result["rows"] if (r["case"], r["threads"]) == (first["case"], first["threads"])]
        if first is rows[0]:
            copy, step = (max(r["op"]["median_ms"] / r[other]["median_ms"] for r in rows) for other in ("copy", "one_step"))
            forward, both = (min(r[f"convolutions{what}"]["median_ms"] / r[op]["median_ms"] for r in rows) for what, op in (("", "op_beside"), ("_gradients", "op_gradients")))
            lines.append(f"| {first['case']} | {first['threads']} | {max(r['op']['median_ms'] for r in rows):.2f} | {copy:.2f} | {step:.2f} | {forward:.1f} | {both:.1f} |")
    return "\n".join(lines)


def rewrites_table(result: dict) -> str:
    lines = ["| what | batch | ms | ms, without rewrites | times |", "|---|---|---|---|---|"]
    lines += [f"| {r['mode']}, {r['size']}x{r['size']} | {r['batch']} | {r['all_ms']:.0f} | {r['none_ms']:.0f} | {r['ratio']:.2f} |" for r in result["rows"]]
    shared = [r for r in result["rows"] if r["shares"]]
    lines += ["", f"| share of | {' | '.join(r['mode'] for r in shared)} |", f"|---|{'---|' * len(shared)}"]
    lines += ["| " + " | ".join([part, *(f"{100 * r['shares'][part]:.0f} %" for r in shared)]) + " |" for part in shared[0]["shares"]]
    machine = result["machine"]
    return "\n".join([f"`irsam {result['preset']}`; {machine['cpu']}, {machine['threads']} threads, torch {result['torch']}, float32, commit {result['commit']}; medians.", "", *lines])


def targets_table(result: dict) -> str:
    machine = result["machine"]
    lines = [
        f"{machine['cpu']}, 1 thread, commit {result['commit']}; medians, the worse of two allocators for each ratio. SciPy: `ndimage.label` and `bincount`, of both masks with the same matching, or of the prediction alone.",
        "",
        "| what | mask or score map | ms | x SciPy, same work | x SciPy, labels of the prediction alone | x labelling at every level |",
        "|---|---|---|---|---|---|",
    ]
    for rows in grouped(result["rows"]):
        r = max(rows, key=own)
        match = r["op"] == "targets.match"
        cells = [ratio(rows, "reference") if match else "-", ratio(rows, "label") if match else "-", ratio(rows, "reference") if not match and "reference" in r else "-"]
        lines.append(f"| `{r['op']}` | {r['case']} | {own(r):.3f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def models_table(result: dict) -> str:
    lines = ["| network | preset | parameters | MAC at 256x256 | training ms/image | inference ms/image |", "|---|---|---|---|---|---|"]
    for r in result["rows"]:
        lines.append(f"| `{r['model']}` | {r['preset']} | {r['parameters']:,} | {r['macs'] / 1e9:.2f} G | {r['train_ms']:.0f} | {r['infer_ms']:.0f} |")
    machine = result["machine"]
    return "\n".join([f"{machine['cpu']}, {machine['threads']} threads, torch {result['torch']}, float32, batch 4 (training) and 1 (inference), commit {result['commit']}.", "", *lines])


def training_table(result: dict) -> str:
    config, test, done = result["config"], result["test"], result["training"]
    lines = [
        f"`irstd train sgem_unet --preset {config['preset']}` on {config['data']} `{config['split']}`: {done['epochs']} epochs in {done['seconds'] / 60:.0f} minutes on {result['machine']['threads']} CPU thread,"
        f" epoch {done['selected']['epoch']} chosen on the validation list, seed {config['seed']}, commit {result['commit']}; {test['images']} test images, list {test['split_hash']}, protocol `{test['protocol']}`,"
        f" {test['eval_size']} size, threshold {test['threshold']}. The top-hat filter is fitted on the training list.",
        "",
        "| | IoU % | nIoU % | Pd % | Fa 1e-6 |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {name} | {100 * f['IoU']:.1f} | {100 * f['nIoU']:.1f} | {100 * f['Pd']:.1f} | {1e6 * f['Fa']:.1f} |" for name, f in test["figures"].items()]
    return "\n".join(lines)


def backends_table(result: dict) -> str:
    lines = ["| network | preset | what | batch | ms | ms, reference | times | bound | operators' share |", "|---|---|---|---|---|---|---|---|---|"]
    for r in result["rows"]:
        lines.append(f"| `{result['network']}` | {result['preset']} | {r['mode']}, {r['size']}x{r['size']} | {r['batch']} | {r['ext_ms']:.0f} | {r['reference_ms']:.0f} | {r['ratio']:.1f} | {r['amdahl_bound']:.1f} |"
                     f" {100 * r['operator_share']:.0f} % |")
    machine = result["machine"]
    return "\n".join([f"{machine['cpu']}, {machine['threads']} threads, torch {result['torch']}, float32, commit {result['commit']}; medians. Bound: if the operators took no time at all.", "", *lines])


TABLES = {
    "ops": ("cpu.json", ops_table),
    "pixel_difference": ("pixel_difference.json", ops_table),
    "wavelet_diffusion": ("wavelet_diffusion.json", ops_table),
    "wavelet_diffusion_cold": ("wavelet_diffusion_cold.json", cold_table),
    "backends": ("backends_irmamba_paper.json", backends_table),
    "rewrites": ("rewrites_irsam_public.json", rewrites_table),
    "targets": ("targets.json", targets_table),
    "models": ("models.json", models_table),
    "training": ("train_sgem_unet_tiny_nuaa.json", training_table),
}


def render(text: str) -> str:
    for name, (file, make) in TABLES.items():
        path = HERE / "results" / file
        if not path.exists():
            raise SystemExit(f"{path} is missing; run: make bench")
        body = make(json.loads(path.read_text()))
        text, count = re.subn(rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end {name} -->)", lambda m, body=body: f"{m[1]}{body}\n{m[2]}", text, flags=re.S)
        if not count:
            raise SystemExit(f"README.md: the markers of table {name!r} are missing")
    return text


if __name__ == "__main__":
    old = README.read_text()
    new = render(old)
    if "--check" in sys.argv:
        sys.exit(0 if new == old else "README.md: generated tables are not current; run: python benchmarks/tables.py")
    README.write_text(new)
