"""The text of a grammar to tokens: the notation's smallest parts (WIRE 4.3), escapes undone. Knows no order of them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from workers.core.grammar.charsets import ANY, LAST, CharSet, Span, charset, complement
from workers.core.grammar.errors import GrammarError, at

Kind: TypeAlias = Literal["name", "::=", "|", "(", ")", "literal", "set", "repeat", "newline", "end"]
Bounds: TypeAlias = tuple[int, int | None]
"""At least and at most how often; None is any number."""

_SKIPPED = re.compile(r"(?:[ \t\r]|#[^\n]*)*")
_WORD = re.compile(r"[\w-]+")
_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_PLAIN = re.compile(r'[^"\\\n]+')
_BRACES = re.compile(r"\{[ \t]*([0-9]{1,9})[ \t]*(?:(,)[ \t]*([0-9]{1,9})?[ \t]*)?\}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SIGNS: dict[str, Kind] = {"|": "|", "(": "(", ")": ")", "\n": "newline"}
_REPEATS: dict[str, Bounds] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", '"': '"'}
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
_HEX = re.compile("[0-9a-fA-F]+")


@dataclass(frozen=True, slots=True)
class Token:
    """A token and its offset. `text` of a name or literal, `chars` of a set (also any character), `bounds` of a
    repetition; `beyond` if the provider's page does not list the form."""

    kind: Kind
    offset: int
    text: str = ""
    chars: CharSet = ()
    bounds: Bounds = (1, 1)
    beyond: bool = False


def tokens(text: str) -> Iterator[Token]:
    """The tokens in order, `end` last. Raises GrammarError."""
    found = _SURROGATE.search(text)
    if found:
        raise at(text, found.start(), "a surrogate is not a character")
    return _Lexer(text).tokens()


class _Lexer:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def tokens(self) -> Iterator[Token]:
        while True:
            skipped = _SKIPPED.match(self._text, self._at)
            self._at = skipped.end() if skipped else self._at
            if self._at == len(self._text):
                break
            yield self._next(self._at, self._text[self._at])
        yield Token("end", self._at)

    def _next(self, start: int, first: str) -> Token:
        if first == '"':
            return Token("literal", start, text=self._literal(start))
        if first == "[":
            return Token("set", start, chars=self._class(start))
        if first == "{":
            return Token("repeat", start, bounds=self._braces(start), beyond=True)
        if self._text.startswith("::=", start):
            self._at += 3
            return Token("::=", start)
        if word := _WORD.match(self._text, start):
            return Token("name", start, text=self._name(word.group()))
        self._at += 1
        if first == ".":
            return Token("set", start, chars=ANY)
        if first in _REPEATS:
            return Token("repeat", start, bounds=_REPEATS[first])
        if first in _SIGNS:
            return Token(_SIGNS[first], start)
        raise self._error(start, f"unexpected character {first!r}")

    def _name(self, word: str) -> str:
        if not _NAME.fullmatch(word):
            raise self._error(self._at, f"a rule name is a dashed lowercase word, not {word[:40]!r}")
        self._at += len(word)
        return word

    def _braces(self, start: int) -> Bounds:
        found = _BRACES.match(self._text, start)
        if not found:
            raise self._error(start, "a bounded repetition is {m}, {m,} or {m,n}, of at most nine digits each")
        low = int(found[1])
        high = low if found[2] is None else None if found[3] is None else int(found[3])
        if high is not None and high < low:
            raise self._error(start, f"a repetition of at least {low} and at most {high}")
        self._at = found.end()
        return low, high

    def _literal(self, start: int) -> str:
        parts = []
        self._at += 1
        while (char := self._peek()) != '"':
            if char in ("", "\n"):
                raise self._error(start, "the literal is not closed on its line")
            plain = _PLAIN.match(self._text, self._at)
            parts.append(plain.group() if plain else self._escape())
            self._at = plain.end() if plain else self._at
        self._at += 1
        return "".join(parts)

    def _class(self, start: int) -> CharSet:
        self._at += 1
        negated = self._peek() == "^"
        self._at += negated
        spans = []
        while (char := self._peek()) != "]":
            if char in ("", "\n"):
                raise self._error(start, "the class is not closed on its line")
            spans.append(self._span())
        self._at += 1
        if not spans:
            raise self._error(start, "an empty class")
        found = complement(charset(spans)) if negated else charset(spans)
        if not found:
            raise self._error(start, "a class without any character")
        return found

    def _span(self) -> Span:
        start = self._at
        low = high = ord(self._class_char())
        if self._peek() == "-" and self._peek(1) not in ("]", "", "\n"):
            self._at += 1
            high = ord(self._class_char())
        if high < low:
            raise self._error(start, f"a range that runs backwards, {self._text[start : self._at]}")
        return low, high

    def _class_char(self) -> str:
        char = self._peek()
        if char == "\\":
            return self._escape()
        self._at += 1
        return char

    def _escape(self) -> str:
        """Undo the escape at the present place and pass it."""
        start, kind = self._at, self._peek(1)
        self._at += 2
        if kind in _ESCAPES:
            return _ESCAPES[kind]
        if kind not in _HEX_DIGITS:
            known = r"\n \t \\ \" \xXX \uXXXX \UXXXXXXXX"
            raise self._error(start, f"unknown escape {self._text[start : start + 2]!r}; there are {known}")
        digits = self._text[self._at : self._at + _HEX_DIGITS[kind]]
        if len(digits) < _HEX_DIGITS[kind] or not _HEX.fullmatch(digits):
            raise self._error(start, f"\\{kind} needs {_HEX_DIGITS[kind]} hexadecimal digits")
        code = int(digits, 16)
        if code > LAST or 0xD800 <= code <= 0xDFFF:
            raise self._error(start, f"U+{code:04X} is not a character")
        self._at += len(digits)
        return chr(code)

    def _peek(self, ahead: int = 0) -> str:
        return self._text[self._at + ahead : self._at + ahead + 1]

    def _error(self, offset: int, message: str) -> GrammarError:
        return at(self._text, offset, message)
