"""Damages Core ML files: at random in their bytes, and where it hurts in their messages.

A case is `(seed file, number)` and nothing else, so that each can be made again.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

from coremlops.model.proto import message_class

SPEC = "Data/com.apple.CoreML/model.mlmodel"
MANIFEST = "Manifest.json"
MAX_DEPTH = 40  # of messages that are walked
# Sizes, counts and codes at which a reader that trusts its file breaks.
INTEGERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    63,
    64,
    65,
    127,
    255,
    1 << 15,
    1 << 20,
    (1 << 31) - 1,
    1 << 31,
    1 << 40,
    (1 << 63) - 1,
)
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 65504.0, 65520.0, 3.4e38, float("inf"), float("-inf"), float("nan"))
STRINGS = (
    "",
    "x",
    "main",
    "../../etc/passwd",
    "a" * 5000,
    "\0",
    "é\u202e",
    "@model_path/weights/../../x",
    "%s%n",
)

_INTEGER_LIMITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(1 << 31), (1 << 31) - 1),
}


def write_case(seed: Path, number: int, folder: Path) -> Path:
    """Damage a copy of `seed` (an `.mlpackage` or `.mlmodel`) in the way that `number` says; its path."""
    rng = random.Random(f"{seed.name}:{number}")
    target = folder / f"case{seed.suffix}"
    if seed.is_file():
        target.write_bytes(_damaged_spec(seed.read_bytes(), rng))
        return target
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(seed, target)
    spec = target / SPEC
    others = sorted(path for path in target.rglob("*") if path.is_file() and path != spec)
    if others and rng.random() < 0.2:
        victim = rng.choice(others)
        if rng.random() < 0.1:
            victim.unlink()
        else:
            victim.write_bytes(_damaged_bytes(victim.read_bytes(), rng))
    if not others or rng.random() < 0.85:
        spec.write_bytes(_damaged_spec(spec.read_bytes(), rng))
    return target


def _damaged_spec(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.05:  # of what is no message any more, reading says so at once
        return _damaged_bytes(data, rng)
    model = message_class("Model")()
    model.ParseFromString(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        _damage(model, rng)
    try:
        damaged: bytes = model.SerializeToString()
    except (DecodeError, ValueError):
        return _damaged_bytes(data, rng)
    return damaged


def _damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        place = rng.randrange(len(changed) + 1)
        match rng.randrange(5):
            case 0:
                changed[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                changed[place:place] = rng.randbytes(rng.choice((1, 2, 8)))
            case 2:
                del changed[place : place + rng.choice((1, 4, 64, 4096))]
            case 3:
                del changed[place:]
            case _:
                number = rng.choice(INTEGERS) & ((1 << 64) - 1)
                changed[place : place + 8] = number.to_bytes(8, "little")
    return bytes(changed)


def _damage(model: Any, rng: random.Random) -> None:
    """Change one field of one message that is set, or of its neighbour."""
    places = list(_messages(model, 0))
    # Messages that hold others are few and matter more than the thousands of numbers below them.
    # So does what the model does: the description of a small one is half of it.
    kind = model.WhichOneof("Type")
    body = list(_messages(getattr(model, kind), 0)) if kind and rng.random() < 0.7 else places
    parent = rng.choice(body)
    fields = [field for field, _ in parent.ListFields()]
    if not fields or rng.random() < 0.1:
        fields = list(parent.DESCRIPTOR.fields)
    if not fields:
        return
    field = rng.choice(fields)
    if _is_map(field):
        _damage_map(getattr(parent, field.name), field, places, rng)
    elif field.is_repeated:
        _damage_repeated(getattr(parent, field.name), field, places, rng)
    elif field.message_type is not None:
        _damage_message(parent, field, places, rng)
    else:
        setattr(parent, field.name, _scalar(field, getattr(parent, field.name), places, rng))


def _messages(message: Any, depth: int) -> Iterator[Any]:
    yield message
    if depth >= MAX_DEPTH:
        return
    for field, value in message.ListFields():
        if _is_map(field):
            if field.message_type.fields_by_name["value"].message_type is not None:
                for key in value:
                    yield from _messages(value[key], depth + 1)
        elif field.message_type is not None:
            for entry in value if field.is_repeated else (value,):
                yield from _messages(entry, depth + 1)


def _is_map(field: Any) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _damage_map(entries: Any, field: Any, places: list[Any], rng: random.Random) -> None:
    keys = sorted(entries)
    if keys and rng.random() < 0.5:
        del entries[rng.choice(keys)]
        return
    value = field.message_type.fields_by_name["value"]
    if value.message_type is None:
        key = rng.choice(keys) if keys else _any_key(field, places, rng)
        entries[key] = _scalar(value, entries[key] if keys else None, places, rng)
    elif keys:  # a second name for what has one, or another's value
        source = entries[rng.choice(keys)]
        copied = type(source)()
        copied.CopyFrom(source)
        entries[rng.choice((*keys, _any_key(field, places, rng)))].CopyFrom(copied)


def _any_key(field: Any, places: list[Any], rng: random.Random) -> Any:
    return _scalar(field.message_type.fields_by_name["key"], None, places, rng)


def _damage_repeated(values: Any, field: Any, places: list[Any], rng: random.Random) -> None:
    length = len(values)
    action = rng.randrange(4)
    if action == 0 and length:
        del values[rng.randrange(length)]
    elif action == 1 and length > 1:
        if field.message_type is not None:
            values.reverse() if hasattr(values, "reverse") else None
        else:
            first, second = rng.randrange(length), rng.randrange(length)
            values[first], values[second] = values[second], values[first]
    elif field.message_type is not None:
        if length and rng.random() < 0.7:
            copied = type(values[0])()
            copied.CopyFrom(values[rng.randrange(length)])
            values.add().CopyFrom(copied)
        else:
            values.add().CopyFrom(_another(field, places, rng))
    elif length and action == 2:
        place = rng.randrange(length)
        values[place] = _scalar(field, values[place], places, rng)
    else:
        values.append(_scalar(field, values[0] if length else None, places, rng))


def _damage_message(parent: Any, field: Any, places: list[Any], rng: random.Random) -> None:
    if rng.random() < 0.4:
        parent.ClearField(field.name)
    else:
        getattr(parent, field.name).CopyFrom(_another(field, places, rng))


def _another(field: Any, places: list[Any], rng: random.Random) -> Any:
    """A message of the field's type from elsewhere in the model, or an empty one."""
    alike = [place for place in places if place.DESCRIPTOR is field.message_type]
    if alike and rng.random() < 0.8:
        chosen = rng.choice(alike)
        copied = type(chosen)()
        copied.CopyFrom(chosen)
        return copied
    return message_class(field.message_type.full_name.removeprefix("CoreML.Specification."))()


def _scalar(field: Any, old: Any, places: list[Any], rng: random.Random) -> Any:
    """Another value: more often a likely one than an absurd one, which a reader refuses at once."""
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _damaged_bytes(old or b"", rng)
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM and rng.random() < 0.9:
        return rng.choice(field.enum_type.values).number
    if rng.random() < 0.4 and (peers := _peers(field, places, rng)):
        return rng.choice(peers)
    if field.cpp_type in _INTEGER_LIMITS:
        least, most = _INTEGER_LIMITS[field.cpp_type]
        near = rng.choice(INTEGERS) if old is None or rng.random() < 0.5 else _near(old, rng)
        return max(least, min(most, near))
    if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return rng.choice(FLOATS) if old is None or rng.random() < 0.6 else old * rng.choice((-1, 0.5, 2))
    text = rng.choice(STRINGS)
    return text if not old or rng.random() < 0.4 else old + rng.choice(("", "x", "_0", "."))


def _near(old: int, rng: random.Random) -> int:
    return rng.choice((old - 1, old + 1, old * 2, old // 2, -old, old + 64, old * 1000))


def _peers(field: Any, places: list[Any], rng: random.Random) -> list[Any]:
    """Values of such a field elsewhere in the model: names for a name, sizes for a size."""
    found: list[Any] = []
    for place in rng.sample(places, min(30, len(places))):
        for other, value in place.ListFields():
            if other.cpp_type == field.cpp_type and other.type == field.type and not _is_map(other):
                found += list(value)[:20] if other.is_repeated else [value]
    return found
