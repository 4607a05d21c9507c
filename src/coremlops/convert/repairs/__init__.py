"""Known traps of a conversion, each with a small named rule that mends it without changing the function.

    >>> with mending(program) as mend:  # doctest: +SKIP
    ...     made = coremltools.convert(mend.raw, pass_pipeline=mend.pipeline(), ...)
    >>> [repair.name for repair in mend.repairs]  # doctest: +SKIP
    ['dialect', 'prelu']

Nothing of it outlives the block: what coremltools knows of torch ops and passes is as before.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from coremlops.convert.repairs.rule import Repair, Rule
from coremlops.convert.repairs.rules import RULES
from coremlops.errors import UsageError

_PASS = "coremlops::repairs"  # noqa: S105
# After everything is simplified and fused, before ops have types of 16 bits.
_BEFORE = "common::dedup_op_and_var_names"
_ONE_AT_A_TIME = threading.RLock()


class Mending:
    """A conversion while it is mended. `raw`: the program to convert."""

    def __init__(self, raw: Any, rules: tuple[Rule, ...]) -> None:
        self.raw = raw
        self._rules = rules
        self._where: dict[str, dict[str, None]] = {}

    @property
    def repairs(self) -> tuple[Repair, ...]:
        """What was applied until now, in the order of `RULES`."""
        return tuple(
            Repair(rule.name, rule.does, tuple(self._where[rule.name]))
            for rule in RULES
            if rule.name in self._where
        )

    def pipeline(self, pipeline: Any = None) -> Any:
        """coremltools' passes, its default ones unless given, and the rules on graphs among them."""
        import coremltools as ct

        pipeline = ct.PassPipeline.DEFAULT if pipeline is None else pipeline
        if _BEFORE in pipeline.passes:
            pipeline.insert_pass(pipeline.passes.index(_BEFORE), _PASS)
        return pipeline

    def note(self, rule: Rule, where: Iterable[str]) -> None:
        found = dict.fromkeys(where)
        if found:
            self._where.setdefault(rule.name, {}).update(found)


@contextlib.contextmanager
def mending(
    raw: Any, *, skip: Iterable[str] = (), float16: bool = True, examples: tuple[Any, ...] | None = None
) -> Iterator[Mending]:
    """Mend `raw`, a program of torch (another source: None, and rules on graphs alone act), in the block.

    `skip`: names of rules that are not wanted. `float16`: the model computes in 16 bits somewhere.
    `examples`: input tensors of torch, for a TorchScript program that must be traced anew.

    One conversion at a time is mended in a process. Raises UsageError for a name that no rule has,
    ConversionError where a rule refuses the program.
    """
    rules = chosen(skip, float16)
    mend = Mending(raw, rules)
    with _ONE_AT_A_TIME, contextlib.ExitStack() as stack:
        stack.enter_context(_passes(mend, rules))
        if raw is not None:
            stack.enter_context(_front_end(mend, rules))
            for rule in rules:
                if rule.program is not None:
                    mend.raw, where = rule.program(mend.raw, examples)
                    mend.note(rule, where)
        yield mend


def chosen(skip: Iterable[str] = (), float16: bool = True) -> tuple[Rule, ...]:
    """The rules that act. Raises UsageError for a name that no rule has."""
    unwanted = set(skip)
    names = [rule.name for rule in RULES]
    for name in sorted(unwanted.difference(names)):
        near = get_close_matches(name, names, n=1, cutoff=0.4)
        raise UsageError(
            f"no repair is called {name!r}; there are {', '.join(names)}",
            hint=f"did you mean {near[0]}?" if near else "",
        )
    return tuple(rule for rule in RULES if rule.name not in unwanted and (float16 or not rule.float16))


@contextlib.contextmanager
def _front_end(mend: Mending, rules: tuple[Rule, ...]) -> Iterator[None]:
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY

    known = _TORCH_OPS_REGISTRY.name_to_func_mapping
    before = dict(known)
    for rule in rules:
        for kind, repair in rule.ops.items():
            known[kind] = _either(mend, rule, repair, before.get(kind))
    try:
        yield
    finally:
        known.clear()
        known.update(before)


def _either(
    mend: Mending, rule: Rule, repair: Callable[[Any, Any], bool], theirs: Callable[[Any, Any], None] | None
) -> Callable[[Any, Any], None]:
    def add(context: Any, node: Any) -> None:
        if repair(context, node):
            mend.note(rule, [node.name])
        elif theirs is not None:
            theirs(context, node)
        else:
            raise NotImplementedError(f"PyTorch convert function for op '{node.kind}' not implemented.")

    return add


@contextlib.contextmanager
def _passes(mend: Mending, rules: tuple[Rule, ...]) -> Iterator[None]:
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY

    class Repairs(AbstractGraphPass):  # type: ignore[misc, unused-ignore]
        def apply(self, program: Any) -> None:
            for rule in rules:
                if rule.graph is not None:
                    mend.note(rule, rule.graph(program))

    PASS_REGISTRY.passes[_PASS] = Repairs
    try:
        yield
    finally:
        del PASS_REGISTRY.passes[_PASS]


__all__ = ["RULES", "Mending", "Repair", "Rule", "chosen", "mending"]
