"""What can be wrong with a grammar, and where."""


class GrammarError(ValueError):
    """The text is no grammar that can be matched. `line` and `column` count from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.message = message
        self.line = line
        self.column = column


class TooAmbiguous(RuntimeError):
    """Matching would take more work than `engine.BUDGET` allows: the text fits the grammar in too many ways."""


def at(text: str, offset: int, message: str) -> GrammarError:
    """The error at a character of the text."""
    line = text.count("\n", 0, offset) + 1
    return GrammarError(message, line, offset - text.rfind("\n", 0, offset))
