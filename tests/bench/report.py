"""Writes what was measured into docs/internals/performance.md, between its markers, and the plot beside it."""

import json

import plot
import targets
from machine import ROOT, WORK
from measure import median

PAGE = ROOT / "docs/internals/performance.md"
PLOT = ROOT / "docs/internals/performance.svg"
BEGIN, END = "<!-- made by `make bench`: begin -->", "<!-- made by `make bench`: end -->"


def rows(uploads):
    for name, runs in uploads["costs"].items():
        stages = {stage: median(run["stages"][stage] for run in runs) for stage in runs[0]["stages"]}
        rest = median(run["wall"] for run in runs) - sum(stages.values())
        yield name, [*stages.items(), ("start and end" if stages else "all in one", max(rest, 0))]


def instructions():
    figures = json.loads((ROOT / "tests/bench/instructions.json").read_text())
    yield f"Of the hot loops on a fixed input, by `tests/bench/instructions`; {figures['compiler']}, development build."
    yield from ["", "| loop | million |", "|---|---|"]
    for loop, count in figures["loops"].items():
        yield f"| {loop} | {count / 1e6:.1f} |"


def sections(page):
    """Title → text of the sections that an earlier run wrote."""
    found = {}
    for text in page.split("\n## ")[1:]:
        title, _, content = text.partition("\n")
        found[title] = content.strip()
    return found


def write(found, parts):
    """`parts`: name → (title, module). What is not in `found` stays as it was measured before, with its date."""
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    old, after = rest.split(END)
    old = sections(old)
    text = ["", "## The machine", ""] + [f"* {line}" for line in found["machine"]]
    text += ["", "## Aims", "", targets.table(found, old.get("Aims", ""))]
    for name, (title, module) in parts.items():
        if name in found:
            text += ["", f"## {title}", "", f"Measured on {found[name]['date']}.", "", module.table(found[name])]
            if name == "uploads":
                PLOT.write_text(plot.bars("From a disk to the cloud", list(rows(found["uploads"]))))
                text += ["", "![Seconds per way, by stage](performance.svg)"]
        elif title in old:
            text += ["", f"## {title}", "", old[title]]
    text += ["", "## Instructions", "", *instructions()]
    PAGE.write_text(before + BEGIN + "\n".join(text) + "\n\n" + END + after)


def quick(found, parts):
    """The same on standard output: small disks say nothing about large ones."""
    print(targets.table(found))
    for name, (title, module) in parts.items():
        if name in found:
            print(f"\n## {title}\n\n{module.table(found[name])}")
    (WORK / "performance.svg").write_text(plot.bars("From a disk to the cloud", list(rows(found["uploads"]))) if "uploads" in found else "")
