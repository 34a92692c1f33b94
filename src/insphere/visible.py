r"""Text from elsewhere (names of files, headers, messages) as it may be shown and stored: no control characters, no formulas.

A name of a file may hold line ends, escape sequences of a terminal, bytes that are not UTF-8, and marks that turn the direction of writing.
"""

import re

# Control characters, marks of direction, and halves of pairs, which stand for bytes that are not UTF-8.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LINE_ENDS = re.compile("[\t\n\u2028\u2029]")
_ESCAPE = re.compile(r"\\(?:(\\)|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([nrt]))")
_SHORT = {"n": "\n", "r": "\r", "t": "\t"}
_FORMULA = "=+-@"
_GUARD = "'"


def visible(text: str) -> str:
    r"""Return text whose control characters are written out: what a file says must not move the cursor, nor rename the window.

    Line ends and tabs stay; marks that turn the direction of writing, and bytes that are not UTF-8, are written out too.

    Examples
    --------
    >>> visible("\x1b]0;owned\x07 5 × 5")
    '\\x1b]0;owned\\x07 5 × 5'
    """
    return _UNSEEN.sub(lambda found: _written_out(found[0]), text)


def one_line(text: str) -> str:
    r"""Return text on one line in valid Unicode, for every format to hold: `visible`, and line ends and tabs are escapes too.

    Examples
    --------
    >>> one_line("two\nlines.png")
    'two\\nlines.png'
    """
    return _LINE_ENDS.sub(lambda found: _written_out(found[0]), visible(text))


def written_name(name: str) -> str:
    r"""Return the name of a file as `one_line` has it, but with backslashes doubled: no two names are written alike.

    Examples
    --------
    >>> written_name("a\nb.png"), written_name("a\\nb.png")
    ('a\\nb.png', 'a\\\\nb.png')
    """
    return one_line(name.replace("\\", "\\\\"))


def read_name(written: str) -> str:
    r"""Return the name that `written_name` wrote.

    Examples
    --------
    >>> read_name(written_name("a\nb\\.png")) == "a\nb\\.png"
    True
    """
    return _ESCAPE.sub(_read_out, written)


def csv_text(text: str) -> str:
    """Return a text as a cell that no spreadsheet takes for a formula: before = + - @, and before an apostrophe, stands an apostrophe.

    Examples
    --------
    >>> csv_text("=1+1.png"), csv_text("a=1.png"), read_csv_text(csv_text("'s.png"))
    ("'=1+1.png", 'a=1.png', "'s.png")
    """
    return _GUARD + text if text[:1] in (*_FORMULA, _GUARD) else text


def read_csv_text(cell: str) -> str:
    """Return the text that `csv_text` made a cell of."""
    return cell[1:] if cell[:1] == _GUARD and cell[1:2] in (*_FORMULA, _GUARD) else cell


def _written_out(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def _read_out(found: re.Match[str]) -> str:
    backslash, two, four, eight, short = found.groups()
    if backslash:
        return "\\"
    code = two or four or eight
    if code is None:
        return _SHORT[short]
    return chr(int(code, 16)) if int(code, 16) < 0x110000 else found[0]
