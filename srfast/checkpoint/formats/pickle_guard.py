"""What a pickle would build, read without building it: no name in it is imported, no call in it is made.

PyTorch files hold pickles. This interpreter follows one with plain containers and records, so that names that are not
allowed, and tensors whose sizes do not fit the file, are refused before PyTorch opens it.

A memo makes one tuple part of many: 60 of them, each a pair of the one before, print as 2**60 numbers and are hashed and
compared as long. So nothing is hashed, compared or printed, here or later in PyTorch, before its type is known to be plain.
"""

from __future__ import annotations

import contextlib
import gc
import io
import math
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from srfast.errors import CheckpointError

MAX_OPERATIONS = 300_000  # a whole training state of RRDBNet-23 with Adam has about 120,000
MAX_DIMENSIONS = 8
MAX_ATTRIBUTES = 64  # of a state_dict, which has _metadata, or of a parameter
_ITEM_BYTES = {
    "Double": 8,
    "Float": 4,
    "Half": 2,
    "BFloat16": 2,
    "Long": 8,
    "Int": 4,
    "Short": 2,
    "Char": 1,
    "Byte": 1,
    "Bool": 1,
}
STORAGES = {f"torch.{name}Storage": size for name, size in _ITEM_BYTES.items()} | {"torch.storage.UntypedStorage": 1}
_DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
_DATA = {f"torch.{name}" for name in _DTYPES} | {"torch.serialization._get_layout"}
_REBUILD = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
_CALLS = {
    "collections.OrderedDict",
    "collections.Counter",
    "torch.Size",
    "torch.device",
    "_codecs.encode",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    *_REBUILD,
}


# What PyTorch itself calls for tensors that are no weights here, in words.
_OTHER_NUMBERS = {
    "torch._utils._rebuild_tensor_v3": "float8 or unsigned numbers",
    "torch._utils._rebuild_qtensor": "quantized numbers",
    "torch._utils._rebuild_sparse_tensor": "sparse tensors",
    "torch._utils._rebuild_sparse_csr_tensor": "sparse tensors",
    "torch._utils._rebuild_nested_tensor": "nested tensors",
    "torch._utils._rebuild_meta_tensor_no_storage": "tensors without numbers (of the meta device)",
    "torch.ComplexFloatStorage": "complex numbers",
    "torch.ComplexDoubleStorage": "complex numbers",
}


class RefusedError(Exception):
    """The pickle is not one of tensors and plain values; the text says why."""


class ForeignNameError(RefusedError):
    """It names a class or function that a file of weights has no use for."""


class OtherNumbersError(RefusedError):
    """It holds tensors, but of numbers that are no weights here."""


@dataclass(frozen=True)
class Name:
    """A class or function that the pickle names."""

    path: str


@dataclass(frozen=True)
class Storage:
    """Numbers that the pickle refers to: ``count`` of ``item_bytes`` each, stored under ``key``."""

    key: str
    count: int
    item_bytes: int


@dataclass(frozen=True)
class Opaque:
    """The result of an allowed call that says nothing about sizes."""


@dataclass
class Contents:
    """What was found on the way."""

    storages: dict[str, Storage] = field(default_factory=dict)


def follow(stream: io.BytesIO, contents: Contents) -> Any:
    """Follows one pickle from the stream's position to just behind it.

    Returns:
        what it builds: lists, tuples, dicts, strings and numbers as they are, ``Opaque`` for anything else.

    Raises:
        RefusedError: it is damaged, too long, names something foreign, or describes a tensor that its storage cannot hold.
    """
    with _collector_paused():
        return _follow(stream, contents)


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Keeps the garbage collector out: it would go through every object of the process again and again meanwhile.

    300,000 lists took 0.7 s with it and 0.2 s without, and 1.2 s in a process that holds much else. What the pickle
    builds is bounded by ``MAX_OPERATIONS``, so nothing grows that a collection would have to stop.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _follow(stream: io.BytesIO, contents: Contents) -> Any:
    machine = _Machine(contents)
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(stream)):
            if count > MAX_OPERATIONS:
                raise RefusedError(f"its pickle has more than {MAX_OPERATIONS} operations")
            if operation.name == "STOP":
                break
            step = _STEPS.get(operation.name)
            if step is None:
                raise RefusedError(f"its pickle uses the operation {operation.name}, which PyTorch does not write")
            step(machine, argument)
        return machine.stack.pop()
    except (IndexError, KeyError, ValueError, TypeError, UnicodeError, OverflowError, AttributeError) as error:
        raise RefusedError(f"its pickle is damaged ({type(error).__name__})") from error


class _Machine:
    """The stack and memo of an unpickler."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.copied = 0  # entries of dictionaries made from others

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def name(self, argument: str) -> None:
        path = argument.replace(" ", ".")
        if path in _OTHER_NUMBERS:
            raise OtherNumbersError(_OTHER_NUMBERS[path])
        if path not in _CALLS and path not in STORAGES and path not in _DATA:
            raise ForeignNameError(path[:100])
        self.push(Name(path))

    def call(self, _: Any) -> None:
        arguments = self.stack.pop()
        function = self.stack.pop()
        if not isinstance(function, Name) or function.path not in _CALLS or not isinstance(arguments, tuple):
            raise RefusedError("its pickle calls something that is not a function of PyTorch")
        result = _result(function.path, arguments)
        # A pickle may copy one large dictionary again and again with a few bytes each: what is copied in all is bounded.
        if isinstance(result, dict):
            self.copied += len(result)
            if self.copied > MAX_OPERATIONS:
                raise RefusedError(f"its pickle copies more than {MAX_OPERATIONS} entries of dictionaries")
        self.push(result)

    def persistent(self, _: Any) -> None:
        described = self.stack.pop()
        if not isinstance(described, tuple) or not 5 <= len(described) <= 6:
            raise RefusedError("its pickle refers to something that is not a storage of numbers")
        kind, storage, key, _, count, *rest = described
        if kind != "storage" or not isinstance(storage, Name) or storage.path not in STORAGES:
            raise RefusedError("its pickle refers to something that is not a storage of numbers")
        key = storage_key(key)
        _natural(count, "a storage's length")
        found = Storage(key, count, STORAGES[storage.path])
        if self.contents.storages.setdefault(key, found) != found:
            raise RefusedError(f"storage {key[:20]!r} is described twice, differently")
        if rest and rest[0] is not None:
            _, offset, length = rest[0]
            if _natural(offset, "a view's offset") + _natural(length, "a view's length") > count:
                raise RefusedError(f"a view reaches beyond storage {key[:20]!r}")
            found = Storage(key, length, found.item_bytes)
        self.push(found)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise RefusedError("its pickle is damaged (items of no dictionary)")
        _fill(target, zip(items[::2], items[1::2], strict=True))

    def append(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise RefusedError("its pickle is damaged (elements of no list)")
        self.stack[-1].extend(items)

    def build(self, _: Any) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], dict):
            raise RefusedError("its pickle sets the state of something that has none")
        _check_attributes(state, OrderedDict)

    def pops(self, count: int) -> None:
        items = tuple(self.stack[len(self.stack) - count :])
        if len(items) != count:
            raise RefusedError("its pickle is damaged (stack)")
        del self.stack[len(self.stack) - count :]
        self.push(items)


def _result(path: str, arguments: tuple[Any, ...]) -> Any:
    if path in ("collections.OrderedDict", "collections.Counter"):
        return _dictionary(arguments[0], pairs=path == "collections.OrderedDict") if arguments else {}
    if path == "torch.Size":
        return _size(arguments[0])
    if path.startswith("torch._utils._rebuild_parameter"):
        for state in arguments[3:]:
            _check_attributes(state, torch.nn.Parameter)
        return arguments[0]
    if path in _REBUILD:
        _check_tensor(*arguments[:4])
    return Opaque()


def _fill(target: dict[Any, Any], pairs: Iterable[tuple[Any, Any]]) -> None:
    for key, value in pairs:
        # Types whose hash is their own; a nested tuple can take for ever to hash.
        if not isinstance(key, (str, int, float, type(None))):
            raise RefusedError(f"a dictionary has a key of type {type(key).__name__}")
        if key in target:
            raise RefusedError(f"two entries are called {str(key)[:60]!r}")
        target[key] = value


def _dictionary(given: Any, pairs: bool) -> dict[Any, Any]:
    """A dictionary from another one or, as Python 2 wrote it, from ``pairs`` of key and value."""
    if isinstance(given, dict):
        return dict(given)
    if not pairs or not isinstance(given, (list, tuple)):
        raise RefusedError(f"a dictionary is made from a {type(given).__name__}")
    if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in given):
        raise RefusedError("a dictionary is made from something other than pairs of key and value")
    result: dict[Any, Any] = {}
    _fill(result, given)
    return result


def _size(given: Any) -> tuple[int, ...]:
    if not isinstance(given, (list, tuple)) or len(given) > MAX_DIMENSIONS:
        raise RefusedError(f"a torch.Size is not made from a tuple of at most {MAX_DIMENSIONS} numbers")
    return tuple(_natural(value, "a part of a torch.Size") for value in given)


def _check_attributes(state: Any, kind: type) -> None:
    """What PyTorch sets as attributes of a ``kind``: none that it has already, such as its methods."""
    parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)  # of objects with slots
    if (kind is OrderedDict and isinstance(state, tuple)) or not all(isinstance(x, (dict, type(None))) for x in parts):
        raise RefusedError(f"its pickle sets the state of a {kind.__name__} to a {type(state).__name__}")
    if sum(len(part or ()) for part in parts) > MAX_ATTRIBUTES:
        raise RefusedError(f"its pickle sets more than {MAX_ATTRIBUTES} attributes of a {kind.__name__}")
    for key in (key for part in parts for key in part or ()):
        if not isinstance(key, str) or hasattr(kind, key):
            raise RefusedError(f"its pickle sets the attribute {str(key)[:60]!r} of a {kind.__name__}")


def storage_key(value: Any) -> str:
    """The name of a storage, which is text or a number."""
    if not isinstance(value, (str, int)):
        raise RefusedError(f"the name of a storage is a {type(value).__name__}")
    return str(value)


def _natural(value: Any, what: str) -> int:
    if type(value) is not int:
        raise RefusedError(f"{what} is a {type(value).__name__}, not a number")
    if not 0 <= value < 1 << 48:
        raise RefusedError(f"{what} is {str(value)[:40]}, not a number from 0 to 2**48")
    return value


def _check_tensor(storage: Any, offset: Any, size: Any, stride: Any) -> None:
    """Every element lies inside the storage, and no more elements than it has."""
    if not isinstance(storage, Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise RefusedError("a tensor is described in an unknown way")
    if len(size) != len(stride) or len(size) > MAX_DIMENSIONS:
        raise RefusedError(f"a tensor has {len(size)} dimensions and {len(stride)} strides (at most {MAX_DIMENSIONS})")
    for value in (*size, *stride, offset):
        _natural(value, "a size, stride or offset of a tensor")
    # Strides of 0 make a tensor larger than its storage, which nothing that saves weights writes; the number of elements is
    # compared too.
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and (last >= storage.count or math.prod(size) > storage.count):
        raise RefusedError(f"a tensor of {list(size)} does not fit its storage of {storage.count} numbers")


Step = Callable[[_Machine, Any], None]
_STEPS: dict[str, Step] = {
    "PROTO": lambda m, a: None,
    "MARK": _Machine.mark,
    "GLOBAL": _Machine.name,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
    "APPEND": lambda m, a: m.append([m.stack.pop()]),
    "APPENDS": lambda m, a: m.append(m.since_mark()),
    "SETITEM": lambda m, a: m.set_items([m.stack.pop(-2), m.stack.pop()]),
    "SETITEMS": lambda m, a: m.set_items(m.since_mark()),
    "TUPLE": lambda m, a: m.push(tuple(m.since_mark())),
    "EMPTY_TUPLE": lambda m, a: m.push(()),
    "TUPLE1": lambda m, a: m.pops(1),
    "TUPLE2": lambda m, a: m.pops(2),
    "TUPLE3": lambda m, a: m.pops(3),
    "EMPTY_LIST": lambda m, a: m.push([]),
    "EMPTY_DICT": lambda m, a: m.push({}),
    "NONE": lambda m, a: m.push(None),
    "NEWTRUE": lambda m, a: m.push(True),
    "NEWFALSE": lambda m, a: m.push(False),
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"), _Machine.push
    ),
    "BINPUT": lambda m, a: m.memo.__setitem__(a, m.stack[-1]),
    "LONG_BINPUT": lambda m, a: m.memo.__setitem__(a, m.stack[-1]),
    "BINGET": lambda m, a: m.push(m.memo[a]),
    "LONG_BINGET": lambda m, a: m.push(m.memo[a]),
}


def refuse(path: Any, error: RefusedError) -> CheckpointError:
    """The error for the user, with the way to a file that can be read."""
    advice = "in the program that made it, re-save the weights with torch.save(model.state_dict(), 'weights.pth')"
    if isinstance(error, ForeignNameError):
        return CheckpointError(
            f"{path} holds pickled Python objects ({error}), which could run code, so srfast does not open it; {advice}"
        )
    if isinstance(error, OtherNumbersError):
        return CheckpointError(
            f"{path} holds {error}, but weights are float64, float32, float16 or bfloat16; in the program that made it, save "
            "them as one of these"
        )
    return CheckpointError(f"{path} is damaged or not made by torch.save: {error}; {advice}")
