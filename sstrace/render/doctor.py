"""The findings of ``--doctor`` → one screen of text, or NDJSON. Pure."""

from textwrap import wrap

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


_LEAST = 20
"""Narrower than that nothing is folded to."""
_MARKS = {"ok": "ok  ", "less": "less", "no": "NO  ", "root": "root"}


def lines(findings: list[Finding], verdict: str, columns: int | None = None) -> list[str]:
    """Text, a line a finding, remedies beneath, the verdict last. ``columns``: of a terminal, on which what is longer
    goes on below itself.
    """
    width = max(len(finding.what) for finding in findings)
    out = []
    for finding in findings:
        heads = [(f"{_MARKS[finding.status]}  {finding.what:<{width}}  ", finding.found)]
        if finding.remedy:
            heads.append((f"{'':4}  {'':{width}}  -> ", finding.remedy))
        for head, text in heads:
            out += _folded(head, plain(text), columns)
    return [*out, "", verdict]


def _folded(head: str, text: str, columns: int | None) -> list[str]:
    if columns is None or len(head) + len(text) <= columns:
        return [head + text]
    below = " " * len(head)
    return wrap(
        text, max(columns, len(head) + _LEAST), initial_indent=head, subsequent_indent=below,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def ndjson(findings: list[Finding]) -> bytes:
    """The same, one object a line."""
    encode = msgspec.json.Encoder().encode
    found = (FindingLine(*map(spelled, msgspec.structs.astuple(finding))) for finding in findings)
    return b"".join(encode(line) + b"\n" for line in found)
