"""How lines of several processes look on one output."""

import io

import pytest

from workers.cli.prefixed import PrefixedPrinter


class Terminal(io.StringIO):
    """A text file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class NobodyReads(io.StringIO):
    """A pipe whose reader left."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError


@pytest.fixture(autouse=True)
def _a_terminal_with_colours(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


def test_a_file_gets_plain_lines_behind_aligned_names():
    out = io.StringIO()
    printer = PrefixedPrinter(out, width=5)
    printer("chat", "[bold]ready[/bold] :smile:")
    printer("stt", "\x1b[31mred\x1b[0m")
    assert out.getvalue() == "chat  | [bold]ready[/bold] :smile:\nstt   | red\n"


def test_a_long_line_is_not_folded():
    out = io.StringIO()
    PrefixedPrinter(out, width=4)("chat", "word " * 100)
    assert out.getvalue().count("\n") == 1


def test_a_terminal_gets_a_colour_for_each_name_and_keeps_that_of_the_line():
    out = Terminal()
    printer = PrefixedPrinter(out)
    for name, line in (("chat", "one"), ("stt", "two"), ("chat", "\x1b[31mthree\x1b[0m")):
        printer(name, line)
    first, second, third = out.getvalue().splitlines()
    assert first.startswith("\x1b[36mchat")
    assert second.startswith("\x1b[32mstt")
    assert third.startswith("\x1b[36mchat")
    assert "\x1b[31mthree" in third


def test_a_reader_who_left_ends_nothing():
    printer = PrefixedPrinter(NobodyReads())
    printer("chat", "one")
    printer("chat", "two")
