"""Draws a contact sheet of any catalogue in the raw layout: a row a class, look-alike classes together.

python -m tfds_builder.contact_sheet --manual_dir=RAW --output=sheet.png
"""

import argparse
import dataclasses
import io
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from tfds_builder.terminal import printable

GROUND, PAPER, INK, FAINT, LINE = (246, 246, 244), (255, 255, 255), (34, 36, 42), (120, 124, 132), (222, 222, 218)
MARGIN, GAP, TITLE_WIDTH = 28, 8, 240


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a sheet.

    Attributes:
      title, detail: a line, and a smaller one below it.
      section: heads the neighbouring rows that share it.
      pictures: encoded.
    """

    title: str
    detail: str
    section: str
    pictures: tuple[bytes, ...]


def draw_sheet(rows: Sequence[Row], heading: str, *, thumbnail: int = 112) -> Image.Image:
    """Draws the sheet.

    Args:
      rows: at least one; rows of one section are expected side by side.
      heading: printed above all.
      thumbnail: side of the square that every picture is fitted into, pixels, at least 16.

    Returns:
      An RGB picture. What cannot be decoded is drawn as a grey field that says so.
    """
    if not rows:
        raise ValueError("a contact sheet needs at least one row")
    if thumbnail < 16:
        raise ValueError(f"thumbnail={thumbnail}: at least 16 pixels are needed")
    columns = max(len(row.pictures) for row in rows)
    sections = sum(
        before is None or before.section != row.section for before, row in zip([None, *rows], rows, strict=False)
    )
    cell = thumbnail + GAP
    width = 2 * MARGIN + TITLE_WIDTH + columns * cell
    sheet = Image.new("RGB", (width, 2 * MARGIN + 44 + sections * 40 + len(rows) * cell), GROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN - 4), _fit(heading, 24, width - 2 * MARGIN), fill=INK, font=ImageFont.load_default(24))
    top, section = MARGIN + 44, None
    for row in rows:
        if row.section != section:
            section = row.section
            draw.line((MARGIN, top + 8, width - MARGIN, top + 8), fill=LINE, width=1)
            draw.text(
                (MARGIN, top + 14), _fit(section, 15, width - 2 * MARGIN), fill=FAINT, font=ImageFont.load_default(15)
            )
            top += 40
        _draw_title(draw, row, top, thumbnail)
        for column, data in enumerate(row.pictures):
            sheet.paste(_tile(data, thumbnail), (MARGIN + TITLE_WIDTH + column * cell, top))
        top += cell
    return sheet


def choose_classes(class_group: np.ndarray, number: int, *, together: int = 4) -> list[int]:
    """At most `number` classes, spread over the groups, `together` with neighbouring ids of each: likely look-alikes.

    Args:
      class_group: int64[C], the group of each class.
      number: rows wanted, at least 1.
      together: classes a group.

    Returns:
      Class ids, those of one group side by side.
    """
    groups = np.unique(class_group)
    wanted = max(1, -(-number // together))
    picked = groups[np.unique(np.linspace(0, len(groups) - 1, min(wanted, len(groups))).round().astype(int))]
    while True:
        chosen = [np.flatnonzero(class_group == group)[:together] for group in picked]
        # Where groups are small or few, take more classes of each.
        if sum(map(len, chosen)) >= min(number, len(class_group)) or together >= len(class_group):
            break
        together *= 2
        if len(picked) < len(groups):
            picked = groups
    return [int(label) for label in np.concatenate(chosen)[:number]]


def catalogue_rows(catalogue, number: int, columns: int, seed: int = 0) -> list[Row]:
    """Rows for a `raw.RawCatalogue`: pictures of both splits, drawn by `seed`."""
    rows = []
    for label in choose_classes(catalogue.class_group, number):
        rng = np.random.default_rng((seed, label))
        held = {split: np.flatnonzero(catalogue.table(split).label == label) for split in ("train", "test")}
        places = [(split, int(row)) for split, found in held.items() for row in found]
        order = rng.permutation(len(places))[:columns]
        group = int(catalogue.class_group[label])
        rows.append(
            Row(
                title=catalogue.class_names[label],
                detail=f"class {label}: {len(held['train'])} train, {len(held['test'])} test",
                section=f"Group {group}: {catalogue.group_names[group]}",
                pictures=tuple(catalogue.read_row(*places[i]) for i in order),
            )
        )
    return rows


def _draw_title(draw: ImageDraw.ImageDraw, row: Row, top: int, thumbnail: int) -> None:
    lines = _wrap(row.title, 15, TITLE_WIDTH - 16)
    high = top + max(0, (thumbnail - 19 * len(lines) - 20) // 2)
    for line in lines:
        draw.text((MARGIN, high), line, fill=INK, font=ImageFont.load_default(15))
        high += 19
    draw.text((MARGIN, high + 3), _fit(row.detail, 12, TITLE_WIDTH - 16), fill=FAINT, font=ImageFont.load_default(12))


def _wrap(text: str, size: int, width: int) -> list[str]:
    """At most three lines, broken at hyphens and blanks."""
    font = ImageFont.load_default(size)
    lines = [""]
    for word in text.replace("-", "- ").split(" "):
        blank = "" if not lines[-1] or lines[-1].endswith("-") else " "
        if font.getlength(lines[-1] + blank + word) <= width or not lines[-1]:
            lines[-1] += blank + word
        else:
            lines.append(word)
    return [_fit(line, size, width) for line in [*lines[:2], "".join(lines[2:])] if line]


def _fit(text: str, size: int, width: int) -> str:
    font = ImageFont.load_default(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _tile(data: bytes, side: int) -> Image.Image:
    tile = Image.new("RGB", (side, side), PAPER)
    try:
        picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    except Exception:
        tile.paste((200, 200, 200), (0, 0, side, side))
        ImageDraw.Draw(tile).text((8, side // 2 - 8), "unreadable", fill=INK, font=ImageFont.load_default(13))
        return tile
    picture = ImageOps.contain(picture, (side, side), method=Image.Resampling.LANCZOS)
    tile.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return tile


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 0, or 2 for bad input."""
    from tfds_builder import raw

    parser = argparse.ArgumentParser(
        prog="python -m tfds_builder.contact_sheet",
        description="Draws a contact sheet of a catalogue in the raw layout.",
    )
    parser.add_argument(
        "--manual_dir", required=True, metavar="RAW", help="folder (or single archive) with the raw files"
    )
    parser.add_argument("--output", required=True, metavar="SHEET", help="a .png or .jpg file")
    parser.add_argument("--rows", type=int, default=24, help="classes, default 24")
    parser.add_argument("--columns", type=int, default=9, help="pictures a class, default 9")
    parser.add_argument("--thumbnail", type=int, default=112, help="pixels, default 112")
    parser.add_argument("--seed", type=int, default=0, help="chooses the pictures, default 0")
    flags = parser.parse_args(arguments)
    output = pathlib.Path(flags.output)
    try:
        if flags.rows < 1 or flags.columns < 1:
            raise ValueError(f"--rows={flags.rows} --columns={flags.columns}: at least 1 of each is needed")
        if output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            raise ValueError(f"--output={flags.output}: name a .png or .jpg file")
        catalogue = raw.open_catalogue(flags.manual_dir)
        rows = catalogue_rows(catalogue, flags.rows, flags.columns, flags.seed)
        heading = (
            f"{pathlib.Path(flags.manual_dir).name}: {catalogue.num_classes:,} classes in "
            f"{catalogue.num_groups:,} groups, {len(catalogue.train):,} train and {len(catalogue.test):,} test pictures"
        )
        draw_sheet(rows, heading, thumbnail=flags.thumbnail).save(output)
    except (ValueError, OSError) as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 2
    print(f"{len(rows)} of {catalogue.num_classes:,} classes: {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
