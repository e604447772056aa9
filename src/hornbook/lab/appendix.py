"""What every run adds to its recipe's report: claims, steps, costs, settings and machine."""

from collections.abc import Mapping, Sequence
from typing import Any

from hornbook.lab.claim import Claim
from hornbook.lab.files import human_bytes, human_seconds
from hornbook.lab.report import Report


def complete_report(report: Report, claims: Sequence[Claim], run: Mapping[str, Any]) -> Report:
    """The recipe's report with the claims after its opening, and the run's own pages at the end.

    The opening is what the recipe wrote before its first `section`; `report` itself is not changed.

    Args:
        run: the content of `run.json`.
    """
    full = Report(report.title, report.subtitle)
    first = next(
        (i for i, block in enumerate(report.blocks) if block["kind"] == "section"), len(report.blocks)
    )
    full.blocks = list(report.blocks[:first])
    if run.get("unfinished"):
        full.section("Unfinished", "The same command asks only what is missing.")
        full.text("\n".join(f"- {sentence}" for sentence in run["unfinished"]))
    if claims:
        full.section("Claims", _verdict_sentence(claims, run["scale"])).claims(claims)
    full.blocks += report.blocks[first:]
    full.section("Steps", "What was made from what, and what each step took.").lineage(run["steps"])
    full.section("Costs").costs(_costs(run))
    full.section("Settings and machine")
    full.table(["setting", "value"], list(_flat(run["settings"])), title=f"Settings at scale {run['scale']}")
    full.table(["", "here"], _machine_rows(run), title="Machine and versions")
    return full


def _verdict_sentence(claims: Sequence[Claim], scale: str) -> str:
    judged = [claim for claim in claims if claim.judged]
    if not judged:
        return f"Claims are not judged at scale {scale}."
    words = {"holds": ("holds", "hold"), "fails": ("fails", "fail"), "noise": ("is noise", "are noise")}
    parts = []
    for verdict, (one, many) in words.items():
        count = sum(claim.verdict == verdict for claim in judged)
        if count:
            parts.append(f"{count} {one if count == 1 else many}")
    rest = len(claims) - len(judged)
    if rest:
        parts.append(f"{rest} not judged at this scale")
    return f"Of {len(claims)} claim{'s' * (len(claims) > 1)}: {', '.join(parts)}."


def _costs(run: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    steps = run["steps"]
    fresh = [step for step in steps if not step["cached"]]
    kept = [step for step in steps if step["cached"]]
    made = sum(step["seconds"] for step in fresh)
    all_time = sum(step["seconds"] for step in steps)
    rows = [
        ("This run", human_seconds(run["seconds"]), "wall clock, start to report"),
        ("Steps made now", human_seconds(made), f"{len(fresh)} of {len(steps)}"),
        ("Steps kept from before", human_seconds(all_time - made), f"{len(kept)}, not computed again"),
        ("All steps from nothing", human_seconds(all_time), "what a first run takes"),
        (
            "CPU time of all steps",
            human_seconds(sum(step["cpu_seconds"] for step in steps)),
            "all cores together",
        ),
        ("Peak memory", human_bytes(max((step["peak_memory_bytes"] for step in steps), default=0)), ""),
        ("Disk", human_bytes(sum(step["disk_bytes"] for step in steps)), "all artifacts"),
    ]
    gpu = max((step["peak_gpu_memory_bytes"] for step in steps), default=0)
    if gpu:
        rows.append(("Peak GPU memory", human_bytes(gpu), ""))
    return rows


def _flat(value: Any, name: str = "") -> list[list[Any]]:
    """Nested settings as rows of (dotted name, value)."""
    if isinstance(value, Mapping) and value:
        rows = []
        for key, item in value.items():
            rows += _flat(item, f"{name}.{key}" if name else str(key))
        return rows
    if isinstance(value, list):
        value = ", ".join(str(item) for item in value)
    return [[name or "settings", "none" if value is None else str(value)]]


def _machine_rows(run: Mapping[str, Any]) -> list[list[str]]:
    machine, versions = run["machine"], run["versions"]
    rows = [
        ["Processor", f"{machine['cpu']}, {machine['cores']} cores usable"],
        ["Memory", f"{human_bytes(machine['memory_total'])}"],
        ["GPU", machine["gpu"] or "none"],
        ["bf16 in hardware", "yes" if machine["bf16"] else "no"],
        ["System", machine["system"]],
        ["Versions", ", ".join(f"{name} {version}" for name, version in versions.items())],
        ["Finished", run["finished"].replace("T", " ")[:19] + " UTC"],
    ]
    if run["commit"]:
        rows.append(["Commit", run["commit"]])
    return rows
