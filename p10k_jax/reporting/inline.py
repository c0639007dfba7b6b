"""A page shown inside a notebook."""

from pathlib import Path
from typing import NamedTuple

from markupsafe import escape


class InlinePage(NamedTuple):
    """A page in a frame of its own, whose style and script stay apart from the notebook's.

    Notebooks display it when it is the last value of a cell. The frame holds the page itself and not its address, which
    a notebook on another machine, as on Colab, could not open.

    Attributes:
        html: Of the page.
        height: Of the frame, pixels.
    """

    html: str
    height: int

    def _repr_html_(self) -> str:
        style = f"width: 100%; height: {self.height}px; border: 1px solid #8884; border-radius: 6px"
        return f'<iframe srcdoc="{escape(self.html)}" style="{style}"></iframe>'


def inline_page(path: Path, *, height: int = 720) -> InlinePage:
    """The page of a file such as `report.html` or `ablation.html`, for a notebook."""
    return InlinePage(path.read_text(encoding="utf-8"), height)
