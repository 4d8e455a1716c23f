"""The notes that the code can write, found in its source: every sentence that is no error and no docstring."""

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path

SAMPLES = {
    "_sizes(given)": ["train 4,171 images, validation 1 image, test 624 images", "test 7 images"],
    "', '.join(small)": ["3 normal, 1 ill"],
    "sizes": ["3 normal, 1 ill"],
    "split": ["train", "validation"],
    "seed": ["42"],
    "minimum": ["20"],
    "len(unreadable)": ["1,234"],
    "len(manifest)": ["5,206"],
}
SILENT = {"UserError", "say", "progress", "warning", "compile"}


def note_sentences(path: Path, functions: set[str] | None = None) -> Iterator[str]:
    """Yield examples of every note that a module can write, for all ways that its conditions can go.

    Parameters
    ----------
    path : Path
        Of the module.
    functions : set of str, optional
        Those that write notes; all where left out.
    """
    for function in ast.walk(ast.parse(path.read_text())):
        # A function that checks puts its sentences into an error.
        if (
            isinstance(function, ast.FunctionDef)
            and not function.name.startswith("check_")
            and (functions is None or function.name in functions)
        ):
            known = {
                statement.targets[0].id: statement.value
                for statement in ast.walk(function)
                if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
            }
            if path.name == "splits.py":
                known["name"] = ast.parse("'validation' if own else 'test'", mode="eval").body
            for expression in _texts(function.body):
                for text in _examples(expression, known):
                    if len(text) > 15 and text.endswith(".") and not text.startswith(" "):
                        yield text


def _texts(nodes: list) -> Iterator[ast.expr]:
    for node in nodes:
        if isinstance(node, ast.Raise | ast.FunctionDef):
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in SILENT:
            continue
        if isinstance(node, ast.JoinedStr | ast.BinOp) or (
            isinstance(node, ast.Constant) and isinstance(node.value, str)
        ):
            yield node
        else:
            yield from _texts(list(ast.iter_child_nodes(node)))


def _examples(node: ast.expr, known: dict[str, ast.expr]) -> list[str]:
    source = ast.unparse(node)
    if source in SAMPLES:
        return SAMPLES[source]
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            return [
                "".join(choice) for choice in itertools.product(*(_examples(part, known) for part in parts))
            ]
        case ast.FormattedValue(value=value, format_spec=form):
            return ["1", "1,234"] if form is not None else _examples(value, known)
        case ast.BinOp(left=left, right=right, op=ast.Add()):
            return [a + b for a in _examples(left, known) for b in _examples(right, known)]
        case ast.IfExp(body=body, orelse=other):
            return _examples(body, known) + _examples(other, known)
        case ast.Name(id=name) if name in known and not isinstance(known[name], ast.Name):
            inner = {other: value for other, value in known.items() if other != name}
            return _examples(known[name], inner)
        case ast.Call(func=ast.Name(id="counted"), args=[_, ast.Constant(value=thing)]):
            return [f"1 {thing}", f"1,234 {thing}{'es' if thing.endswith('s') else 's'}"]
        case ast.Call(func=ast.Name(id="listed")):
            return ["'Ñ'", "'Ñ', 'Ñ' and 1,234 more"]
    return ["Ñ"]
