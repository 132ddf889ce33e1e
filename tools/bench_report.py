#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Turns the CSV files of tools/bench.sh into a table in words (report.md) and plots (PNG, where gnuplot is there).

Usage: bench_report.py FOLDER
"""

import csv
import pathlib
import shutil
import statistics
import subprocess
import sys

OURS = "udaxfs-ring"
FALLBACK = "udaxfs-dev"
PEERS = ("passthrough_ll", "fuse2fs")


def read(path):
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def in_order(values):
    return list(dict.fromkeys(values))


def number(value):
    value = float(value)
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def operations_table(rows, clients):
    rows = [row for row in rows if row["clients"] == clients]
    subjects = in_order(row["subject"] for row in rows)
    figures = {(row["operation"], row["subject"]): row for row in rows}
    lines = [f"### {clients} client{'s' if clients != '1' else ''}: median us / 99 % us / thousand a second", ""]
    lines += ["| | " + " | ".join(subjects) + " |", "|---" * (len(subjects) + 1) + "|"]
    for operation in in_order(row["operation"] for row in rows):
        cells = []
        for subject in subjects:
            row = figures.get((operation, subject))
            cells.append("" if row is None else
                         f"{number(row['p50_us'])} / {number(row['p99_us'])} / {number(float(row['per_second']) / 1000)}")
        lines.append(f"| {operation} | " + " | ".join(cells) + " |")
    return lines + [""]


def ratios(rows):
    """How many times the peers' throughput; medians against theirs."""
    figures = {(row["operation"], row["subject"], row["clients"]): row for row in rows}
    subjects = {row["subject"] for row in rows}
    ours = OURS if OURS in subjects else FALLBACK
    lines = [f"### {ours} against peers: throughput as a multiple of theirs, median latency as a part of theirs", ""]
    peers = [peer for peer in PEERS if peer in subjects]
    clients = in_order(row["clients"] for row in rows)
    heads = [f"{peer}, {n}" for peer in peers for n in clients]
    lines += ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for operation in in_order(row["operation"] for row in rows):
        cells = []
        for peer in peers:
            for n in clients:
                mine, theirs = figures.get((operation, ours, n)), figures.get((operation, peer, n))
                if mine is None or theirs is None or float(theirs["per_second"]) == 0:
                    cells.append("")
                    continue
                more = float(mine["per_second"]) / float(theirs["per_second"])
                part = float(mine["p50_us"]) / max(float(theirs["p50_us"]), 0.001)
                cells.append(f"{more:.1f}x, {part:.2f}")
        lines.append(f"| {operation} | " + " | ".join(cells) + " |")
    return lines + [""]


def workloads_table(rows):
    subjects = in_order(row["subject"] for row in rows)
    lines = ["### Workloads: seconds, median", "", "| | " + " | ".join(subjects) + " |",
             "|---" * (len(subjects) + 1) + "|"]
    for work in in_order(row["workload"] for row in rows):
        cells = []
        for subject in subjects:
            took = [float(row["seconds"]) for row in rows if row["workload"] == work and row["subject"] == subject]
            cells.append(f"{statistics.median(took):.2f}" if took else "")
        lines.append(f"| {work} | " + " | ".join(cells) + " |")
    return lines + [""]


def plot(folder, rows, clients):
    """Bars of throughput by operation; gnuplot reads a data block."""
    rows = [row for row in rows if row["clients"] == clients and row["subject"] != "null"]
    subjects = in_order(row["subject"] for row in rows)
    figures = {(row["operation"], row["subject"]): float(row["per_second"]) / 1000 for row in rows}
    block = ["operation " + " ".join(subjects)]
    for operation in in_order(row["operation"] for row in rows):
        cells = [str(figures.get((operation, subject), "NaN")) for subject in subjects]
        block.append(operation + " " + " ".join(cells))
    script = [
        "set terminal pngcairo size 1500,700", f"set output '{folder}/throughput-{clients}.png'",
        f"set title '{clients} client(s): thousand operations a second (logarithmic)'", "set style data histograms",
        "set style histogram clustered gap 1", "set style fill solid 0.8", "set logscale y", "set grid y",
        "set xtics rotate by -35", "set key outside", "$data << END", *block, "END",
        f"plot for [i=2:{len(subjects) + 1}] $data using i:xtic(1) title columnheader(i)",
    ]
    subprocess.run(["gnuplot"], input="\n".join(script), text=True, check=True)


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    folder = pathlib.Path(sys.argv[1])
    rows = read(folder / "operations.csv")
    if not rows:
        print(f"bench_report.py: there are no figures in {folder}", file=sys.stderr)
        return 1
    machine = (folder / "machine.txt").read_text(encoding="utf-8") if (folder / "machine.txt").exists() else ""
    clients = in_order(row["clients"] for row in rows)
    lines = ["# Side by side", "", machine, ""] + ratios(rows)
    for n in clients:
        lines += operations_table(rows, n)
    workloads = read(folder / "workloads.csv")
    if workloads:
        lines += workloads_table(workloads)
    report = folder / "report.md"
    report.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))
    if shutil.which("gnuplot"):
        for n in clients:
            plot(folder, rows, n)
    else:
        print("no plots: gnuplot is not installed", file=sys.stderr)
    print(f"written to {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
