"""Small nets that part from their source on purpose: by what fp16 cannot hold, or by a damaged file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coremlops.model import ModelAsset

_SPEC = Path("Data", "com.apple.CoreML", "model.mlmodel")


class Overflow(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """softmax as it is first written down: exp of 12 is past 65504."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(8, 6)

    def forward(self, x: Any) -> Any:
        e = torch.exp(self.head(x) * 0.1 + 12)
        return e / e.sum(1, keepdim=True)


class Softplus(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """log(1 + exp(x)) has its cliff at 11.09 in fp16."""

    def forward(self, x: Any) -> Any:
        return torch.log(1 + torch.exp(x * 4 + 8)) * 0.5


class Underflow(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """The logarithm of a product of small probabilities."""

    def forward(self, x: Any) -> Any:
        p = torch.sigmoid(x - 10)
        return torch.log(p * p)


class Variance(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """E[x^2] - E[x]^2 of values around 40, whose variance is 1."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Identity()

    def forward(self, x: Any) -> Any:
        x = self.inner(x + 40)
        variance = (x * x).mean(1, keepdim=True) - x.mean(1, keepdim=True) ** 2
        return variance * 3


class Epsilon(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """A norm whose epsilon of 1e-12 is no number of fp16, of values that are small."""

    def forward(self, x: Any) -> Any:
        x = x * 1e-4
        return x * torch.rsqrt((x * x).mean(1, keepdim=True) + 1e-12)


class Picture(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """Convolutions, a resize and a linear layer: what is damaged afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.second = torch.nn.Conv2d(8, 8, 3, padding=1)
        self.head = torch.nn.Linear(8 * 64, 8)

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.first(x))
        x = torch.nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        x = torch.relu(self.second(x))
        x = torch.nn.functional.avg_pool2d(x, 2)
        return self.head(x.flatten(1))


class Folded(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """Convolutions whose batch norms the converter folds into them, and a residual."""

    def __init__(self) -> None:
        super().__init__()

        def block() -> Any:
            layers = [torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU6()]
            layers[1].running_mean.uniform_(-0.3, 0.3)
            layers[1].running_var.uniform_(0.5, 2)
            return torch.nn.Sequential(*layers)

        self.stem = torch.nn.Conv2d(3, 8, 3)
        self.blocks = torch.nn.ModuleList(block() for _ in range(4))

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return x.mean((2, 3))


class Attention(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """A product of square matrices: a transposed one has the same shape."""

    def forward(self, x: Any) -> Any:
        return torch.matmul(x, torch.tanh(x)) * 0.3


class Deep(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """Many harmless layers, whose roundings add up."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(16, 16) for _ in range(24))

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = x + torch.tanh(layer(x))
        return x


class LogSoftmax(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """coremltools makes it of a softmax, which sinks to 0, and a logarithm."""

    def forward(self, x: Any) -> Any:
        return torch.log_softmax(x * 8, 1)


class Residual(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """Activations that grow past 65504, and a norm that brings them back."""

    def forward(self, x: Any) -> Any:
        x = x * 3e4
        return torch.nn.functional.layer_norm(x + x * 2, (16,))


class Masked(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """A mask as attention has it, of a number that fp16 has not; rows may be masked as a whole."""

    least = -1e9

    def forward(self, x: Any) -> Any:
        hidden = (x < 0).to(torch.float32)
        return torch.softmax(x @ x.transpose(1, 2) * 0.1 + hidden * self.least, -1) @ x


class Filled(Masked):
    """The same with masked_fill."""

    def forward(self, x: Any) -> Any:
        scores = (x @ x.transpose(1, 2)).masked_fill(x < 0, torch.finfo(torch.float32).min)
        return torch.softmax(scores, -1) @ x


class MaskedByMin(Masked):
    """The same with torch.finfo.min."""

    least = torch.finfo(torch.float32).min


class Normed(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """A layer norm with the epsilon of many transformers."""

    def forward(self, x: Any) -> Any:
        return torch.nn.functional.layer_norm(x * 1e-4, (16,), eps=1e-12)


EXAMPLES: dict[type[Any], tuple[int, ...]] = {
    Overflow: (1, 8),
    Softplus: (1, 16),
    Underflow: (1, 16),
    Variance: (1, 64),
    Epsilon: (1, 16),
    Picture: (1, 3, 8, 8),
    Folded: (1, 3, 10, 10),
    Attention: (1, 6, 6),
    Deep: (1, 16),
    LogSoftmax: (1, 16),
    Residual: (1, 16),
    Masked: (1, 6, 6),
    Filled: (1, 6, 6),
    MaskedByMin: (1, 6, 6),
    Normed: (1, 16),
}


def saved(kind: type[Any], folder: Path, *, script: bool = False) -> Path:
    """The net as a source on disk."""
    torch.manual_seed(0)
    module, example = kind().eval(), torch.randn(EXAMPLES[kind])
    folder.mkdir(parents=True, exist_ok=True)
    if script:
        path = folder / f"{kind.__name__}.pt"
        torch.jit.trace(module, example).save(str(path))
        return path
    path = folder / f"{kind.__name__}.pt2"
    torch.export.save(torch.export.export(module, (example,)), path)
    return path


def converted(source: Path, kind: type[Any], *, palettize: dict[str, int] | None = None) -> Path:
    """The source as coremltools converts it. `palettize`: bits by the beginning of a weight's name."""
    return convert_to(source, source.with_suffix(".mlpackage"), kind, palettize=palettize)


def convert_to(
    source: Path,
    out: Path,
    kind: type[Any] | None = None,
    *,
    palettize: dict[str, int] | None = None,
    keep: tuple[str, ...] = (),
) -> Path:
    """The same with some ops kept in float32, by coremltools' own selector."""
    converting(source, kind, palettize=palettize, keep=keep).save(str(out))
    return out


def converting(
    source: Path,
    kind: type[Any] | None = None,
    *,
    palettize: dict[str, int] | None = None,
    keep: tuple[str, ...] = (),
) -> Any:
    """The `coremltools.models.MLModel`, not saved."""
    import coremltools as ct

    precision = ct.transform.FP16ComputePrecision(op_selector=lambda op: op.name not in keep)
    options: dict[str, Any] = {
        "convert_to": "mlprogram",
        "minimum_deployment_target": ct.target.iOS17,
        "compute_precision": precision,
        "skip_model_load": True,
    }
    if source.suffix == ".pt":
        assert kind is not None
        raw = torch.jit.load(str(source))
        options["inputs"] = [ct.TensorType("x", EXAMPLES[kind])]
    else:
        raw = torch.export.load(source).run_decompositions({})
    model = ct.convert(raw, **options)
    if palettize:
        import coremltools.optimize.coreml as cto

        made = {
            name: cto.OpPalettizerConfig(mode="kmeans", nbits=bits, weight_threshold=1)
            for name, bits in palettize.items()
        }
        model = cto.palettize_weights(model, cto.OptimizationConfig(op_name_configs=made))
    return model


def edited(package: Path, edit: Callable[[Any], None]) -> Path:
    """A copy of a package whose program was changed: `edit` takes the protobuf of its operations."""
    out = package.with_name(f"edited-{package.name}")
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(package, out)
    spec = ModelAsset.open(package).spec
    function = spec.mlProgram.functions["main"]
    edit(function.block_specializations[function.opset].operations)
    (out / _SPEC).write_bytes(spec.SerializeToString(deterministic=True))
    return out


def set_bool(operations: Any, kind: str, name: str, value: bool) -> None:
    """Set a mode of the first op of a kind."""
    operation = next(item for item in operations if item.type == kind)
    wanted = operation.inputs[name].arguments[0].name
    constant = next(item for item in operations if any(out.name == wanted for out in item.outputs))
    held = constant.attributes["val"].immediateValue.tensor.bools.values
    assert held[0] is not value
    held[0] = value


def change_weight(package: Path, kind: str, change: Callable[[np.ndarray[Any, Any]], None]) -> Path:
    """A copy of a package, the fp16 weight of whose first op of a kind was changed in weight.bin."""
    import struct

    operations: list[Any] = []
    out = edited(package, operations.extend)
    operation = next(item for item in operations if item.type == kind)
    wanted = operation.inputs["weight"].arguments[0].name
    constant = next(item for item in operations if any(item_.name == wanted for item_ in item.outputs))
    offset = constant.attributes["val"].blobFileValue.offset
    file = out / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    data = bytearray(file.read_bytes())
    _, _, size, start, _ = struct.unpack_from("<IIQQQ", data, offset)
    change(np.frombuffer(data, "<f2", size // 2, start))
    file.write_bytes(data)
    return out
