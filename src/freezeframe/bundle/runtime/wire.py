"""What an ONNX file may not do, read from its bytes: the hospital's install has no `onnx`.

ONNX Runtime follows references from a model to files beside it and loads operators of libraries that were registered.
A bundle's graphs are self-contained, so both are refused before any engine sees the file. The numbers of fields are
those of onnx.proto (github.com/onnx/onnx), the encoding is protobuf's wire format
(protobuf.dev/programming-guides/encoding).
"""

from collections.abc import Iterator

from freezeframe.errors import UserError

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Of operators that ONNX Runtime itself brings."""
REFUSED_OPERATORS = frozenset({"EPContext", "PythonOp", "PythonOpGrad"})
"""Of com.microsoft: a compiled graph in a file elsewhere, and calls into Python."""

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
DEEPEST = 64  # messages in messages; protobuf's own parsers stop at 100

# For each message the fields that hold messages, and which.
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_GRAPH_OF_MODEL = 7
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of a tensor
_OPERATOR = 4  # of a node
_DOMAIN = {"node": 7, "function": 10}


class _BrokenError(ValueError):
    """The bytes are no ONNX model; the message says why."""


def check_onnx(model: bytes, origin: str) -> None:
    """Refuse a model that reaches outside its own bytes.

    Parameters
    ----------
    model : bytes
        An ONNX file.
    origin : str
        Its name, for messages.

    Raises
    ------
    UserError
        If it is no ONNX model, a tensor's data is in another file, or an operator is of a domain that ONNX Runtime does
        not bring; also in subgraphs, functions and sparse tensors.
    """
    # ONNX Runtime takes these bytes for its own format, whatever the rest says.
    if model[4:8] == b"ORTM":
        raise UserError(f"{origin} is of ONNX Runtime's own format.", "an ONNX model.", "Export it again.")
    try:
        fields = {number for number, _, _ in _fields(memoryview(model))}
        if _GRAPH_OF_MODEL not in fields:
            raise _BrokenError("it holds no graph")
        _check(memoryview(model), "model", origin, 0)
    except _BrokenError as error:
        raise UserError(
            f"{origin} can't be read as an ONNX model: {error}.",
            "a model that was written whole.",
            "Export it again.",
        ) from error


def _check(message: memoryview, kind: str, origin: str, depth: int) -> None:
    if depth > DEEPEST:
        raise _BrokenError(f"its graphs are nested more than {DEEPEST} deep")
    inner = _MESSAGES[kind]
    for number, wire, value in _fields(message):
        if kind == "tensor" and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0)):
            raise UserError(
                f"{origin} keeps the data of a tensor in another file.",
                "all weights inside the model.",
                "Export it again with its weights inside.",
            )
        if number == _DOMAIN.get(kind) and _text(value) not in DOMAINS:
            raise UserError(
                f"{origin} has an operator of the domain '{_text(value)}'.",
                f"only those that ONNX Runtime brings ({', '.join(sorted(DOMAINS - {''}))}).",
                "Export it again without custom operators.",
            )
        if kind == "node" and number == _OPERATOR and _text(value) in REFUSED_OPERATORS:
            raise UserError(
                f"{origin} has the operator {_text(value)}, which reaches outside the model.",
                "operators that only compute.",
                "Export it again.",
            )
        if number in inner:
            if wire != LENGTH or not isinstance(value, memoryview):
                raise _BrokenError(f"field {number} of a {kind} has the wrong type")
            _check(value, inner[number], origin, depth + 1)


def _text(value: int | memoryview) -> str:
    if isinstance(value, int):
        raise _BrokenError("a name has the wrong type")
    try:
        return bytes(value).decode("utf-8")
    except UnicodeDecodeError as error:
        raise _BrokenError("a name is no text") from error


def _fields(message: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Yield the number, the wire type and the value of each field; bytes are not copied."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire = tag >> 3, tag & 7
        if number == 0 or tag >= 1 << 32:
            raise _BrokenError(f"at byte {position} is no field")
        if wire == VARINT:
            value, position = _varint(message, position)
            yield number, wire, value
            continue
        if wire == LENGTH:
            length, position = _varint(message, position)
        elif wire in (FIXED64, FIXED32):
            length = 8 if wire == FIXED64 else 4
        else:
            # Groups are in no version of ONNX; parsers differ in what they make of them.
            raise _BrokenError(f"at byte {position} is a field of type {wire}")
        if length > len(message) - position:
            raise _BrokenError("it ends too early")
        yield number, wire, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for index in range(10):  # 64 bits in sevens
        if position + index >= len(message):
            raise _BrokenError("it ends too early")
        byte = message[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise _BrokenError(f"at byte {position} is no number")
