"""Text of strangers on a terminal: names of files, classes and tensors, which may hold what terminals obey."""

import re

# Control characters but line ends and tabs; what changes the direction of writing; other line ends; halves of pairs.
_OBEYED = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with escapes, as `\\x1b`, in place of characters that a terminal would obey or could not write."""
    return _OBEYED.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


def one_line(text: str) -> str:
    """As `printable`, with spaces in place of line ends and tabs: for a cell of a table."""
    return printable(re.sub(r"[\t\n\r]+", " ", text))
