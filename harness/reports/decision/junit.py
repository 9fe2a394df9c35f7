"""Requirements as JUnit XML, which CI systems read."""

from collections.abc import Iterable
from xml.etree import ElementTree

from harness.reports.decision.requirements import Finding, Requirement


def junit_xml(suite: str, found: Iterable[Requirement]) -> str:
    """Returns one test case for each requirement, in a test suite for each model; what is not MET is a failure with its reason.

    Args:
        suite: The suite's name.
        found: The requirements.
    """
    by_model: dict[str, list[Requirement]] = {}
    for requirement in found:
        by_model.setdefault(requirement.model, []).append(requirement)
    everything = [it for own in by_model.values() for it in own]
    root = ElementTree.Element("testsuites", {"name": suite, **_counts(everything)})
    for model, own in by_model.items():
        node = ElementTree.SubElement(root, "testsuite", {"name": model, **_counts(own)})
        for requirement in own:
            case = ElementTree.SubElement(node, "testcase", classname=f"{suite}.{model}", name=requirement.text, time="0")
            if requirement.outcome is not Finding.MET:
                message = f"{requirement.outcome}: {requirement.reason}"
                failure = ElementTree.SubElement(case, "failure", type=str(requirement.outcome), message=_valid(message))
                failure.text = _valid(requirement.reason)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True).decode() + "\n"


def _counts(found: "list[Requirement]") -> dict[str, str]:
    failures = sum(it.outcome is not Finding.MET for it in found)
    return {"tests": str(len(found)), "failures": str(failures), "errors": "0", "skipped": "0"}


def _valid(text: str) -> str:
    """Returns a text without characters that XML 1.0 has not, such as a terminal's escapes in an error's message."""
    return "".join(character if character.isprintable() or character in "\n\t" else "?" for character in text)
