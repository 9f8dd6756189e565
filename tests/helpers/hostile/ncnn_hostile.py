"""ncnn files that a loader must refuse: damaged, lying about sizes, or asking for too much."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator

from tests.helpers.ncnn_files import Writer

Case = tuple[str, dict[str, bytes]]
EVIL = "a\x1b[2J\x07\x08b\u202e\u200b"  # without spaces, which end a word
HUGE = (
    "1000000000",
    "9223372036854775807",
    "1e30",
    "-1",
    "-1000000000",
    "1e400",
    "nan",
    "inf",
    "0x10",
    "1_0",
    "abc",
    "",
)


def sound() -> tuple[bytes, bytes]:
    """Text and numbers of a small network that is read."""
    w = Writer(0)
    w.add("Input", [], ["data"])
    w.conv("data", "c", 3, 8, 3, 1)
    w.add("Split", ["c"], ["c1", "c2"])
    w.plain("PReLU", "c1", "p", {0: 8}, [-8])
    w.conv("p", "d", 8, 8, 3, 1, activation=(2, [0.1]))
    w.add("BinaryOp", ["d", "c2"], ["e"], {0: 0})
    w.conv("e", "f", 8, 12, 3, 1)
    w.add("PixelShuffle", ["f"], ["output"], {0: 2})
    return w.text(), w.numbers()


def case(name: str, text: bytes | str, numbers: bytes | None = None) -> Case:
    data = text.encode() if isinstance(text, str) else text
    return name, {".param": data, ".bin": sound()[1] if numbers is None else numbers}


def damaged() -> Iterator[Case]:
    text, numbers = sound()
    for part in range(1, 99, 4):
        if part < 95:  # the last parameter alone may be missing
            yield case(f"text cut at {part}%", text[: len(text) * part // 100])
        yield case(f"numbers cut at {part}%", text, numbers[: len(numbers) * part // 100])
    for more in (b"x", bytes(4), bytes(1000)):
        yield case(f"{len(more)} bytes more", text, numbers + more)
    noise = random.Random(0)
    for size in (0, 1, 50, 5000):
        yield case(f"noise of {size} bytes", noise.randbytes(size))
        yield case(f"noise of {size} bytes behind the magic number", b"7767517\n" + noise.randbytes(size))
    for value in (float("nan"), float("inf"), -float("inf")):
        for at in (4, 400, len(numbers) - 8):
            yield case(f"{value} at {at}", text, numbers[:at] + struct.pack("<f", value) + numbers[at + 4 :])
    for tag in (0x01306B47, 0x01348B83, 0x000D4B38, 0x00000101, 0xFFFFFFFF):
        yield case(f"the tag {tag:x}", text, struct.pack("<I", tag) + numbers[4:])
    yield case("the binary form", b"\xdd\x85\x76\x00" + bytes(100))
    yield case("not UTF-8", text.replace(b"conv1", b"\xff\xfe"))


def lines() -> Iterator[Case]:
    """Every line without, twice, and with each of its words as another."""
    text = sound()[0].decode()
    rows = text.splitlines()
    for index in range(len(rows)):
        yield case(f"without line {index}", "\n".join(rows[:index] + rows[index + 1 :]))
        if index:
            yield case(f"line {index} twice", "\n".join(rows[: index + 1] + rows[index:]))
        if index > 1:
            rest = [*rows[:1], f"{len(rows) - 1} 99", *rows[2 : index + 1], *rows[index:]]
            yield case(f"line {index} twice, and counted", "\n".join(rest))
    for index, row in enumerate(rows[2:], start=2):
        words = row.split()
        for at, word in enumerate(words):
            for new in (EVIL, "9" * 5000):
                replaced = [*words[:at], new, *words[at + 1 :]]
                if at not in (1,) and not (at > 3 and "=" not in word and word == "output"):
                    yield case(
                        f"line {index}, word {at} as {new[:9]!r}",
                        "\n".join([*rows[:index], " ".join(replaced), *rows[index + 1 :]]),
                    )
            if "=" not in word and at not in (2, 3):
                continue
            key = word.partition("=")[0]
            for value in HUGE:
                new = value if at in (2, 3) else f"{key}={value}"
                changed = "\n".join([*rows[:index], " ".join([*words[:at], new, *words[at + 1 :]]), *rows[index + 1 :]])
                if not (key in ("9", "-23310") and value in ("-1", "1e30")):
                    yield case(f"line {index}, {word} as {new[:30]}", changed)


def monsters() -> Iterator[Case]:
    head = "7767517\n"
    many = " ".join(f"b{i}" for i in range(1_000_000))
    yield case("a layer that writes a million blobs", f"{head}2 9\nInput in 0 1 data\nSplit s 1 1000000 data {many}\n")
    yield case("a layer that reads a million blobs", f"{head}2 9\nInput in 0 1 data\nConcat s 1000000 1 {many} out\n")
    few = " ".join(f"b{i}" for i in range(100))
    yield case("a layer that writes 100 blobs", f"{head}2 9\nInput in 0 1 data\nSplit s 1 100 data {few}\n")
    yield case("a million layers", f"{head}1000000 9\n" + "Input in 0 1 data\n" * 200_000)
    yield case("9,000 layers", f"{head}9000 9\n" + "Input in 0 1 data\n" * 9_000)
    yield case("a million parameters", f"{head}2 9\nInput in 0 1 data\nConv c 1 1 data out " + "0=1 " * 500_000)
    yield case(
        "a parameter of a million numbers",
        f"{head}2 9\nInput in 0 1 data\nConv c 1 1 data out -23310=1000000" + ",1" * 1_000_000,
    )
    yield case(
        "a number of a million digits", f"{head}2 9\nInput in 0 1 data\nConvolution c 1 1 data out 0=" + "9" * 1_000_000
    )
    yield case("a count of a million digits", head + "9" * 1_000_000 + " 1\nInput in 0 1 data\n")
    yield case("blobs of a million digits", f"{head}1 9\nInput in 0 " + "9" * 1_000_000 + " data\n")
    yield case("5 MB of spaces", head + " " * (5 << 20))
    yield case("4 MB of lines", head + "\n" * (4 << 20))
    yield case("a ring", f"{head}3 3\nInput in 0 1 data\nReLU a 1 1 y x\nReLU b 1 1 x y\n")
    yield case("a layer that reads itself", f"{head}2 2\nInput in 0 1 data\nReLU a 1 1 x x\n")
    yield case("two inputs", f"{head}3 3\nInput a 0 1 x\nInput b 0 1 y\nBinaryOp c 2 1 x y z 0=0\n")
    yield case("no input", f"{head}1 1\nMemoryData a 0 1 x 0=1\n", bytes(4))
    yield case("nothing but an input", f"{head}1 1\nInput in 0 1 data\n", b"")
    yield case("no layers", f"{head}0 0\n", b"")
    for kind, options in {
        "Convolution": "0=2048 1=63 6=8128512000",
        "Convolution ": "0=2000000000 1=1 6=6000000000",
        "Deconvolution": "0=8 1=4 3=1000000000 6=384",
        "InnerProduct": "0=1000000000 2=1000000000",
        "PixelShuffle": "0=1000000000",
        "Interp": "0=2 1=1e9 2=1e9",
        "Interp ": "0=1 3=1000000000 4=1000000000",
        "Padding": "0=1000000000 1=1000000000 2=1000000000 3=1000000000 4=2",
        "Reshape": "0=1000000000 1=1000000000 2=1000000000",
        "Crop": "-23309=2,1000000000,1000000000 -23310=2,1,1 -23311=2,1,2",
        "PReLU": "0=1000000000",
        "BatchNorm": "0=1000000000",
        "Scale": "0=1000000000 1=1",
        "MemoryData": "0=1000000000 1=1000000000 2=1000000000",
        "Pooling": "0=0 1=1000000000 2=1000000000",
        "ReLU": "0=nan",
        "Clip": "0=5 1=-5",
        "BinaryOp": "0=3 1=1 2=0",
        "Eltwise": "0=1 -23301=1000,1",
        "Slice": "-23300=3,1000000000,-233,-233 1=0",
        "Custom": "0=1",
        "LSTM": "0=1000000000 1=1000000000",
        "Quantize": "0=1",
        "Exp": "0=-1",
    }.items():
        yield case(
            f"{kind.strip()} with {options[:30]}",
            f"{head}2 2\nInput in 0 1 data\n{kind} l 1 1 data output {options}\n",
            bytes(64),
        )
    deep = "".join(f"PixelShuffle p{i} 1 1 b{i} b{i + 1} 0=16\n" for i in range(200))
    yield case("enlarged 200 times", f"{head}201 201\nInput in 0 1 b0\n{deep}", b"")
    small = "".join(f"Pooling p{i} 1 1 b{i} b{i + 1} 0=1 1=2 2=2\n" for i in range(200))
    yield case("halved 200 times", f"{head}201 201\nInput in 0 1 b0\n{small}", b"")
    wide = "".join(f"Split s{i} 1 2 b{i} x{i} y{i}\nConcat c{i} 2 1 x{i} y{i} b{i + 1}\n" for i in range(60))
    yield case("channels doubled 60 times", f"{head}121 999\nInput in 0 1 b0 2=3\n{wide}", b"")


def names() -> Iterator[Case]:
    """Control characters wherever the text has a name."""
    text = sound()[0].decode()
    for old in ("conv1", "prelu_3", "PReLU", "Convolution", "data", "output", "Split", "5=1", "7767517"):
        broken = text.replace(old, EVIL)
        yield case(f"{old} with control characters, cut numbers", broken, sound()[1][:-400])
    for number in ("0=", "4=", "6="):
        yield case(f"{number} of control characters", text.replace(number, number + EVIL))


FAMILIES: dict[str, Callable[[], Iterator[Case]]] = {
    "damaged": damaged,
    "lines": lines,
    "monsters": monsters,
    "names": names,
}
