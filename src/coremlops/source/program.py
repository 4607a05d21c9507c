"""Trained programs as functions from a float32 image tensor to probabilities, on the CPU.

What is trusted. A `.pt2` and a TorchScript file are programs: whoever can write one can make it read files
or use the machine, and torch itself says never to load one from a stranger. What we add is that no *pickle*
in it is followed: a `.pt2` whose weights or constants are pickled or are custom objects, that carries
compiled code, or whose sample inputs need more than tensors, is refused before torch deserialises it, and a
bare pickle (`torch.save(model)`) is never opened at all. Source: torch/export/pt2_archive/_package.py, 2.13.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coremlops.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_RESAVE = "save it again with torch.export.save(torch.export.export(model.eval(), (example,)), 'model.pt2')"


_DECOMPOSED = re.compile(r"^batch_norm(?=_\d+$|$)")
_WEIGHTED = ("conv", "batch_norm", "linear", "addmm", "aten.mm")


@dataclass(frozen=True, slots=True)
class Program:
    """A loaded program. `raw` is what a converter takes: a `torch.export.ExportedProgram` or a
    `torch.jit.ScriptModule`; `call` maps one tensor to the outputs."""

    raw: Any
    call: Any

    @property
    def can_look_inside(self) -> bool:
        """Whether `layers` knows the nodes' names: of exported programs, not of TorchScript."""
        return hasattr(self.raw, "run_decompositions")

    def layers(self) -> Callable[[NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
        """A function from a tensor to what each layer with weights gives, by the name of its node, in order.

        Names are those that `run_decompositions({})` would give, which coremltools' operations carry on; it
        takes seconds and changes one of these names, so it is not run.
        """
        import numpy as np
        import torch

        graph = self.call

        class Keeper(torch.fx.Interpreter):  # type: ignore[misc, unused-ignore]
            def __init__(self) -> None:
                super().__init__(graph)
                self.seen: dict[str, NDArray[np.float32]] = {}

            def run_node(self, node: Any) -> Any:
                result = super().run_node(node)
                # A batch norm gives (values, mean, deviation).
                value = result[0] if isinstance(result, tuple | list) and result else result
                if (
                    node.op == "call_function"
                    and isinstance(value, torch.Tensor)
                    and any(word in str(node.target) for word in _WEIGHTED)
                ):
                    name = _DECOMPOSED.sub("_native_batch_norm_legit_no_training", node.name)
                    self.seen[name] = np.asarray(value.detach().to(torch.float32).numpy())
                return result

        def run(batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
            keeper = Keeper()
            with torch.no_grad():
                keeper.run(torch.from_numpy(np.ascontiguousarray(batch)))
            return keeper.seen

        return run

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """batch: float32 [1, channels, height, width] -> float32 [1, labels]. Raises InputError."""
        import numpy as np
        import torch

        with torch.no_grad():
            try:
                result = self.call(torch.from_numpy(np.ascontiguousarray(batch)))
            except Exception as error:  # torch raises anything from RuntimeError to AssertionError
                raise InputError(
                    f"the source does not take a tensor {list(batch.shape)}: {last_line(error)}",
                    hint="width, height and color in model.json must be those that it was saved with",
                ) from error
        if isinstance(result, tuple | list) and len(result) == 1:
            result = result[0]
        if not isinstance(result, torch.Tensor):
            raise InputError(f"the source: one tensor expected, got {type(result).__name__}")
        return np.asarray(result.detach().to(torch.float32).numpy())


def load_program(path: Path) -> Program:
    """Load a `.pt2` or TorchScript file. Raises InputError, or MissingExtraError without torch."""
    try:
        import torch
    except ImportError:
        raise MissingExtraError("torch", "torch") from None
    if path.suffix == ".pt2":
        data = path.read_bytes()
        _refuse_pickles(data, path)
        try:
            exported = torch.export.load(io.BytesIO(data))
            return Program(exported, exported.module())
        except Exception as error:
            raise InputError(f"{path}: torch cannot load it: {last_line(error)}", hint=_RESAVE) from error
    try:
        scripted = torch.jit.load(str(path), map_location="cpu").eval()
    except Exception as error:
        raise InputError(
            f"{path}: TorchScript expected: {last_line(error)}",
            hint="a file of torch.save cannot be used; " + _RESAVE,
        ) from error
    return Program(scripted, scripted)


def _refuse_pickles(data: bytes, path: Path) -> None:
    """Look into the archive with torch's own reader, so that both see the same members."""
    import torch
    from torch.export.pt2_archive._package import PT2ArchiveReader

    def refuse(what: str) -> InputError:
        return InputError(f"{path}: plain tensors and a graph expected, got {what}", hint=_RESAVE)

    try:
        with PT2ArchiveReader(io.BytesIO(data)) as archive:
            names = archive.get_file_names()
            if "models/model.json" not in names:
                raise refuse("an archive without models/model.json")
            for name in names:
                if name.startswith("data/aotinductor/"):
                    raise refuse("compiled code")
                if name.startswith(("data/weights/", "data/constants/")):
                    if name.endswith("_config.json"):
                        payloads = json.loads(archive.read_bytes(name))["config"]
                        if any(item.get("use_pickle") is not False for item in payloads.values()):
                            raise refuse(f"a pickle ({name})")
                        if any(
                            not item["path_name"].startswith(("weight_", "tensor_"))
                            for item in payloads.values()
                        ):
                            raise refuse(f"custom objects ({name})")
                    elif name.endswith(".pt"):
                        raise refuse(f"a pickle ({name})")
                if name.startswith("data/sample_inputs/"):
                    sample = archive.read_bytes(name)
                    if sample:
                        torch.load(io.BytesIO(sample), weights_only=True)
    except InputError:
        raise
    except Exception as error:
        raise refuse(f"something else: {last_line(error)}") from error


def last_line(error: BaseException) -> str:
    """The last line of an error's text that says something, at most 300 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" \t^~-=*")]
    return (lines[-1] if lines else type(error).__name__)[:300]
