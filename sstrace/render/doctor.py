"""The findings of ``--doctor`` → one screen of text, or NDJSON. Pure."""

import msgspec

from sstrace.plain import plain, spelled

__all__ = ["Finding", "FindingLine", "lines", "ndjson"]


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    what: str
    status: str
    """ok; less: works with something missing; no: does not work; root: would need privilege to know or to work."""
    found: str
    """What was found, in a few words."""
    remedy: str = ""
    """What would bring back what is missing; "" where nothing is, or nothing would."""


class FindingLine(msgspec.Struct, tag="finding", tag_field="type", omit_defaults=True):
    """The same as a line of NDJSON."""

    what: str
    status: str
    found: str
    remedy: str = ""


_MARKS = {"ok": "ok  ", "less": "less", "no": "NO  ", "root": "root"}


def lines(findings: list[Finding], verdict: str) -> list[str]:
    """Text, a line a finding, remedies beneath, the verdict last."""
    width = max(len(finding.what) for finding in findings)
    out = []
    for finding in findings:
        out.append(f"{_MARKS[finding.status]}  {finding.what:<{width}}  {plain(finding.found)}")
        if finding.remedy:
            out.append(f"{'':4}  {'':{width}}  -> {plain(finding.remedy)}")
    return [*out, "", verdict]


def ndjson(findings: list[Finding]) -> bytes:
    """The same, one object a line."""
    encode = msgspec.json.Encoder().encode
    found = (FindingLine(*map(spelled, msgspec.structs.astuple(finding))) for finding in findings)
    return b"".join(encode(line) + b"\n" for line in found)
