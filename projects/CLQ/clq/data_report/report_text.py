"""Format data reports as text and as json."""

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from ..data.coco.findings import Finding, quote_unprintable
from .report import DataReport

_MAX_CLASSES = 20  # in the table


def as_text(report: DataReport) -> str:
    """Format a report for people: counts, errors, warnings and a table of the classes."""
    json_file, image_root = (quote_unprintable(str(path)) for path in report.files)
    lines = [
        f"{json_file} with {image_root}",
        f"images: {report.num_images}, objects: {sum(report.class_counts)}, "
        f"classes: {len(report.class_names)} "
        f"(images read: {report.num_read}, matched by ATSS: {report.num_matched})",
    ]
    for finding in report.findings:
        lines += _finding_lines(finding)
    if not report.findings:
        lines.append("Nothing to report.")
    return "\n".join([*lines, *_class_table(report)])


def as_json(reports: Sequence[DataReport]) -> dict[str, Any]:
    """Format reports for programs; ``faults`` and ``is_fault`` keep their names for those."""
    return {
        "faults": sum(error.count for report in reports for error in report.errors),
        "data": [
            {
                "json": str(report.files.json_file),
                "images": str(report.files.image_root),
                "num_images": report.num_images,
                "num_objects": sum(report.class_counts),
                "num_read": report.num_read,
                "num_matched": report.num_matched,
                "classes": [
                    {"name": name, "objects": count}
                    for name, count in zip(report.class_names, report.class_counts)
                ],
                "findings": [_finding_json(finding) for finding in report.findings],
            }
            for report in reports
        ],
    }


def _finding_lines(finding: Finding) -> list[str]:
    """Format a warning in one line with an example, an error with a further line each example."""
    if not finding.is_error:
        return [f"WARNING [{finding.kind}] {finding.sentence}, such as {finding.examples[0]}"]
    lines = [f"ERROR [{finding.kind}] {finding.sentence}"]
    lines += [f"      - {example}" for example in finding.examples]
    if finding.count > len(finding.examples):
        lines.append(f"      - and {finding.count - len(finding.examples)} more")
    return lines


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "is_fault": finding.is_error,
        "count": finding.count,
        "total": finding.total,
        "sentence": finding.sentence,
        "examples": [str(example) for example in finding.examples],
    }


def _class_table(report: DataReport) -> list[str]:
    """Format the number of objects of the most frequent classes."""
    ranked = sorted(zip(report.class_counts, report.class_names), key=lambda row: -row[0])
    if not ranked:
        return []
    rows = [[quote_unprintable(name), count] for count, name in ranked[:_MAX_CLASSES]]
    table = tabulate(rows, ["class", "objects"], tablefmt="simple", disable_numparse=[0])
    rest = ranked[_MAX_CLASSES:]
    if not rest:
        return ["", table]
    return ["", table, f"and {len(rest)} more classes of {rest[0][0]} to {rest[-1][0]} objects"]
