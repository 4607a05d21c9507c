"""What a Core ML model is held against: any model that answers, arrays by name in and out.

    >>> reference = open_reference("net.py:make", weights=Path("best.pt"))  # doctest: +SKIP
    >>> reference({"x": batch})["output_0"]  # doctest: +SKIP

A kind of source is a subclass here; `open_reference` finds it by what the name looks like.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coremlops.digest import members_digest, sha256_bytes, sha256_file
from coremlops.errors import CoremlopsError, InputError, MissingExtraError, UsageError
from coremlops.source.card import Card
from coremlops.source.place import KINDS, open_source
from coremlops.source.program import Program, last_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

CORE_ML = (".mlpackage", ".mlmodel")
# Suffix -> the library that wrote it; JSON is XGBoost's or CatBoost's.
TABLES = {".json": "xgboost", ".ubj": "xgboost", ".txt": "lightgbm", ".cbm": "catboost", ".skops": "sklearn"}
# `package.module:function`, `file.py:function`; a drive or a web address has no identifier behind its colon.
FUNCTION = re.compile(r"(?:[A-Za-z_][\w.]*|[^:]+\.py):[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input. A `shape` of None is not known, an axis of None is flexible; `dtype` in NumPy's words."""

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str = "float32"


@dataclass(frozen=True)
class Reference:
    """A model that answers. `kind`: "torch.export", "TorchScript", "torch.nn.Module", "onnx", "coreml".

    `raw` is what a converter takes. `card`: the `model.json` beside it, which says how a picture becomes its
    tensor. `examples`: inputs that came with it, in order. `notes`: what who reads its answers must know.
    """

    kind: str
    name: str
    digest: str
    inputs: tuple[Tensor, ...]
    raw: Any = field(repr=False)
    card: Card | None = None
    examples: tuple[Any, ...] | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Outputs in the source's order; those of PyTorch, which have no names, are `output_0`, `output_1`.

        Raises InputError for inputs that it does not take.
        """
        raise NotImplementedError

    def layers(self, inputs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Values inside by their names, in order; empty where it cannot be looked inside."""
        return {}

    def beneath(self, inputs: Mapping[str, Any]) -> tuple[Reference, Mapping[str, Any]]:
        """The model itself and what it is asked, where this one only prepares for another."""
        return self, inputs

    def ordered(self, inputs: Mapping[str, Any]) -> list[Any]:
        """The values in the order of `self.inputs`. Raises InputError for missing or unknown names."""
        names = [item.name for item in self.inputs]
        if set(inputs) != set(names):
            raise InputError(
                f"{self.name}: inputs {', '.join(names)} expected, got {', '.join(inputs) or 'none'}"
            )
        return [inputs[name] for name in names]


@dataclass(frozen=True)
class TorchReference(Reference):
    """A PyTorch program on the CPU; `raw` is an ExportedProgram, a ScriptModule or a Module."""

    call: Any = field(default=None, repr=False)

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        import numpy as np
        import torch
        from torch.utils import _pytree

        values = [torch.from_numpy(np.array(value)) for value in self.ordered(inputs)]
        args, named = values, {}
        if self.kind == "torch.export":
            args, named = _pytree.tree_unflatten(values, self.raw.call_spec.in_spec)
        with torch.no_grad():
            try:
                result = self.call(*args, **named)
            except Exception as error:  # torch raises anything from RuntimeError to AssertionError
                shapes = ", ".join(str(list(value.shape)) for value in values)
                raise InputError(f"{self.name} does not take {shapes}: {last_line(error)}") from error
        if isinstance(result, Mapping):
            given = {str(key): value for key, value in result.items()}
        else:
            given = {f"output_{i}": value for i, value in enumerate(_pytree.tree_leaves(result))}
        found = {name: value for name, value in given.items() if isinstance(value, torch.Tensor)}
        if not found:
            raise InputError(f"{self.name}: tensors expected, got {type(result).__name__}")
        # Copies: an output may be a buffer itself, which the next question changes.
        return {name: _array(value).copy() for name, value in found.items()}

    def layers(self, inputs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        if self.kind != "torch.export" or len(self.inputs) != 1:
            return {}
        found: dict[str, NDArray[Any]] = Program(self.raw, self.call).layers()(self.ordered(inputs)[0])
        return found


@contextlib.contextmanager
def kept(reference: Reference) -> Iterator[dict[str, Any]]:
    """The buffers of a PyTorch source by name, none for others; after the block all are as before."""
    net: Any = getattr(reference, "call", None) if reference.kind == "torch.export" else reference.raw
    buffers = dict(net.named_buffers()) if hasattr(net, "named_buffers") else {}
    before = {name: value.clone() for name, value in buffers.items()}
    try:
        yield buffers
    finally:
        for name, value in before.items():
            buffers[name].detach().copy_(value)


@dataclass(frozen=True)
class OnnxReference(Reference):
    """An ONNX file in ONNX Runtime on the CPU; `raw` is its path, `session` runs it."""

    session: Any = field(default=None, repr=False)

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        import numpy as np

        values = dict(zip((item.name for item in self.inputs), self.ordered(inputs), strict=True))
        try:
            results = self.session.run(None, {name: np.asarray(value) for name, value in values.items()})
        except Exception as error:  # ONNX Runtime has no error class of its own
            raise InputError(f"{self.name} does not take them: {last_line(error)}") from error
        return dict(zip((item.name for item in self.session.get_outputs()), results, strict=True))


@dataclass(frozen=True)
class CoreMLReference(Reference):
    """A Core ML model in our runtime, nothing rounded; `raw` is the `coremlops.Model`.

    It takes and gives what `Model.predict` does: pictures and dictionaries too.
    """

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.raw.predict(dict(inputs))
        return found

    def layers(self, inputs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        names = self.raw.inner_names
        found = self.raw.predict(dict(inputs), intermediates=names)
        return {name: found[name] for name in names if name in found}


def open_reference(text: str | Path, *, weights: Path | None = None) -> Reference:
    """Open what `text` names: `model.pt2`, a TorchScript `model.pt`, the folder of one, `.onnx`,
    `.mlpackage`, `.mlmodel`, a model of a table's rows (XGBoost's `.json` and `.ubj`, LightGBM's `.txt`,
    CatBoost's `.cbm` and `.json`, scikit-learn's `.skops`), or `module:factory`, a function of the user that
    gives (torch.nn.Module, example inputs) or a fitted estimator of scikit-learn.

    `weights`: for a factory, a state_dict that `torch.save` wrote, read as plain tensors, or `.safetensors`.
    Raises UsageError and InputError for a name that leads to no model, and MissingExtraError.
    """
    if isinstance(text, str) and FUNCTION.fullmatch(text) and not Path(text).exists():
        return _factory(text, weights)
    if weights is not None:
        raise UsageError("weights belong to a source module:factory; a file has its own")
    path = Path(text)
    if path.suffix == ".onnx":
        return _onnx(path)
    if path.suffix in CORE_ML:
        return _core_ml(path)
    if path.suffix in TABLES:
        return _table(path)
    return _torch_file(path)


def _table(path: Path) -> Reference:
    """Trees of a library, whose files of JSON differ in their first key."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    kind = TABLES[path.suffix]
    if path.suffix == ".json":
        with path.open("rb") as file:
            kind = "xgboost" if b'"learner"' in file.read(4096) else "catboost"
    opened: Reference = getattr(importlib.import_module(f"coremlops.source.{kind}"), f"open_{kind}")(path)
    return opened


def _torch_file(path: Path) -> Reference:
    source = open_source(path)
    program = source.load()
    kind, card = source.kind, source.card
    inputs = _exported_inputs(program.raw, path) if kind == "torch.export" else _scripted_inputs(program.raw)
    if card is not None and len(inputs) == 1 and inputs[0].shape is None:
        image = card.input
        inputs = (Tensor(inputs[0].name, (1, image.channels, image.height, image.width)),)
    name = f"{kind}, {source.path.name}"
    return TorchReference(kind, name, source.digest, inputs, program.raw, card, call=program.call)


def _exported_inputs(exported: Any, path: Path) -> tuple[Tensor, ...]:
    import torch

    values = {node.name: node.meta.get("val") for node in exported.graph.nodes if node.op == "placeholder"}
    found = []
    for name in exported.graph_signature.user_inputs:
        value = values.get(name)
        if not isinstance(value, torch.Tensor):
            raise InputError(
                f"{path}: tensors as inputs expected, got {name!r}, {type(value).__name__}",
                hint="bind it: export a module whose forward takes tensors alone",
            )
        shape = tuple(size if isinstance(size, int) else None for size in value.shape)
        found.append(Tensor(name, shape, _dtype(value)))
    return tuple(found)


def _scripted_inputs(scripted: Any) -> tuple[Tensor, ...]:
    return tuple(Tensor(item.name, None) for item in scripted.forward.schema.arguments[1:])


def user_object(text: str) -> Any:
    """What `module:name` or `folder/file.py:name` names. A module is found as `python -m` would find it: the
    working folder first; beside a file its own folder comes first.

    It is the user's own code. Raises UsageError.
    """
    home, _, name = text.rpartition(":")
    file = Path(home) if home.endswith(".py") else None
    folder = str(Path.cwd() if file is None else file.resolve().parent)
    if folder not in sys.path and (file is not None or "" not in sys.path):
        sys.path.insert(0, folder)
    try:
        return getattr(importlib.import_module(home) if file is None else _user_file(file), name)
    except (ImportError, AttributeError, OSError) as error:
        raise UsageError(
            f"{text}: {error}", hint="expected module:name, as Python would import it, or file.py:name"
        ) from error
    except Exception as error:  # the user's own, while it is imported
        raise UsageError(f"{text}: {raised(error)}") from error


def _user_file(path: Path) -> Any:
    """The module that a file holds, imported once. One of its name that is another file's is let be."""
    path = path.resolve()
    known = sys.modules.get(path.stem)
    name = path.stem if known is None or getattr(known, "__file__", None) == str(path) else str(path)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:  # never: the suffix is .py
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def called(function: Any, text: str) -> Any:
    """What the user's function, which `text` names, gives without arguments. Raises UsageError."""
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise UsageError(f"{text}: {error}", hint="expected a function without arguments") from error
    except ValueError:  # a built-in function does not say
        pass
    try:
        return function()
    except CoremlopsError:
        raise
    except Exception as error:
        raise UsageError(f"{text}: {raised(error)}") from error


def raised(error: Exception) -> str:
    """What the user's code raised, and where: `raised KeyError: 'x' (net.py:4)`."""
    if isinstance(error, SyntaxError):
        place = (error.filename, error.lineno)
    else:
        frames = traceback.extract_tb(error.__traceback__)
        place = (frames[-1].filename, frames[-1].lineno) if frames else (None, None)
    where = f" ({Path(place[0]).name}:{place[1]})" if place[0] else ""
    return f"raised {type(error).__name__}: {last_line(error)}{where}"


def _factory(text: str, weights: Path | None) -> Reference:
    factory = user_object(text)
    try:
        import torch
    except ImportError:
        torch = None  # scikit-learn goes without
    if torch is not None:
        torch.manual_seed(0)  # an untrained net is the same net each time
    made = called(factory, text)
    if _is_estimator(made):
        return _estimator(made, text, weights)
    if torch is None:
        raise MissingExtraError("torch", "torch")
    if not isinstance(made, tuple) or len(made) != 2 or not isinstance(made[0], torch.nn.Module):
        raise UsageError(
            f"{text} gives {type(made).__name__}; expected (torch.nn.Module, example inputs), "
            "or a fitted estimator of scikit-learn"
        )
    module, given = made
    if isinstance(given, Mapping):
        names, examples = [str(name) for name in given], tuple(given.values())
    else:
        examples = given if isinstance(given, tuple) else (given,)
        names = list(inspect.signature(module.forward).parameters)[: len(examples)]
        if len(names) != len(examples):  # forward(*args)
            names = [f"x{i}" if i else "x" for i in range(len(examples))]
    if not examples or not all(isinstance(example, torch.Tensor) for example in examples):
        raise UsageError(f"{text}: the example inputs are no tensors")
    if weights is not None:
        _load_weights(module, weights)
    module.eval()
    if isinstance(given, Mapping):
        order = list(inspect.signature(module.forward).parameters)
        if not set(names) <= set(order):
            raise UsageError(f"{text}: forward takes {', '.join(order)}, the examples are {', '.join(names)}")
        examples = tuple(given[name] for name in sorted(names, key=order.index))
        names.sort(key=order.index)
    inputs = tuple(
        Tensor(name, tuple(example.shape), _dtype(example))
        for name, example in zip(names, examples, strict=True)
    )
    members = {key: sha256_bytes(_array(value).tobytes()) for key, value in module.state_dict().items()}
    digest = members_digest(members | {"module": sha256_bytes(repr(module).encode())})
    return TorchReference(
        "torch.nn.Module", text, digest, inputs, module, examples=examples, call=module.forward
    )


def _is_estimator(made: Any) -> bool:
    base = sys.modules.get("sklearn.base")  # whoever made one has imported it
    return base is not None and isinstance(made, base.BaseEstimator)


def _estimator(made: Any, text: str, weights: Path | None) -> Reference:
    if weights is not None:
        raise UsageError(f"{text} gives an estimator, which has its own weights; {weights} is for a net")
    opened: Reference = importlib.import_module("coremlops.source.sklearn").sklearn_reference(made, text)
    return opened


def _load_weights(module: Any, path: Path) -> None:
    import torch

    try:
        if path.suffix == ".safetensors":
            try:
                from safetensors.torch import load_file
            except ImportError:
                raise MissingExtraError("safetensors", "torch") from None
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
            state = state["state_dict"]
        module.load_state_dict(state)
    except MissingExtraError:
        raise
    except Exception as error:  # unreadable, a pickle of something else, or other names and shapes
        raise InputError(
            f"{path}: weights of this module expected: {last_line(error)}",
            hint="write them with torch.save(model.state_dict(), 'weights.pt')",
        ) from error


def _onnx(path: Path) -> Reference:
    import onnxruntime as ort

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has no error class of its own
        raise InputError(f"{path}: an ONNX model expected: {last_line(error)}") from error
    inputs = tuple(
        Tensor(
            item.name,
            tuple(size if isinstance(size, int) and size >= 0 else None for size in item.shape),
            _ONNX_DTYPES.get(item.type.removeprefix("tensor(").removesuffix(")"), item.type),
        )
        for item in session.get_inputs()
    )
    return OnnxReference("onnx", path.name, sha256_file(path), inputs, path, session=session)


_ONNX_DTYPES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bool": "bool",
    "string": "str",
} | {f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


def _core_ml(path: Path) -> Reference:
    from coremlops.runtime import load
    from coremlops.source.samples import preparation

    model = load(path, precision="float32")
    inputs: tuple[Any, ...] = tuple(
        item if item.type == "image" else Tensor(item.name, tuple(item.shape), item.dtype)
        for item in model.description.inputs
    )
    picture = preparation(model.description)
    card = Card(picture, ()) if picture is not None else None
    return CoreMLReference("coreml", path.name, model.digest, inputs, model, card)


def _dtype(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.")


def _array(value: Any) -> NDArray[Any]:
    """A torch tensor; bfloat16, which NumPy lacks, becomes float32."""
    import numpy as np
    import torch

    value = value.detach().cpu()
    return np.asarray((value.float() if value.dtype == torch.bfloat16 else value).contiguous().numpy())


__all__ = ["CORE_ML", "KINDS", "Reference", "Tensor", "kept", "open_reference", "user_object"]
