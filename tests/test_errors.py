"""An argument that is refused is named by the error itself, never recovered from its text."""

import ast
import pickle
import re
from pathlib import Path

import pytest

from captioner.errors import ArgumentError, InputError

PACKAGE = Path(__file__).resolve().parent.parent / "captioner"


def test_an_argument_error_reads_as_its_name_and_message_also_after_a_process_boundary() -> None:
    error = pickle.loads(pickle.dumps(ArgumentError("sigma", "must be positive, not -1")))
    assert isinstance(error, ValueError)
    assert not isinstance(error, InputError)
    assert (error.name, error.message, str(error)) == ("sigma", "must be positive, not -1", "sigma must be positive, not -1")


def refusals(path: Path) -> list[tuple[int, str, set[str]]]:
    """(line, text, parameters of the function) of every ValueError that a file raises."""
    tree, found = ast.parse(path.read_text()), []
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            parameters = {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}
            for node in ast.walk(function):
                if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and ast.unparse(node.exc.func) == "ValueError":
                    found.append((node.lineno, ast.unparse(node.exc.args[0]) if node.exc.args else "", parameters))
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_value_error_begins_with_the_name_of_an_argument(path: Path) -> None:
    for line, text, parameters in refusals(path):
        first = re.match(r"""f?['"](\w+) (is|are|must|has|holds?) """, text)
        assert first is None or first[1] not in parameters, f"{path.name}:{line}: raise ArgumentError({first[1]!r}, ...) there"
