"""Lines of comma-separated values (RFC 4180) that no spreadsheet takes for formulas."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable
from datetime import datetime

#: With the charset, and that there is a header row (RFC 4180 section 3).
CSV = "text/csv; charset=utf-8; header=present"
#: What a spreadsheet takes for the beginning of a formula, and what makes some of them begin a new cell.
_DANGEROUS = frozenset("=+-@\t\r\n")
#: What begins a cell for a spreadsheet whose country writes 1,5 for one and a half: it separates by semicolons, some by tabs too,
#: and quotes do not keep lines together there, as what stands before them is no separator.
_ELSEWHERE = re.compile(r"(?<=[;\t\r\n])[^;\t\r\n]+")
#: What a cell may begin with unseen: a byte order mark, marks of direction, joiners, soft hyphens.
_UNSEEN = frozenset({"Cf", "Cc", "Zs", "Zl", "Zp"})


def _is_dangerous(text: str) -> bool:
    for character in text:
        # Full-width and small forms of the signs are read as the signs themselves by some: NFKC says which they are.
        if character in _DANGEROUS or unicodedata.normalize("NFKC", character)[:1] in _DANGEROUS or character == "\N{MINUS SIGN}":
            return True
        if unicodedata.category(character) not in _UNSEEN:
            return False
    return False


def _guarded(part: re.Match[str]) -> str:
    # Quotes are doubled when they are written: there, a pair that begins a cell is read as nothing.
    return f"'{part[0]}" if _is_dangerous(part[0].replace('"', "")) else part[0]


def safe_cell(value: object) -> str:
    """A value as text; with an apostrophe in front where a spreadsheet would run it as a formula (OWASP, CSV Injection)."""
    if value is None:
        return ""
    text = str(value)
    safe = _ELSEWHERE.sub(_guarded, text)
    return f"'{safe}" if _is_dangerous(text) else safe


def line(values: Iterable[object]) -> str:
    """One record, quoted where it must be, with its CR LF."""
    written = io.StringIO()
    csv.writer(written, lineterminator="\r\n").writerow([safe_cell(value) for value in values])
    return written.getvalue()


def file_name(what: str, *, now: datetime) -> str:
    """The value of a Content-Disposition header for a file with a date in its name."""
    return f'attachment; filename="{what}-{now.date().isoformat()}.csv"'
