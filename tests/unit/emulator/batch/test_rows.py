"""Rows of an input: where they are, and what is wrong with them (WIRE 3.4, 3.7)."""

import json
from pathlib import Path
from typing import Any

import pytest

from workers.emulator.batch.rows import BadRow, Input, InputFile, Validation, read_row

pytestmark = pytest.mark.requirement("EMU-01")

ROLES = frozenset({"system", "user", "assistant", "tool"})
SAID = [{"role": "user", "content": "2+2?"}]


def _row(custom_id: Any = "row-1", **body: Any) -> str:
    return json.dumps({"custom_id": custom_id, "body": body or {"messages": SAID}})


def _input(folder: Path, *texts: str) -> Input:
    files = []
    for number, text in enumerate(texts):
        path = folder / f"{number}"
        path.write_text(text, encoding="utf-8")
        files.append(InputFile(f"part-{number}.jsonl", path, path.stat().st_size))
    return Input(files)


def _validated(source: Input, *, true_numbers: bool = True) -> list[int]:
    validation = Validation(source, ROLES, true_numbers=true_numbers)
    try:
        for _ in validation.run():
            pass
    finally:
        source.close()
    return list(validation.take())


def _failure(folder: Path, *texts: str, true_numbers: bool = True) -> str:
    with pytest.raises(BadRow) as caught:
        _validated(_input(folder, *texts), true_numbers=true_numbers)
    return str(caught.value)


def test_rows_of_several_files_can_be_found_again(tmp_path: Path) -> None:
    rows = [_row(f"row-{number} é") for number in range(5)]
    source = _input(tmp_path, "\n".join(rows[:2]) + "\n\n", "\n".join(rows[2:]))
    offsets = _validated(source)
    assert [read_row(source.line_at(offset)).custom_id for offset in reversed(offsets)] == [
        f"row-{number} é" for number in reversed(range(5))
    ]
    source.close()


def test_an_offset_behind_the_end_is_no_row(tmp_path: Path) -> None:
    with pytest.raises(IndexError):
        _input(tmp_path, _row()).line_at(10_000)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "invalid JSON"),
        ('{"custom_id": "a", "body": {"messages": [], "temperature": NaN}}', "NaN is not JSON"),
        ("[" * 100_000, "invalid JSON"),
        ("[]", "a row must be a JSON object"),
        ('{"body": {}}', "custom_id is required"),
        (_row(""), "custom_id is required"),
        (_row(5), "custom_id must be a string"),
        ('{"custom_id": "a"}', "body is required"),
        ('{"custom_id": "a", "body": "x"}', "body must be an object"),
        (_row(max_tokens=5), "exactly one of messages and prompt_token_ids"),
        (_row(messages=SAID, prompt_token_ids=[1]), "exactly one of messages and prompt_token_ids"),
        (_row(messages=[]), "messages must be a list of messages"),
        (_row(messages="hello"), "messages must be a list of messages"),
        (_row(messages=["hello"]), "messages must be a list of messages"),
        (_row(messages=[{"content": "x"}]), "invalid role None in message 1"),
    ],
)
def test_a_bad_row_says_what_is_wrong(tmp_path: Path, line: str, says: str) -> None:
    assert says in _failure(tmp_path, f"{_row('row-0')}\n{line}\n")


def test_the_message_is_the_one_that_was_observed(tmp_path: Path) -> None:
    bad = _row("row-2", messages=[{"role": "bananas", "content": "x"}])
    assert _failure(tmp_path, f"{_row()}\n{bad}", true_numbers=False) == (
        "Dataset has a syntax error: chat dataset validation failed on part-0.jsonl:1: invalid role bananas in "
        "message 1, must be 'system', 'user', 'assistant' or 'tool'"
    )


def test_the_line_can_be_told_right(tmp_path: Path) -> None:
    assert "part-1.jsonl:3: " in _failure(tmp_path, _row("a"), f"{_row('b')}\n\n[]")


def test_two_rows_with_one_id_are_bad_even_in_two_files(tmp_path: Path) -> None:
    assert _failure(tmp_path, f"{_row('a')}\n{_row('b')}", _row("a")).endswith("duplicate custom_id 'a'")


def test_a_file_without_rows_is_bad(tmp_path: Path) -> None:
    assert _failure(tmp_path, "\n \n").endswith("the file has no rows")


def test_token_ids_take_the_place_of_messages(tmp_path: Path) -> None:
    assert len(_validated(_input(tmp_path, _row("a", prompt_token_ids=[1, 2])))) == 1
