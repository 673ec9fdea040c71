"""Reports as JUnit XML, as Jenkins and GitLab read it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree as ET

from ollamake.gate.report import Report, Result

# What XML 1.0 can't hold, not even escaped; half of a surrogate pair among it.
_UNSAYABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(reports: Iterable[Report]) -> str:
    """A document with a suite for each model."""
    found = list(reports)
    root = ET.Element("testsuites", {"name": "ollamake", **_counts(found)})
    for report in found:
        suite = ET.SubElement(root, "testsuite", {"name": _said(report.model), "skipped": "0", **_counts([report])})
        properties = ET.SubElement(suite, "properties")
        ET.SubElement(properties, "property", name="digest", value=_said(report.digest))
        for result in report.results:
            _add(suite, report.model, result)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _counts(reports: list[Report]) -> dict[str, str]:
    return {
        "tests": str(sum(len(report.results) for report in reports)),
        "failures": str(sum(len(report.failures) for report in reports)),
        "errors": "0",
        "time": f"{sum(report.seconds for report in reports):.3f}",
    }


def _add(suite: ET.Element, model: str, result: Result) -> None:
    case = ET.SubElement(suite, "testcase", classname=_said(f"{model}.{result.kind}"), name=_said(result.name), time=f"{result.seconds:.3f}")
    if result.at is not None:
        file, _, line = result.at.rpartition(":")
        case.set("file", _said(file or line))
        if file:
            case.set("line", _said(line))
    facts = [("asked", result.question), ("answered", result.answer), ("wanted", result.wanted), ("fix", result.fix or "")]
    lines = [f"{name}: {value}" for name, value in facts if value]
    if result.score is not None:
        lines.append(f"score: {result.score:g}")
    if not result.passed:
        failure = ET.SubElement(case, "failure", message=_said(result.why), type=result.kind)
        failure.text = _said("\n".join((result.why, *lines)))
    elif result.why or lines:
        ET.SubElement(case, "system-out").text = _said("\n".join((*([result.why] if result.why else []), *lines)))


def _said(text: str) -> str:
    r"""The text, with what XML can't hold as `\x07` or `\udc80`."""
    return _UNSAYABLE.sub(lambda match: _escape(ord(match[0])), text)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
