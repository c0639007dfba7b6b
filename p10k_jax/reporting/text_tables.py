"""Tables as text."""

from collections.abc import Sequence

from tfds_builder.card import escaped, table
from tfds_builder.terminal import one_line


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns under their names, the first to the left and the others to the right; each cell on one line."""
    table = [[one_line(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    lines = (
        "  ".join(cell.rjust(width) if number else cell.ljust(width) for number, (cell, width) in enumerate(cells))
        for cells in (zip(row, widths, strict=True) for row in table)
    )
    return "\n".join(line.rstrip() for line in lines)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; what cells hold of Markdown or HTML is shown as it stands."""
    return table([escaped(cell) for cell in header], [[escaped(cell) for cell in row] for row in rows])
