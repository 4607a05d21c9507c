"""A Core ML model that runs here."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from coremlops.errors import UnsupportedOpsError, UsageError
from coremlops.lower import Lowered, embed_weights
from coremlops.lower.context import PRECISIONS
from coremlops.model import ImageFeature, ModelAsset, ModelDescription
from coremlops.runtime import memory
from coremlops.runtime.cache import Cached
from coremlops.runtime.engines import ENGINES
from coremlops.runtime.inputs import check_names, prepare_picture, resolve_option
from coremlops.runtime.parts import (
    Part,
    PartOptions,
    TensorPart,
    default_function,
    describe_function,
    make_part,
)
from coremlops.runtime.state import State, new_state


class Model:
    """A loaded model; made by `load`. `predict` may be called from several threads at once.

    `description`: what it says about itself, a `ModelDescription`. `precision`, `function_name`: as it was
    loaded.
    """

    def __init__(self, asset: ModelAsset, function: str, part: Part, precision: str) -> None:
        self._asset = asset
        self._part = part
        self._digest = ""
        self.description: ModelDescription = describe_function(asset, function)
        self.precision = precision
        self.function_name = function

    def __repr__(self) -> str:
        return f"Model({str(self._asset.path)!r}, precision={self.precision!r})"

    @property
    def digest(self) -> str:
        """The model's digest, 64 hex digits; computed when it is first asked for."""
        self._digest = self._digest or self._asset.digest
        return self._digest

    def to_onnx(self) -> Any:
        """The `onnx.ModelProto` that runs, with its weights inside.

        Float tensors are float32; a picture goes in as pixels 0 to 255, [1, channels, height, width], and a
        classifier gives its probabilities. Raises UnsupportedOpsError for a model that is no single graph.
        """
        return embed_weights(self.lowered.model, self.lowered.weights)

    @property
    def lowered(self) -> Lowered:
        """The ONNX graph with its big constants beside it. Raises UnsupportedOpsError as `to_onnx` does."""
        from coremlops.runtime.pipeline import PipelinePart

        if not isinstance(self._part, TensorPart | PipelinePart):
            raise UnsupportedOpsError(
                f"{self._asset.path}: a {self._asset.kind} model is no single ONNX graph", (self._asset.kind,)
            )
        with memory.guarded(f"{self._asset.path}: lowering it"):
            found = self._part.lowered
        return found.whole if isinstance(found, Cached) else found

    @property
    def kind(self) -> str:
        """The format's word for what is in the file: `mlProgram`, `neuralNetwork`, `glmRegressor`, ..."""
        return self._asset.kind

    @property
    def cached(self) -> bool:
        """Whether the engine's own graph of the model was on disk already, so that loading was quick."""
        return isinstance(vars(self._part).get("lowered"), Cached)  # which others compute when asked

    @property
    def inner_names(self) -> tuple[str, ...]:
        """What `predict(intermediates=...)` can give, in the model's order; see there."""
        from coremlops.runtime.pipeline import PipelinePart

        return self._part.inner_names if isinstance(self._part, TensorPart | PipelinePart) else ()

    def make_state(self) -> State:
        """What the model keeps between predictions, as zeros: a mapping of names to arrays.

        `predict` updates the arrays in place; one mapping serves one prediction at a time. The dtype is the
        declared one, or that of the numeric mode where it forces one. Empty for a model without states.
        Raises ModelFormatError for states that are larger than memory's limit.
        """
        return new_state(self.description.states, self.precision)

    def predict(
        self,
        inputs: Mapping[str, Any],
        *,
        state: State | None = None,
        intermediates: Iterable[str] = (),
        image_option: str | None = None,
    ) -> dict[str, Any]:
        """Run the model once.

        `inputs`: by name; an image is a PIL image or a uint8 array [height, width, 3]; anything else an
        array of the declared shape. `image_option`: how pictures of any size are prepared: `centerCrop`,
        `scaleFit`, `scaleFill`, or `metadata` for what the model says (`image_option` in
        `com.coremlops.preparation`; `scaleFit` when it says nothing). None refuses a picture of another
        size, and takes pixels as stored (no EXIF). `state`: of a model that has one, made by `make_state`.
        `intermediates`: names of inner values that are wanted, too: tensors of a program outside of nested
        blocks, what a neural network's layers give, features between the members of a pipeline.

        Returns values by the names that the model declares: a classifier's label (str or int) and its
        probabilities ({label: float}); a picture as a PIL image of mode RGB, L or F; other tensors as arrays
        of the declared dtype, fp16 ones as float32 and scalars with shape [1], as coremltools gives them.

        Raises InputError for values that do not fit, UsageError for an unknown option or inner value,
        ModelFormatError for results of another shape than the program declares, ModelError when the engine
        fails, the time limit is over or the model asks for more memory than it may have.
        """
        check_names(self.description.inputs, inputs)
        option = resolve_option(image_option, self.description)
        features = inputs
        if option is not None:
            features = dict(inputs)
            for feature in self.description.inputs:
                if isinstance(feature, ImageFeature) and feature.name in features:
                    features[feature.name] = prepare_picture(feature, features[feature.name], option)
        try:  # not memory.guarded: a generator costs 1 us, which is 2 % of a small net
            return self._part.run(features, state=state, intermediates=intermediates)
        except MemoryError as error:
            raise memory.exhausted(f"{self._asset.path}: the prediction", error) from error

    def predict_batch(
        self,
        batch: Iterable[Mapping[str, Any]],
        *,
        intermediates: Iterable[str] = (),
        image_option: str | None = None,
    ) -> list[dict[str, Any]]:
        """`predict` for each, in order.

        They are not stacked into one run, even where the model's first axis may have any size: the file does
        not say that it is a batch, and what a sequence gives depends on its length.
        """
        names = tuple(intermediates)
        return [self.predict(inputs, intermediates=names, image_option=image_option) for inputs in batch]


def load(
    path: str | os.PathLike[str],
    *,
    precision: str = "typed",
    engine: str = "auto",
    function_name: str | None = None,
    threads: int | None = None,
    compute_units: str = "ALL",
    time_limit_s: float | None = None,
) -> Model:
    """Load an `.mlpackage` or `.mlmodel` to run it here.

    `precision`: `typed` (what the file declares: fp16-typed values are rounded once an op), `float32`
    (nothing is rounded: fast) or `float16` (every float is); trees, linear models and other classic ones
    compute in double, whatever it says. `engine`: `auto`, `onnxruntime`, `cuda`,
    `openvino` or `coreml` (Apple's framework, on a Mac alone); see `coremlops.runtime.engines`.
    `function_name`: of a model that has several; None for its default. `threads`: in an op; None leaves it to
    the engine. `compute_units`: of `coreml`: `ALL`, `CPU_ONLY`, `CPU_AND_GPU` or `CPU_AND_NE`.
    `time_limit_s`: a prediction that takes longer is stopped: a loop of a model from elsewhere may have no
    end. In ONNX Runtime on the CPU, a model may allocate half of the machine's memory beyond its weights;
    COREMLOPS_MEMORY_BYTES in the environment says otherwise, and 0 that there is no limit.

    Raises ModelFormatError, WeightsError, UnsupportedOpsError (with everything that is not supported, at
    once), and UsageError for an unknown precision, engine or function and an impossible limit.
    """
    for what, value, known in (("precision", precision, PRECISIONS), ("engine", engine, ENGINES)):
        if value not in known:
            raise UsageError(f"unknown {what} {value!r}; expected one of {', '.join(known)}")
    if time_limit_s is not None and not 0 < time_limit_s <= threading.TIMEOUT_MAX:
        raise UsageError(f"a time limit of {time_limit_s} s; expected more than 0")
    asset = ModelAsset.open(path)
    settings = PartOptions(precision, engine, threads, compute_units=compute_units, time_limit_s=time_limit_s)
    with memory.guarded(f"{asset.path}: loading it"):
        part = make_part(asset, settings, function_name)
    return Model(asset, function_name or default_function(asset), part, precision)
