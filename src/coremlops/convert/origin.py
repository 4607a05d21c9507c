"""Where an op came from: the module and the line of the user's model.

    >>> with following() as trail:  # doctest: +SKIP
    ...     made = coremltools.convert(...)
    >>> trail.origins(made)["relu_cast_fp16"]  # doctest: +SKIP
    Place(module='features.3', source='net.py:41')

The places are those that torch keeps in the program: of an exported program `nn_module_stack` and
`stack_trace`, of TorchScript the scope and the source range of a node.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from types import FunctionType
from typing import Any

FORMAT = 1
MAX_BYTES = 64 << 20
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
_TRACED = re.compile(r"^\s*(?P<file>[^\s(][^(\n]*)\((?P<line>\d+)\): (?P<function>.*)$", re.M)
_MODULE = "module "  # begins the name of a function of `calling`
_OURS = f"{Path(__file__).parents[1]}/"
_SITE = re.compile(r".*/(?:site|dist)-packages/")


@dataclass(frozen=True, slots=True)
class Place:
    """A dotted module path (empty: the model itself) and `file:line` (empty: not known)."""

    module: str = ""
    source: str = ""

    def __str__(self) -> str:
        return (
            ", ".join(part for part in (self.source, self.module and f"module {self.module}") if part) or "?"
        )


@dataclass
class Trail:
    """What was followed. `failed`: the place of the op at which the front end gave up, None otherwise."""

    failed: Place | None = None
    op: str = ""
    _places: dict[str | int, Place] = field(default_factory=dict, repr=False)

    def origins(self, made: Any) -> dict[str, Place]:
        """Op (by the name of its output) -> place, for each op of an ML Program that has one."""
        program = getattr(made, "_mil_program", None)
        found: dict[str, Place] = {}
        for function in program.functions.values() if program is not None else ():
            for op in _operations(function):
                place = self._of(op)
                if op.op_type != "const" and place is not None:
                    found |= {value.name: place for value in op.outputs}
        return found

    def _of(self, op: Any) -> Place | None:
        from coremltools.converters.mil.mil.scope import ScopeSource

        for source in (ScopeSource.EXIR_DEBUG_HANDLE, ScopeSource.TORCHSCRIPT_MODULE_NAME):
            for key in reversed(op.scopes.get(source) or []):
                if key in self._places:
                    return self._places[key]
        return None


def document(origins: dict[str, Place]) -> dict[str, Any]:
    """The content of `<stem>.origins.json`."""
    ops = {op: {"module": place.module, "source": place.source} for op, place in sorted(origins.items())}
    return {"format": FORMAT, "ops": ops}


def origins_beside(package: Path) -> dict[str, Any]:
    """The ops of `<stem>.origins.json` beside a package; none where there is no such file."""
    path = package.with_name(f"{package.stem}.origins.json")
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(MAX_BYTES))
        ops = value["ops"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return ops if isinstance(ops, dict) else {}


@contextlib.contextmanager
def following() -> Iterator[Trail]:
    """Watch coremltools' PyTorch front end in the block: which node it reads, and where that came from."""
    from coremltools.converters.mil.frontend.torch import ops
    from coremltools.converters.mil.frontend.torch.internal_graph import InternalTorchIRNode

    trail = Trail()
    convert = ops.convert_single_node
    exported = InternalTorchIRNode.__dict__["from_exir_node"]
    scripted = InternalTorchIRNode.__dict__["from_torchscript_node"]

    def from_exported(cls: Any, node: Any) -> Any:
        place = node_place(node)
        try:
            made = exported.__func__(cls, node)
        except Exception:
            trail.failed, trail.op = place, _kind(node)
            raise
        handle = len(trail._places)  # coremltools takes numbers alone
        made.meta = dict(made.meta) | {"debug_handle": handle}
        trail._places[handle] = trail._places[made.name] = place
        return made

    def from_scripted(cls: Any, node: Any, parent: Any) -> Any:
        made = scripted.__func__(cls, node, parent)
        trail._places[made.name] = script_place(node)
        return made

    def convert_node(context: Any, node: Any) -> None:
        try:
            convert(context, node)
        except Exception:
            if trail.failed is None:  # the innermost block's node
                trail.failed, trail.op = trail._places.get(node.name, Place()), node.kind
            raise

    ops.convert_single_node = convert_node
    InternalTorchIRNode.from_exir_node = classmethod(from_exported)
    InternalTorchIRNode.from_torchscript_node = classmethod(from_scripted)
    try:
        yield trail
    finally:
        ops.convert_single_node = convert
        InternalTorchIRNode.from_exir_node = exported
        InternalTorchIRNode.from_torchscript_node = scripted


def node_place(node: Any) -> Place:
    """Of a node of an exported program."""
    stack = node.meta.get("nn_module_stack") or {}
    path = ""
    for name, _ in stack.values():
        path = name if isinstance(name, str) else path
    return Place(path, _source(node.meta.get("stack_trace") or "", innermost_last=True))


def script_place(node: Any) -> Place:
    """Of a node of a TorchScript graph."""
    names = re.findall(r"([^.()]+)\([^()]*\)", node.getModuleHierarchy() or "")
    path = ".".join(name for name in names if name not in ("SELF", "UNKNOWN_INSTANCE"))
    trace = node.sourceRange() or ""
    for frame in _TRACED.finditer(trace):
        if frame["function"].startswith(_MODULE):
            path = frame["function"].removeprefix(_MODULE)
    return Place(path, _source(trace, innermost_last=False))


def calling(place: Place) -> Callable[..., Any]:
    """A function (f, arguments, named) -> f(*arguments, **named) that torch's tracer sees at `place`."""
    file, _, line = place.source.rpartition(":")
    code = compile("lambda f, arguments, named: f(*arguments, **named)", file or "<unknown>", "eval")
    (inner,) = (item for item in code.co_consts if hasattr(item, "co_code"))
    named = inner.replace(co_name=_MODULE + place.module, co_firstlineno=int(line or 1))
    return FunctionType(named, {})


def _source(trace: str, innermost_last: bool) -> str:
    frames = [
        (match["file"], match["line"]) for match in (_FRAME if 'File "' in trace else _TRACED).finditer(trace)
    ]
    if innermost_last:
        frames.reverse()
    # From the inside out, as far as the model reaches: what is ours, and all around it, captured the model.
    inside = list(takewhile(lambda frame: not frame[0].startswith(_OURS), frames))
    own = [frame for frame in inside if not _of_torch(frame[0])]
    file, line = (own or inside or [("", "")])[0]
    return f"{_short(file)}:{line}" if file else ""


def _of_torch(file: str) -> bool:
    return "/torch/" in _SITE.sub("/", file) or file.startswith("<")


def _short(file: str) -> str:
    """As Python would import it: below the working folder or a folder of `sys.path`; else the name alone."""
    inside = _SITE.sub("", file)
    if inside != file:
        return inside
    path = Path(file)
    if not path.is_absolute():
        return file
    homes = [Path(home) for home in ("", *sys.path) if Path(home).is_dir()]
    parts = [path.relative_to(home.absolute()) for home in homes if path.is_relative_to(home.absolute())]
    return min(parts, key=lambda part: len(part.parts)).as_posix() if parts else path.name


def _kind(node: Any) -> str:
    return str(getattr(node.target, "__name__", node.target))


def _operations(function: Any) -> Iterator[Any]:
    todo = [function]
    while todo:
        for op in todo.pop().operations:
            todo += op.blocks
            yield op
