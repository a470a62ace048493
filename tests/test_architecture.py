"""The house rules that no other tool checks. Who may import whom is in pyproject.toml (`make arrows`).

Each rule is a function from one file to its breaches. Breaches of each are planted, so that no rule goes blind.
"""

import ast
import itertools
import os
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PRODUCT = ("api_contracts/", "workers/")
MAX_FILE, MAX_TEST_FILE, MAX_FUNCTION, MAX_DOORBELL = 400, 500, 40, 15
PLACES = re.compile(
    r"pypi\.org|pythonhosted\.org|registry\.npmjs|/simple\b/|(?<![\w.~-])/(?:work|root|opt/pypi|opt/wheels)/"
)
ENVIRONMENT = {"setenv", "delenv", "chdir"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def files_known_to_git() -> list[str]:
    """Returns what is tracked or would be; empty where there is no checkout."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return sorted(path for path in listed.split("\0") if (ROOT / path).is_file())


def files_found_by_walking() -> list[str]:
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [
            each
            for each in folders
            if (each[0] != "." or each in {".ci", ".github"})
            and each not in {"__pycache__", "build", "dist", "node_modules"}
            and not each.endswith(".egg-info")
        ]
        found += [(Path(folder) / name).relative_to(ROOT).as_posix() for name in names]
    return sorted(found)


@cache
def sources() -> dict[str, str]:
    """Returns the text of every file of ours; what is not text is not looked at."""
    found = {}
    for path in files_known_to_git() or files_found_by_walking():
        try:
            found[path] = (ROOT / path).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue
    return found


@cache
def parsed(text: str) -> ast.Module:
    return ast.parse(text)


def nodes(path: str, text: str) -> Iterator[ast.AST]:
    return ast.walk(parsed(text)) if path.endswith(".py") else iter(())


def functions(path: str, text: str) -> Iterator[Function]:
    return (node for node in nodes(path, text) if isinstance(node, Function))


def files_are_short(path: str, text: str) -> Iterator[str]:
    limit = MAX_TEST_FILE if path.startswith("tests/") else MAX_FILE
    lines = text.count("\n")
    if path.endswith((".py", ".lua")) and lines > limit:
        yield f"{lines} lines, {limit} are allowed"


def functions_are_short(path: str, text: str) -> Iterator[str]:
    for node in functions(path, text):
        lines = (node.end_lineno or 0) - node.lineno + 1
        if lines > MAX_FUNCTION:
            yield f"{node.lineno}: {node.name} has {lines} lines, {MAX_FUNCTION} are allowed"


def tasks_are_doorbells(path: str, text: str) -> Iterator[str]:
    """Counts the body of whatever is decorated as a task, docstring left out."""
    for node in functions(path, text) if path.startswith("workers/tasks/") else ():
        body = node.body[1:] if ast.get_docstring(node) else node.body
        lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
        if lines > MAX_DOORBELL and any("task" in ast.unparse(each) for each in node.decorator_list):
            yield f"{node.lineno}: task {node.name} has {lines} lines, {MAX_DOORBELL} are allowed"


def files_say_what_they_are(path: str, text: str) -> Iterator[str]:
    if Path(path).stem in {"utils", "util", "common", "helpers", "base", "misc"}:
        yield "a name that says nothing"


def modules_have_docstrings(path: str, text: str) -> Iterator[str]:
    if path.startswith(PRODUCT) and path.endswith(".py") and not (ast.get_docstring(parsed(text)) or "").strip():
        yield "no docstring: what does it own, what must it not know?"


def scripts_say_what_they_do(path: str, text: str) -> Iterator[str]:
    if path.endswith(".lua") and not re.match(r"--+ *\w", text):
        yield "the first line is no comment"


def nothing_is_mocked(path: str, text: str) -> Iterator[str]:
    """Fakes are product code, in adapters/memory; only the environment may be patched."""
    for node in nodes(path, text) if path.startswith(("tests/unit/", "tests/contract/")) else ():
        match node:
            case ast.Import(names=names):
                mocked = any(
                    each.name.split(".")[0] in {"mock", "pytest_mock"} or "mock" in each.name for each in names
                )
            case ast.ImportFrom(module=module, names=names):
                mocked = "mock" in (module or "").split(".") or any(each.name == "mock" for each in names)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="monkeypatch"), attr=attr)):
                # A package that is missing is environment, too.
                mocked = attr not in ENVIRONMENT and not ast.unparse(node).startswith(
                    "monkeypatch.setitem(sys.modules, "
                )
            case ast.arg(arg=arg):
                mocked = arg == "mocker"
            case _:
                continue
        if mocked:
            yield f"{node.lineno}: a mock: {ast.unparse(node)}"


def nobody_sleeps(path: str, text: str) -> Iterator[str]:
    for node in nodes(path, text) if path.startswith("tests/") and path != "tests/waiting.py" else ():
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "sleep":
            yield f"{node.lineno}: {ast.unparse(node)}; wait for what you mean (tests/waiting.py)"
        if isinstance(node, ast.ImportFrom) and any(each.name == "sleep" for each in node.names):
            yield f"{node.lineno}: {ast.unparse(node)}"


def keys_are_spelled_once(path: str, text: str) -> Iterator[str]:
    if path.startswith("tests/") or path == "api_contracts/keys.py":
        return
    for node in nodes(path, text):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("fw:"):
            yield f"{node.lineno}: {node.value!r}; Redis keys come from api_contracts/keys.py"
    if path.endswith(".lua") and (found := re.search(r"""["']fw:[^"']*""", text)):
        yield f"{found[0]}; scripts get their keys as KEYS"


def ignores_say_what_they_ignore(path: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if path.startswith(PRODUCT) and path.endswith(".py") and re.search(r"#\s*type:\s*ignore(?!\[)", line):
            yield f"{number}: type: ignore without a code"


def nothing_names_this_machine(path: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if found := PLACES.search(line):
            yield f"{number}: {found[0]}"


def settings_are_documented(path: str, text: str) -> Iterator[str]:
    if not (path.startswith(PRODUCT) and path.endswith("/settings.py")):
        return
    for owner in (node for node in nodes(path, text) if isinstance(node, ast.ClassDef)):
        for field, after in itertools.pairwise([*owner.body, ast.Pass()]):
            documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if isinstance(field, ast.AnnAssign) and "ClassVar" not in ast.unparse(field.annotation) and not documented:
                yield f"{field.lineno}: {owner.name}.{ast.unparse(field.target)} has no docstring below it"


def diagrams_can_be_drawn(path: str, text: str) -> Iterator[str]:
    """A semicolon ends a statement of mermaid, so a sentence with one is a picture that nobody sees."""
    for diagram in re.findall(r"```mermaid\n(.*?)```", text, re.DOTALL) if path.endswith(".md") else ():
        yield from (f"{line.strip()!r}: no semicolons in a diagram" for line in diagram.splitlines() if ";" in line)


Rule = Callable[[str, str], Iterator[str]]
LONG = "def f():\n" + "    x = 1\n" * MAX_FUNCTION
DOORBELL = "@app.task(name='x')\ndef f(self):\n" + "    x = 1\n" * (MAX_DOORBELL + 1)

# Each rule, and one or more breaches: the path of a file and its text.
RULES: dict[Rule, list[tuple[str, str]]] = {
    files_are_short: [("workers/a.py", "\n" * (MAX_FILE + 1)), ("tests/a.py", "\n" * (MAX_TEST_FILE + 1))],
    functions_are_short: [("workers/a.py", LONG), ("tests/a.py", f"async {LONG}")],
    tasks_are_doorbells: [("workers/tasks/a.py", DOORBELL)],
    files_say_what_they_are: [("workers/utils.py", ""), ("tests/helpers.py", "")],
    modules_have_docstrings: [("workers/a.py", "x = 1"), ("api_contracts/__init__.py", "")],
    scripts_say_what_they_do: [("workers/a.lua", "return 1"), ("workers/a.lua", "\n-- late")],
    nothing_is_mocked: [
        ("tests/unit/a.py", "import unittest.mock"),
        ("tests/unit/a.py", "from unittest import mock"),
        ("tests/contract/a.py", "from unittest.mock import Mock"),
        ("tests/contract/a.py", "def test(mocker): pass"),
        ("tests/unit/a.py", "def test(monkeypatch): monkeypatch.setattr(x, 'y', 1)"),
    ],
    nobody_sleeps: [
        ("tests/a.py", "time.sleep(1)"),
        ("tests/a.py", "async def f(): await asyncio.sleep(0)"),
        ("tests/a.py", "from asyncio import sleep"),
    ],
    keys_are_spelled_once: [
        ("workers/a.py", 'x = f"fw:{s}:due"'),
        ("api_contracts/client/a.py", "x = 'fw:'"),
        ("workers/a.lua", "redis.call('get', 'fw:x')"),
    ],
    ignores_say_what_they_ignore: [("workers/a.py", "x = 1  # type: " + "ignore")],
    nothing_names_this_machine: [
        ("Makefile", "cd /wor" + "k/main"),
        ("requirements.lock", "--index-url https://pypi" + ".org/simple"),
        ("README.md", "see /roo" + "t/.cache"),
    ],
    settings_are_documented: [
        ("workers/settings.py", "class S:\n    a: int = 1\n    b: int = 2\n    'documented'"),
        ("api_contracts/client/settings.py", "class S:\n    'S.'\n    a: int"),
    ],
    diagrams_can_be_drawn: [("docs/a.md", "```mermaid\nA->>B: one; two\n```")],
}


def named(value: object) -> str | None:
    return getattr(value, "__name__", None)


@pytest.mark.parametrize("rule", RULES, ids=named)
def test_every_file_keeps_the_rule(rule: Rule) -> None:
    breaches = [f"{path}:{breach}" for path, text in sources().items() for breach in rule(path, text)]
    assert not breaches, "\n".join(breaches)


@pytest.mark.parametrize(
    ("rule", "path", "text"), [(rule, *each) for rule, each_of in RULES.items() for each in each_of]
)
def test_a_planted_breach_is_found(rule: Rule, path: str, text: str) -> None:
    assert len(list(rule(path, text))) == 1


def test_without_a_checkout_the_same_files_are_looked_at() -> None:
    known = files_known_to_git()
    if not known:
        pytest.skip("this is no git checkout")
    assert {path for path in known if path.endswith((".py", ".lua"))} <= set(files_found_by_walking())


@cache
def locked() -> dict[str, Requirement]:
    """Returns the pinned packages of requirements.lock."""
    logical = (ROOT / "requirements.lock").read_text().replace("\\\n", " ").splitlines()
    pins = [
        line.partition("--hash")[0].strip() for line in logical if line.strip() and not line.lstrip().startswith("#")
    ]
    return {canonicalize_name(each.name): each for each in map(Requirement, pins)}


def test_the_lock_holds_exact_versions_and_hashes_and_nothing_else() -> None:
    pin = re.compile(r"[a-z0-9.-]+(\[[a-z,]+\])?==[\w.]+( ; [^\\]+)?( +--hash=sha256:[0-9a-f]{64})+ *")
    logical = (ROOT / "requirements.lock").read_text().replace(" \\\n    ", " ").splitlines()
    lines = [line for line in logical if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) > 50
    assert [line for line in lines if not pin.fullmatch(line)] == []


def test_the_lock_satisfies_everything_that_pyproject_asks_for() -> None:
    given = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = given["project"]["optional-dependencies"]
    del extras["whisper"]  # 730 MB for one engine of the emulator: whoever wants it installs it beside the lock
    asked = itertools.chain(
        given["build-system"]["requires"],
        given["project"]["dependencies"],
        *extras.values(),
        *given["dependency-groups"].values(),
    )
    wanted = [each for each in map(Requirement, asked) if each.name != given["project"]["name"]]
    missing = [str(each) for each in wanted if not satisfied(each)]
    assert missing == [], "run `make lock`"


def satisfied(wanted: Requirement) -> bool:
    pin = locked().get(canonicalize_name(wanted.name))
    return pin is not None and str(pin.specifier).removeprefix("==") in wanted.specifier
