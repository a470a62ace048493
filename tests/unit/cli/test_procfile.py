"""The Procfile's grammar: names, words, variables, and what is said about a line that breaks it."""

import os
import sys
from pathlib import Path

import pytest

from workers.cli.procfile import Command, ProcfileError, parse_procfile, with_own_scripts


def test_lines_become_commands_in_order_and_comments_are_skipped():
    text = "# workers\n\nchat: celery -A workers.app worker\n  # indented\nchat-bg:   beat --x='a b'\n"
    assert parse_procfile(text, {}) == [
        Command("chat", ("celery", "-A", "workers.app", "worker")),
        Command("chat-bg", ("beat", "--x=a b")),
    ]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("$NAME", "value"),
        ("${NAME}s", "values"),
        ("pre-$NAME-post", "pre-value-post"),
        ("${NAME:-other}", "value"),
        ("${MISSING:-other}", "other"),
        ("${EMPTY:-other}", "other"),
        ("${EMPTY}", ""),
        ("${MISSING:-}", ""),
        ("$$NAME", "$NAME"),
        ("a$$", "a$"),
    ],
)
def test_variables_come_from_the_given_environment(word, expected):
    [command] = parse_procfile(f"one: run {word}", {"NAME": "value", "EMPTY": ""})
    assert command.argv == ("run", expected)


def test_a_value_stays_one_word_whatever_is_in_it():
    [command] = parse_procfile("one: run $URL", {"URL": "a b 'c\" $HOME ; rm"})
    assert command.argv == ("run", "a b 'c\" $HOME ; rm")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("celery worker", "expected 'name: command', found 'celery worker'"),
        ("two words: run", "'two words' is no name"),
        (": run", "'' is no name"),
        ("-x: run", "'-x' is no name"),
        ("supervisor: run", "'supervisor' is taken"),
        ("one:", "'one' has no command"),
        ("one: run 'open", "cannot split the command of 'one' into words: No closing quotation"),
        ("one: run $MISSING", "the variable MISSING is not set; '${MISSING:-value}' gives it a default"),
        ("one: run ${", "cannot read the variable in '${'"),
        ("one: run $1", "cannot read the variable in '$1'"),
        ("one: cd /tmp && run", "'&&' needs a shell"),
        ("one: run | tee log", "'|' needs a shell"),
        ("ok: again", "'ok' is there twice"),
    ],
)
def test_an_error_names_the_line_and_the_reason(line, why):
    with pytest.raises(ProcfileError) as caught:
        parse_procfile(f"# first\nok: run\n{line}\n", {})
    assert str(caught.value).startswith("Procfile line 3: ")
    assert why in str(caught.value)
    assert caught.value.line == 3


def test_a_quoted_shell_word_is_an_ordinary_word():
    [command] = parse_procfile("one: grep '|' \"&&\"", {})
    assert command.argv == ("grep", "|", "&&")


def test_our_own_scripts_are_found_first_and_the_rest_of_the_path_stays():
    path = with_own_scripts({"PATH": "/somewhere", "KEEP": "me"})
    assert path == {"PATH": f"{Path(sys.executable).parent}{os.pathsep}/somewhere", "KEEP": "me"}
