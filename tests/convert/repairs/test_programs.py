"""Rules on whole programs: what is mended, what is refused, and that nothing outlives a conversion."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import nn

from coremlops.convert.repairs import chosen, mending
from coremlops.errors import ConversionError, UsageError
from tests.convert.repairs.nets import Strided, Wide
from tests.convert.repairs.proof import Net, converted, executed, expected, program, snr_db


class Normed(nn.Module):  # type: ignore[misc, unused-ignore]
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)
        self.norm.running_var.data.uniform_(0.5, 2)

    def forward(self, x: Any) -> Any:
        return self.drop(torch.relu(self.norm(self.conv(x))))


PICTURE = (torch.randn(1, 3, 8, 8),)
SOUND = (torch.randn(1, 16), torch.randn(2, 1, 5))


def saved(exported: Any) -> Any:
    file = io.BytesIO()
    torch.export.save(exported, file)
    return torch.export.load(io.BytesIO(file.getvalue()))


@pytest.mark.parametrize(
    ("decomposed", "says"), [(False, "TRAINING"), (True, "bind value at index 1")], ids=["raw", "decomposed"]
)
def test_an_exported_program_converts_however_it_was_saved(decomposed: bool, says: str) -> None:
    net = Normed()
    exported = program(net, PICTURE, "export")
    raw = saved(exported.run_decompositions({}) if decomposed else exported)
    made, repairs, _ = converted(raw, PICTURE, precision="float32")
    assert "dialect" in {repair.name for repair in repairs}
    assert snr_db(expected(net, PICTURE), executed(made, PICTURE, "float32")) >= 90
    with pytest.raises(Exception, match=says):
        converted(raw, PICTURE, skip=("dialect",))


def test_torchscript_with_strides_in_attributes_and_branches_is_traced_anew() -> None:
    net = Strided()
    raw = program(net, SOUND, "script")
    made, repairs, origins = converted(raw, SOUND, precision="float32")
    (replay,) = (repair for repair in repairs if repair.name == "replay")
    assert any("nets.py" in place for place in replay.where)
    assert snr_db(expected(net, SOUND), executed(made, SOUND, "float32")) >= 90
    made, _, _ = converted(raw, SOUND)
    assert snr_db(expected(net, SOUND), executed(made, SOUND, "typed")) >= 50
    files = {place.source.partition(":")[0] for place in origins.values()}
    assert "tests/convert/repairs/nets.py" in files
    assert "cell" in {place.module for place in origins.values()}
    with pytest.raises(Exception, match="strides"):
        converted(raw, SOUND, skip=("replay",))


def test_what_a_replayed_program_raises_says_where() -> None:
    raw = program(Strided(), SOUND, "script")
    with pytest.raises(ConversionError, match=r"nets.py:\d+: the program raises '2 axes expected, got 3'"):
        converted(raw, (torch.randn(1, 1, 16), SOUND[1]))


def test_what_fails_while_it_is_replayed_says_where() -> None:
    raw = program(Strided(), SOUND, "script")
    with pytest.raises(ConversionError, match=r"nets.py:\d+: aten::conv1d fails"):
        converted(raw, (torch.randn(1, 2), SOUND[1]))


@pytest.mark.parametrize("way", ["trace", "export"])
def test_a_program_in_training_mode_is_refused_with_its_place(way: str) -> None:
    net = Normed().train()
    make = torch.export.export if way == "export" else torch.jit.trace
    raw = make(net, PICTURE, **({} if way == "export" else {"check_trace": False}))
    with pytest.raises(
        ConversionError, match=r"test_programs.py:\d+, module (norm|drop): .* in training mode"
    ):
        converted(raw, PICTURE)
    _, repairs, _ = converted(program(net.eval(), PICTURE, way), PICTURE)
    assert "training-mode" not in {repair.name for repair in repairs}


@pytest.mark.parametrize("way", ["trace", "export"])
def test_an_integer_of_more_than_32_bits_is_refused_with_its_place(way: str) -> None:
    examples = (torch.tensor([1, 2, 3]),)
    raw = program(Wide(), examples, way)
    with pytest.raises(ConversionError, match=r"nets.py:\d+.*add with 1099511627776"):
        converted(raw, examples)
    made, _, _ = converted(raw, examples, skip=("wide-integers",))
    assert executed(made, examples, "typed")[0].tolist() != [2**40 + 1, 2**40 + 2, 2**40 + 3]


def test_a_constant_of_more_than_32_bits_is_refused_by_its_name() -> None:
    class Hash(nn.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("factor", torch.tensor([2654435761]))

        def forward(self, x: Any) -> Any:
            return x * self.factor

    examples = (torch.tensor([1, 2, 3]),)
    with pytest.raises(ConversionError, match="module factor: constant with 2654435761"):
        converted(program(Hash(), examples, "export"), examples)


@pytest.mark.parametrize("way", ["trace", "export"])
def test_to_the_end_is_no_wide_integer(way: str) -> None:
    examples = (torch.randn(2, 6),)
    raw = program(Net(lambda x: x[:, 2 : 2**62]), examples, way)
    made, _, _ = converted(raw, examples, precision="float32")
    assert snr_db([examples[0][:, 2:].numpy()], executed(made, examples, "float32")) >= 90


def test_nothing_outlives_a_conversion() -> None:
    from coremltools.converters.mil.frontend.torch import ops
    from coremltools.converters.mil.frontend.torch.internal_graph import InternalTorchIRNode
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY

    def known() -> tuple[Any, ...]:
        return (
            dict(_TORCH_OPS_REGISTRY.name_to_func_mapping),
            dict(PASS_REGISTRY.passes),
            ops.convert_single_node,
            InternalTorchIRNode.__dict__["from_exir_node"],
            InternalTorchIRNode.__dict__["from_torchscript_node"],
        )

    before = known()
    converted(program(Net(nn.functional.softplus), (torch.ones(2),), "export"), (torch.ones(2),))
    assert known() == before
    with pytest.raises(RuntimeError), mending(None):
        raise RuntimeError
    assert known() == before


def test_rules_are_switched_off_by_name() -> None:
    assert "squares" not in {rule.name for rule in chosen(["squares"])}
    assert not any(rule.float16 for rule in chosen(float16=False))
    with pytest.raises(UsageError) as caught:
        chosen(["sqares"])
    assert caught.value.hint == "did you mean squares?"
