"""Each rule on a net with its trap: mended it computes what torch does, without the rule it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from coremlops.convert.repairs import RULES
from tests.convert.repairs.proof import Net, converted, executed, expected, program, snr_db

LEAST = float(torch.finfo(torch.float32).min)
BOTH = ("trace", "export")


def noise(*shape: int) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


def prelu(channels: int) -> Any:
    layer = nn.PReLU(channels)
    layer.weight.data = torch.linspace(0.1, 0.9, channels)
    return layer


def ramp() -> Any:
    return torch.linspace(-30, 30, 32).reshape(2, 16)


def kept() -> Any:
    """A mask whose second row keeps nothing."""
    return torch.tensor([[1.0, 1, 1, 0, 0, 0, 0, 0], [0] * 8])


@dataclass(frozen=True)
class Trap:
    """`without`: what a conversion without the rule says; empty where it is silent and computes wrongly."""

    rule: str
    net: Callable[[], Any]
    examples: tuple[Any, ...]
    without: str = ""
    ways: tuple[str, ...] = BOTH
    skip: tuple[str, ...] = ()
    typed_db: float = 50.0


def recurrent(kind: Any) -> Trap:
    net = lambda: Net(lambda layer, x: layer(x), kind(8, 4, 2, batch_first=True))  # noqa: E731
    says = f"Unsupported fx node {kind.__name__.lower()}"
    return Trap("recurrent", net, (noise(1, 5, 8),), says, ("export",), ("decompose",))


TRAPS = {
    "PReLU over rank 2": Trap(
        "prelu", lambda: Net(lambda m, x: m(x), prelu(8)), (noise(2, 8),), "rank 3 or rank 5"
    ),
    "PReLU over rank 3": Trap(
        "prelu", lambda: Net(lambda m, x: m(x), prelu(3)), (noise(1, 3, 4),), "rank 3 or rank 5"
    ),
    "PReLU over rank 5": Trap(
        "prelu", lambda: Net(lambda m, x: m(x), prelu(3)), (noise(1, 3, 2, 2, 2),), "rank 3 or rank 5"
    ),
    "LSTM exported": recurrent(nn.LSTM),
    "GRU exported": recurrent(nn.GRU),
    "RNN exported": recurrent(nn.RNN),
    "GRU exported and saved": Trap(
        "debug-map",
        lambda: Net(lambda m, x: m(x)[0], nn.GRU(8, 4)),
        (noise(5, 1, 8),),
        "Multi-block case",
        ("export",),
    ),
    "two directions": Trap(
        "recurrent",
        lambda: Net(lambda m, x: m(x), nn.LSTM(8, 4, 2, bidirectional=True)),
        (noise(5, 1, 8),),
        "Unsupported fx node lstm",
        ("export",),
        ("decompose",),
    ),
    "a cell, traced": Trap(
        "missing-ops",
        lambda: Net(lambda m, x: m(x), nn.LSTMCell(8, 4)),
        (noise(2, 8),),
        "unsafe_chunk",
        ("trace",),
    ),
    "a cell, exported": Trap(
        "decompose",
        lambda: Net(lambda m, x: m(x), nn.LSTMCell(8, 4)),
        (noise(2, 8),),
        "lstm_cell",
        ("export",),
    ),
    "hardshrink": Trap(
        "where-scalar",
        lambda: Net(functional.hardshrink),
        (ramp(),),
        "must have the same data type",
        ("export",),
    ),
    "logsigmoid": Trap(
        "missing-ops", lambda: Net(functional.logsigmoid), (ramp(),), "log_sigmoid", ("trace",)
    ),
    "logaddexp": Trap(
        "missing-ops", lambda: Net(lambda x: torch.logaddexp(x, 2 * x)), (ramp(),), "logaddexp", ("trace",)
    ),
    "celu": Trap(
        "missing-ops", lambda: Net(lambda x: functional.celu(x, 0.7)), (ramp(),), "celu", ("trace",)
    ),
    "new_ones and bitwise_or": Trap(
        "mask-ops",
        lambda: Net(
            lambda x: torch.where(x.new_ones(2, 16, dtype=torch.bool) | (x > 0), x * x.new_ones(16), -x)
        ),
        (ramp(),),
        "new_ones",
        ("trace",),
    ),
    "a causal mask of -inf": Trap(
        "triangles",
        lambda: Net(lambda x: torch.softmax(x + torch.triu(torch.full((8, 8), -torch.inf), 1), -1)),
        (noise(8, 8),),
        ways=("export",),
    ),
    "tril of what is computed": Trap(
        "triangles",
        lambda: Net(lambda x: torch.tril(x + 1, -1)),
        (torch.full((4, 4), torch.inf),),
        ways=("trace",),
    ),
    "RMSNorm of zeros": Trap(
        "rms-norm",
        lambda: Net(lambda m, x: m(x), nn.RMSNorm(8, eps=1e-5)),
        (torch.stack([torch.zeros(8), noise(8)]),),
        ways=("trace",),
    ),
    "RMSNorm of small values": Trap(
        "rms-norm",
        lambda: Net(lambda m, x: m(x), nn.RMSNorm(8, eps=1e-5)),
        (noise(2, 8) * 1e-3,),
        ways=("trace",),
    ),
    "RMSNorm without eps": Trap(
        "rms-norm", lambda: Net(lambda m, x: m(x), nn.RMSNorm(8)), (noise(2, 8),), "expected [4]", ("export",)
    ),
    "a mask by 0 times finfo.min": Trap(
        "mask-range",
        lambda: Net(lambda x, mask: torch.softmax(x + (1 - mask) * LEAST, -1)),
        (noise(2, 8), torch.tensor([[1.0, 1, 1, 0, 0, 0, 0, 0], [1] * 8])),
    ),
    "a row of finfo.min alone": Trap(
        "mask-range",
        lambda: Net(lambda x, mask: torch.softmax(torch.zeros_like(x).masked_fill(mask < 0.5, LEAST), -1)),
        (noise(2, 8), kept()),
    ),
    "log_softmax": Trap("log-softmax", lambda: Net(lambda x: functional.log_softmax(x, 1)), (ramp(),)),
    "logcumsumexp": Trap("log-cumsum-exp", lambda: Net(lambda x: torch.logcumsumexp(x, 1)), (ramp(),)),
    "RMSNorm by hand of large values": Trap(
        "squares",
        lambda: Net(lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)),
        (noise(2, 8) * 1e4,),
    ),
    "length one of small values": Trap(
        "squares", lambda: Net(lambda x: x / torch.sqrt((x * x).sum(1, keepdim=True))), (noise(2, 8) * 1e-4,)
    ),
    "a distance": Trap(
        "squares", lambda: Net(lambda x: torch.sqrt((x * x).sum(-1) + 1e-12)), (noise(2, 8) * 400,)
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trap", "way"),
    [pytest.param(trap, way, id=f"{name}-{way}") for name, trap in TRAPS.items() for way in trap.ways],
)
def test_mended_it_computes_what_torch_does_and_without_it_fails(trap: Trap, way: str) -> None:
    net = trap.net()
    want = expected(net, trap.examples)

    def outcome(precision: str, skip: tuple[str, ...] = ()) -> tuple[float, set[str]]:
        raw = program(net, trap.examples, way)
        made, repairs, _ = converted(raw, trap.examples, precision=precision, skip=skip)
        got = executed(made, trap.examples, "float32" if precision == "float32" else "typed")
        return snr_db(want, got), {repair.name for repair in repairs}

    exact, applied = outcome("float32")
    assert trap.rule in applied
    assert exact >= 90
    typed, _ = outcome("float16")
    assert typed >= trap.typed_db
    if trap.without:
        with pytest.raises(Exception, match=_literal(trap.without)):
            outcome("float16", (trap.rule, *trap.skip))
    else:
        wrong, applied = outcome("float16", (trap.rule, *trap.skip))
        assert trap.rule not in applied
        assert wrong < 20


def _literal(text: str) -> str:
    import re

    return re.escape(text)


# MIL's ops of these are rounded once here; the Neural Engine takes them apart in 16 bits, as `naive` does.
CLIFFS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "softplus": (functional.softplus, lambda x: torch.log(1 + torch.exp(x))),
    "mish": (functional.mish, lambda x: x * torch.tanh(torch.log(1 + torch.exp(x)))),
    "softplus of beta": (
        lambda x: functional.softplus(x, 2.0),
        lambda x: torch.log(1 + torch.exp(2 * x)) / 2,
    ),
    "logsumexp": (
        lambda x: torch.logsumexp(x, 1, keepdim=True),
        lambda x: torch.log(torch.exp(x).sum(1, keepdim=True)),
    ),
    "logsumexp without its axis": (lambda x: torch.logsumexp(x, 1), lambda x: torch.log(torch.exp(x).sum(1))),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CLIFFS)
@pytest.mark.parametrize("way", BOTH)
def test_what_the_neural_engine_takes_apart_holds_when_it_is_taken_apart(name: str, way: str) -> None:
    function, naive = CLIFFS[name]
    rule = "log-sum-exp" if "sum" in name else "softplus"
    examples = (torch.linspace(-20, 12, 128).reshape(1, 4, 4, 8),)
    net = Net(function)
    want = expected(net, examples)
    for precision, least in (("float32", 90.0), ("float16", 50.0)):
        made, repairs, _ = converted(program(net, examples, way), examples, precision=precision)
        kinds = {op.op_type for op in made._mil_program.functions["main"].operations}
        assert rule in {repair.name for repair in repairs}
        assert not kinds & {"softplus", "softplus_parametric", "reduce_log_sum_exp"}
        got = executed(made, examples, "float32" if precision == "float32" else "typed")
        assert snr_db(want, got) >= least
    if name == "mish":
        return  # tanh of infinity is 1: what falls to 0 is the Neural Engine's logarithm
    made, _, _ = converted(program(Net(naive), examples, way), examples)
    assert not all(np.isfinite(part).all() for part in executed(made, examples, "typed"))


def test_logsumexp_of_minus_infinity_alone_is_minus_infinity() -> None:
    examples = (torch.tensor([[-torch.inf, -torch.inf], [0.0, -torch.inf]]),)
    net = Net(lambda x: torch.logsumexp(x, 1))
    made, _, _ = converted(program(net, examples, "trace"), examples)
    assert executed(made, examples, "typed")[0].tolist() == [-np.inf, 0.0]


@pytest.mark.parametrize(
    "net",
    [
        pytest.param(lambda x: torch.softmax(x * -1e5, -1), id="a temperature"),
        pytest.param(lambda x: torch.log_softmax(x.masked_fill(x < 0, LEAST), -1), id="its logarithm"),
        pytest.param(lambda x: x.masked_fill(x < 0, LEAST), id="an output"),
        pytest.param(lambda x: torch.relu(x.masked_fill(x < 0, LEAST)), id="another op"),
        pytest.param(lambda x: torch.softmax(x.masked_fill(x < 0, LEAST) * 1e-4, -1), id="made small again"),
    ],
)
def test_a_large_constant_that_is_no_mask_stays(net: Callable[[Any], Any]) -> None:
    examples = (noise(2, 8),)
    _, repairs, _ = converted(program(Net(net), examples, "trace"), examples)
    assert "mask-range" not in {repair.name for repair in repairs}


def test_every_rule_has_a_trap() -> None:
    tested = {trap.rule for trap in TRAPS.values()} | {"softplus", "log-sum-exp"}
    elsewhere = {"dialect", "replay", "training-mode", "wide-integers"}  # test_programs
    assert {rule.name for rule in RULES} == tested | elsewhere
