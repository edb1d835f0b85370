"""Rewrites the generated tables of README.md from benchmarks/results/*.json; `--check` only says whether they are current."""
import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BASELINES = ("reference", "compiled", "composition")


def ratio(row: dict, baseline: str) -> str:
    """Speed-up by medians; '=' where the difference is within the spread of the same op timed twice, or of the baseline."""
    ext, other = row["ext"], row[baseline]
    noise = max(abs(row["again"]["median_ms"] - ext["median_ms"]), ext["iqr_ms"], other["iqr_ms"])
    value = other["median_ms"] / ext["median_ms"]
    return f"{value:.2f} =" if abs(other["median_ms"] - ext["median_ms"]) <= noise else f"{value:.2f}"


def worst(rows: list[dict]) -> list[dict]:
    """Of the two allocators the row with the smaller speed-up over the reference."""
    best = {}
    for row in rows:
        key = row["op"], row["case"], row["mode"], row["threads"]
        value = row["reference"]["median_ms"] / row["ext"]["median_ms"]
        if key not in best or value < best[key][0]:
            best[key] = value, row
    return [row for _, row in best.values()]


def ops_table(result: dict) -> str:
    machine = result["machine"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, torch {result['torch']}, float32, commit {result['commit']}; medians of interleaved rounds, worse of two allocators.",
        "",
        "| op | case | mode | threads | ms | x eager | x compiled | x composition | % of GEMM rate | error | error of eager |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in worst(result["rows"]):
        kind = "forward" if r["mode"] == "forward" else "gradient"
        rate = 100 * r["flops"] / (r["ext"]["median_ms"] * 1e-3) / r["gemm_flops_per_s"]
        ratios = " | ".join(ratio(r, b) if b in r else "-" for b in BASELINES)
        lines.append(f"| `{r['op']}` | {r['case']} | {r['mode']} | {r['threads']} | {r['ext']['median_ms']:.2f} | {ratios} | {rate:.0f} | {r[kind + '_error_ext']:.1e} | {r[kind + '_error_reference']:.1e} |")
    return "\n".join(lines)


def models_table(result: dict) -> str:
    lines = ["| network | preset | parameters | MAC at 256x256 | training ms/image | inference ms/image |", "|---|---|---|---|---|---|"]
    for r in result["rows"]:
        lines.append(f"| `{r['model']}` | {r['preset']} | {r['parameters']:,} | {r['macs'] / 1e9:.2f} G | {r['train_ms']:.0f} | {r['infer_ms']:.0f} |")
    machine = result["machine"]
    return "\n".join([f"{machine['cpu']}, {machine['threads']} threads, torch {result['torch']}, float32, batch 4 (training) and 1 (inference), commit {result['commit']}.", "", *lines])


TABLES = {"ops": ("cpu.json", ops_table), "models": ("models.json", models_table)}


def render(text: str) -> str:
    for name, (file, make) in TABLES.items():
        path = HERE / "results" / file
        if not path.exists():
            continue
        body = make(json.loads(path.read_text()))
        text, count = re.subn(rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end {name} -->)", lambda m: f"{m[1]}{body}\n{m[2]}", text, flags=re.S)
        if not count:
            raise SystemExit(f"README.md: the markers of table {name!r} are missing")
    return text


if __name__ == "__main__":
    old = README.read_text()
    new = render(old)
    if "--check" in sys.argv:
        sys.exit(0 if new == old else "README.md: generated tables are not current; run: python benchmarks/tables.py")
    README.write_text(new)
