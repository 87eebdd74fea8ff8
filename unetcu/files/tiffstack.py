"""Which pages of a TIFF file make the stack, and whether it holds what its headers promise.

A stack cut short still opens in most programs, with fewer pages and no message; a pyramid opens
as its largest page or its smallest. Here every such choice is either refused or told in a note.
"""

import re
from dataclasses import replace
from math import prod
from typing import BinaryIO

from ..errors import DataError
from ..files.tiffpage import NONE, TiffPage, page_of
from ..files.tiffwalk import MOST_PAGES, Directory, Tag, TiffFile

_LONGEST_HEADER = 1 << 24
_REDUCED, _MASK = 1, 4


def scan(file: BinaryIO, size: int) -> tuple[list[TiffPage], list[str]]:
    """The pages of an open TIFF file of `size` bytes, all of one kind, and remarks for the user.

    Raises DataError, without the file's name, for whatever cannot be read as one stack.
    """
    tiff = TiffFile(file, size)
    pages: list[TiffPage] = []
    notes: dict[str, None] = {}  # a set that keeps its order
    left_out = promised = series = claimed = 0
    header = ""
    for number, tags in enumerate(tiff.directories(), 1):
        try:
            if _is_extra(tags):
                left_out += 1
                continue
            page = page_of(tags, tiff.order, size)
            shape = _tifffile_pages(tags.text(Tag.DESCRIPTION, 1024), page)
            header = header if pages else tags.text(Tag.DESCRIPTION, _LONGEST_HEADER)
            notes |= dict.fromkeys(_remarks(page, tags))
        except DataError as error:
            raise DataError(f"page {number} {error}") from None
        pages.append(page)
        if page.kind != pages[0].kind:
            raise DataError(
                f"page {number} is {page.kind} but the first one {pages[0].kind}: "
                "save pages of one size and type in each file"
            )
        promised += shape
        series += shape > 0
        claimed += page.stored_bytes
        if claimed > size:
            raise DataError(f"page {number} shares its data with others: the file is damaged")
    if not pages:
        raise DataError("the file has only reduced copies or masks, no page of full resolution")
    if left_out:
        notes[f"{left_out} reduced copies or masks left out, the full resolution is read"] = None
    if series > 1:
        notes[f"{series} series of pages are read as one stack"] = None
    if header.startswith("ImageJ="):
        promised = _imagej_number(header, "images")
        pages = _consecutive(pages, promised, size, notes)
    elif "<OME" in header:
        promised = _ome_pages(header, pages[0])
        if promised > len(pages) and "FileName=" in header:
            notes[f"one file of a set of {promised} pages, the others are not read"] = None
            promised = 0
    if promised > len(pages):
        raise DataError(
            f"its header promises {promised} pages but it holds {len(pages)}: it is cut short or "
            "was changed, copy it again or save it anew"
        )
    if 0 < promised < len(pages):
        notes[f"its header tells of {promised} pages, all {len(pages)} are read"] = None
    if len(pages) > 1:
        notes |= dict.fromkeys(_order_remarks(header))
    return pages, list(notes)


def _is_extra(tags: Directory) -> bool:
    """A reduced copy of another page, or a transparency mask."""
    kind = tags.number(Tag.SUBFILE, 0)
    return bool(kind & (_REDUCED | _MASK)) or tags.number(Tag.OLD_SUBFILE, 1) == 2


def _remarks(page: TiffPage, tags: Directory) -> list[str]:
    notes = []
    if page.samples > page.channels:
        notes.append("alpha channel dropped")
    if Tag.SUB_PAGES in tags:
        notes.append("pages inside of pages (SubIFDs, often a pyramid) left out")
    turned = tags.number(Tag.ORIENTATION, 1)
    if turned != 1:
        notes.append(f"the orientation tag ({turned}) is not applied: rows are read as stored")
    if page.compression != NONE and page.row_bytes * page.rows > 1 << 28:
        notes.append("stored in very large compressed strips: windows are slow, tiles are better")
    return notes


def _tifffile_pages(description: str, page: TiffPage) -> int:
    """The pages of a series whose first page has tifffile's header; 0 where there is none."""
    match = re.match(r'\{"shape": \[([0-9, ]{1,200})\]|shape=\(([0-9, ]{1,200})\)', description)
    if not match:
        return 0
    values = prod(int(n) for n in re.findall("[0-9]+", match[1] or match[2]))
    return -(-values // (page.height * page.width * page.samples))


def _imagej_number(header: str, key: str) -> int:
    match = re.search(rf"^{key}=([0-9]{{1,9}})\s*$", header, re.MULTILINE)
    return int(match[1]) if match else 1


def _ome_pages(header: str, page: TiffPage) -> int:
    """Planes that the OME header lists, all its images together."""
    planes = 0
    for pixels in re.findall(r"<(?:\w{1,20}:)?Pixels\s[^<>]*>", header):
        sizes = re.findall(r'\sSize[ZCT]="([0-9]{1,9})"', pixels)
        planes += prod(map(int, sizes))
    return planes // page.channels


def _consecutive(
    pages: list[TiffPage], promised: int, size: int, notes: dict[str, None]
) -> list[TiffPage]:
    """Above 4 GB ImageJ describes its first page only; the others follow it, uncompressed."""
    page = pages[0]
    total = page.height * page.row_bytes
    if (
        len(pages) > 1
        or not 1 < promised <= MOST_PAGES
        or (page.compression, page.planes, page.tiled, len(page.offsets)) != (NONE, 1, False, 1)
        or int(page.offsets[0]) + promised * total > size
    ):
        return pages
    notes[f"one directory for {promised} pages, as ImageJ writes above 4 GB"] = None
    return [replace(page, offsets=page.offsets + i * total) for i in range(promised)]


def _order_remarks(header: str) -> list[str]:
    """Where pages are more than the slices of one stack, say in which order they come."""
    if header.startswith("ImageJ="):
        names = [(_imagej_number(header, name), name) for name in ("channels", "slices", "frames")]
        if sum(n > 1 for n, _ in names) > 1 or names[0][0] > 1:
            parts = ", ".join(f"{n} {name}" for n, name in names)
            return [f"an ImageJ hyperstack ({parts}) is read as single pages, channels fastest"]
    elif "<OME" in header:
        return ["the OME header is not used: pages are read in the order of the file"]
    return []
