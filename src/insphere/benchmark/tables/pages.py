"""Pages whose figures are generated: text by hand, and blocks between markers that are replaced from results."""

import re
from collections.abc import Mapping

from insphere.errors import DataError, did_you_mean

_MARKER = re.compile(r"<!-- (generated|end of): ([a-z0-9-]+) -->")


def fill_blocks(page: str, blocks: Mapping[str, str]) -> str:
    r"""Return a page with each block between ``<!-- generated: NAME -->`` and ``<!-- end of: NAME -->`` replaced.

    Parameters
    ----------
    page : str
        Markdown or HTML.
    blocks : mapping of str to str
        Name of each block in the page and its new content; every block of the page must be there.

    Raises
    ------
    DataError
        If a marker has no partner, a block is in the page twice, or page and blocks do not name the same.

    Examples
    --------
    >>> print(fill_blocks("Before.\n<!-- generated: mean -->\nold\n<!-- end of: mean -->\nAfter.", {"mean": "97.0"}))
    Before.
    <!-- generated: mean -->
    <BLANKLINE>
    97.0
    <BLANKLINE>
    <!-- end of: mean -->
    After.
    """
    names = _names(page)
    for name in blocks:
        if name not in names:
            raise DataError(f"The page has no place for the block {name!r}.{did_you_mean(name, names)}")
    for name in names:
        if name not in blocks:
            raise DataError(f"The page asks for a block {name!r}, which is not generated.{did_you_mean(name, blocks)}")
        if _MARKER.search(blocks[name]):
            raise DataError(f"The block {name!r} holds a marker of its own; text from outside must not look like one.")
        begin, end = f"<!-- generated: {name} -->", f"<!-- end of: {name} -->"
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n\n{blocks[name].strip()}\n\n{end}{rest.partition(end)[2]}"
    return page


def _names(page: str) -> list[str]:
    """Return the names of the blocks in a page, checked: each opened, closed at once, and there once."""
    names: list[str] = []
    opened = ""
    for kind, name in _MARKER.findall(page):
        if (kind == "generated") == bool(opened) or (kind == "end of" and name != opened):
            raise DataError(f"The marker <!-- {kind}: {name} --> has no partner; blocks begin, end, and do not overlap.")
        if kind == "generated":
            if name in names:
                raise DataError(f"The block {name!r} is in the page twice.")
            names.append(name)
        opened = name if kind == "generated" else ""
    if opened:
        raise DataError(f"The block {opened!r} has no end; write <!-- end of: {opened} --> below it.")
    return names
