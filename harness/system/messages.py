"""Texts from files and folders as they stand in messages and tables: printable, and short."""

import re

LONGEST_VALUE = 80
"""Characters of a value that a message shows."""
LONGEST_WORD = 300
"""Characters without a space, such as a path's, that a message shows."""
LONGEST_LINE = 2_000
MOST_LINES = 20
"""Lines of one error; a suite may be wrong in a thousand places."""


def printable(text: str) -> str:
    r"""Returns a text with each character that is not printable, or no UTF-8, written as an escape.

    Example:
        >>> printable("a\x1b[2Jb")
        'a\\x1b[2Jb'
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def decodable(text: str) -> str:
    r"""Returns a file's name with bytes that are no UTF-8 as escapes; Python holds them as surrogates, which no file takes.

    Example:
        >>> decodable("caf\udce9")
        'caf\\xe9'
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join(_escaped(character) if "\ud800" <= character <= "\udfff" else character for character in text)
    return text


def shown(value: object) -> str:
    """Returns what a message shows of a value that was found: its start, with escapes."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of too many digits to write, or a value that holds itself
        text = f"a {type(value).__name__} that is too large to show"
    return cut(text, LONGEST_VALUE)


def cut(text: str, most: int) -> str:
    """Returns the printable start of a text, with an ellipsis where something is left out."""
    return printable(text if len(text) <= most else f"{text[: most - 3]}...")


def counted(count: int, noun: str) -> str:
    """Returns a number of things in words.

    Example:
        >>> counted(1, "flip"), counted(0, "flip")
        ('1 flip', '0 flips')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def message_text(text: str) -> str:
    """Returns a message of one or more lines fit for a terminal: printable, words and lines cut, no more than a screen."""
    lines = text.splitlines() or [""]
    left_out = [f"and {len(lines) - MOST_LINES} more lines"] if len(lines) > MOST_LINES else []
    return "\n".join([*map(_line, lines[:MOST_LINES]), *left_out])


def _line(line: str) -> str:
    shortened = re.sub(rf"\S{{{LONGEST_WORD},}}", lambda word: f"{word[0][: LONGEST_VALUE - 3]}...", line)
    return cut(shortened, LONGEST_LINE)


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name that is no UTF-8, as `os.fsdecode` gives it
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
