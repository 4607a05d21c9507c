"""`infer-...`: what belongs to training, or cannot be meant."""

from __future__ import annotations

from collections.abc import Iterator

from coremlops.dialects.mil import Ref
from coremlops.lint.context import Context
from coremlops.lint.rule import Hit, rule
from coremlops.lint.subject import Body, Op, Part, named
from coremlops.model import ImageFeature

RANDOM = ("random_bernoulli", "random_categorical", "random_normal", "random_uniform")
_MOVES = ("cast", "expand_dims", "reshape", "squeeze", "transpose", "identity", "pad", "slice_by_index")
_COMPARISONS = ("less", "greater", "less_equal", "greater_equal")
_SQUARES = ("mul", "square", "pow")
_SCALES = ("mul", "sub", "add", "real_div", "batch_norm", "instance_norm", "layer_norm", "clip")
_FOUND_BY_NAME = "the graph"


@rule(
    "infer-random",
    "warning",
    "H",
    source=_FOUND_BY_NAME,
    fix="make the noise an input, so that the app (and a proof) decides it; or convert in eval mode",
    triggers="""
        program("iOS16")
        x: fp32[1, 64] = input()
        n: fp32[1, 64] = random_normal(shape=[1, 64], mean=fp32(0.0), stddev=fp32(1.0))
        y: fp32[1, 64] = add(x=x, y=n)
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp32[1, 64] = input()
        n: fp32[1, 64] = input()
        y: fp32[1, 64] = add(x=x, y=n)
        output(y)
    """,
)
def random(part: Part, context: Context) -> Iterator[Hit]:
    """Random numbers inside of the model.

    Two predictions of one input differ, so nothing can be compared, cached or proven.
    """
    for body in part.bodies:
        for op in body.ops:
            if op.type in RANDOM and not _is_dropout(op):
                yield Hit("each prediction draws new numbers", op)
    for layer in part.layers:
        if layer.kind.startswith("random"):
            yield Hit("each prediction draws new numbers", layer)


@rule(
    "infer-dropout",
    "error",
    "H",
    source=_FOUND_BY_NAME,
    fix="call `model.eval()` before exporting or tracing it",
    triggers="""
        program("iOS16")
        x: fp32[1, 64] = input()
        keep: fp32[1, 64] = random_bernoulli(shape=[1, 64], prob=fp32(0.9))
        dropped: fp32[1, 64] = mul(x=x, y=keep)
        y: fp32[1, 64] = mul(x=dropped, y=fp32(1.1111))
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp32[1, 64] = input()
        y: fp32[1, 64] = relu(x=x)
        output(y)
    """,
)
def dropout(part: Part, context: Context) -> Iterator[Hit]:
    """Dropout was left in.

    Values are multiplied by random zeros and ones: the model was exported in training mode.
    """
    for body in part.bodies:
        for op in body.ops:
            if op.type in RANDOM and _is_dropout(op):
                yield Hit("values are multiplied by random zeros and ones", op)


def _is_dropout(op: Op) -> bool:
    """Whether random zeros and ones, drawn so or by comparing, choose among values."""
    found: set[str] = set()
    waiting = [(op, op.type == "random_bernoulli")]
    while waiting:
        current, coin = waiting.pop()
        for user in current.users():
            if coin and user.type in ("mul", "select", "real_div"):
                return True
            if user.type in (*_MOVES, *_COMPARISONS) and user.name not in found:
                found.add(user.name)
                waiting.append((user, coin or user.type in _COMPARISONS))
    return False


@rule(
    "infer-batch-statistics",
    "error",
    "M",
    source=f"{_FOUND_BY_NAME}: the pattern that coremltools makes of batch normalisation in training mode",
    fix="call `model.eval()` before exporting; `track_running_stats=True` when the layer has no statistics",
    triggers="""
        network("iOS13")
        x: fp32[2, 4, 4] = input()
        y = batchnorm(x, channels=2, computeMeanVar=True, gamma=fp32[2], beta=fp32[2])
        output(y)
    """,
    quiet="""
        network("iOS13")
        x: fp32[2, 4, 4] = input()
        y = batchnorm(x, channels=2, gamma=fp32[2], beta=fp32[2], mean=fp32[2], variance=fp32[2])
        output(y)
    """,
)
def batch_statistics(part: Part, context: Context) -> Iterator[Hit]:
    """Batch normalisation in training mode.

    Mean and variance come from the input instead of from training: a picture is normalised by itself, and
    results depend on what else is in the batch.
    """
    for layer in part.layers:
        fields = layer.fields
        if layer.kind == "batchnorm" and fields["computeMeanVar"] and not fields["instanceNormalization"]:
            yield Hit("mean and variance are computed from the input", layer)
    for body in part.bodies:
        for op in body.ops:
            if op.type == "reduce_mean" and _normalises_batch(op):
                yield Hit("the mean over all axes but the channels is subtracted from a batch", op)


def _normalises_batch(op: Op) -> bool:
    """Whether x - mean(x) over all axes but the second follows, and the mean of its square."""
    given = op.given("x")
    rank = (op.type_of("x") or op.output).rank
    if rank is None or rank < 2 or not isinstance(given, Ref):
        return False
    axes = {axis % rank for axis in op.numbers("axes")}
    if axes != set(range(rank)) - {1} or op.value("keep_dims") is not True:
        return False
    centred = [user for user in op.users() if user.type == "sub" and given.name in user.refs()]
    squares = {user.name: user for entry in centred for user in entry.users() if user.type in _SQUARES}
    return any(user.type == "reduce_mean" for entry in squares.values() for user in entry.users())


@rule(
    "infer-double-softmax",
    "warning",
    "H",
    source=_FOUND_BY_NAME,
    fix="export the net without its own softmax, or without the second one",
    triggers="""
        program("iOS16")
        x: fp16[1, 8] = input()
        p: fp16[1, 8] = softmax(x=x, axis=-1)
        y: fp16[1, 8] = softmax(x=p, axis=-1)
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 8] = input()
        y: fp16[1, 8] = softmax(x=x, axis=-1)
        output(y)
    """,
)
def double_softmax(part: Part, context: Context) -> Iterator[Hit]:
    """Softmax of a softmax.

    The order of the classes stays, but all probabilities become nearly equal: thresholds in the app stop
    working.
    """
    for body in part.bodies:
        for op in body.ops:
            maker = op.before(_MOVES) if op.type == "softmax" else None
            if maker is not None and maker.type == "softmax" and maker.value("axis") == op.value("axis"):
                yield Hit(f"its input is the softmax {maker.name}", op)
    network = part.network
    made = {name: layer for layer in network.layers for name in layer.outputs} if network is not None else {}
    for layer in part.layers:
        before = made.get(layer.inputs[0]) if layer.inputs else None
        if layer.kind == "softmax" and before is not None and before.kind == "softmax":
            yield Hit(f"its input is the softmax {before.name}", layer)


@rule(
    "infer-unused-input",
    "warning",
    "H",
    source=_FOUND_BY_NAME,
    fix="leave the input out, or find out why the net ignores it",
    triggers="""
        program("iOS16")
        x: fp16[1, 8] = input()
        mask: fp16[1, 8] = input()
        y: fp16[1, 8] = relu(x=x)
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 8] = input()
        mask: fp16[1, 8] = input()
        y: fp16[1, 8] = mul(x=x, y=mask)
        output(y)
    """,
)
def unused_input(part: Part, context: Context) -> Iterator[Hit]:
    """An input that changes nothing.

    A trace may have frozen a branch, or a converter dropped a path. An attention mask without effect is the
    usual case.
    """
    for body in part.bodies:
        reached = _reached(body)
        for entry in body.function.inputs:
            if entry.name not in reached:
                yield Hit("no output depends on it", entry.name)


@rule(
    "infer-constant-output",
    "warning",
    "H",
    source=_FOUND_BY_NAME,
    fix="leave the output out, or find out what the trace has frozen",
    triggers="""
        program("iOS16")
        x: fp16[1, 8] = input()
        a: fp16[1, 8] = relu(x=x)
        b: fp16[1, 8] = relu(x=fp16[1, 8])
        output(a, b)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 8] = input()
        a: fp16[1, 8] = relu(x=x)
        output(a)
    """,
)
def constant_output(part: Part, context: Context) -> Iterator[Hit]:
    """An output that no input changes.

    Tracing turns what is computed from Python's values into constants.
    """
    for body in part.bodies:
        given = named(body.function.inputs)
        moving = set(given)
        for op in body.scope.ops:
            inner = {name for block in op.operation.blocks for name in block.uses()}
            if moving.intersection((*op.refs(), *inner)) or op.type in RANDOM or op.type == "read_state":
                moving |= set(named(op.operation.outputs))
        for name in body.function.block.outputs:
            if given and name not in moving:
                yield Hit("no input changes it", name)


@rule(
    "infer-unscaled-picture",
    "note",
    "L",
    source="the first ops after a picture; a guess",
    fix="give the picture's scale and bias when converting, if training had values around 0 or below 1",
    triggers="""
        program("iOS16")
        x: fp16[1, 3, 32, 32] = image("RGB")
        y: fp16[1, 8, 32, 32] = conv(x=x, weight=fp16[8, 3, 3, 3], pad_type="same")
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 3, 32, 32] = image("RGB")
        s: fp16[1, 3, 32, 32] = mul(x=x, y=fp16(0.0039))
        y: fp16[1, 8, 32, 32] = conv(x=s, weight=fp16[8, 3, 3, 3], pad_type="same")
        output(y)
    """,
)
def unscaled_picture(part: Part, context: Context) -> Iterator[Hit]:
    """Pixels of 0 to 255 go straight into the first layer.

    Most nets are trained on scaled values. Some have the scale folded into their first weights: then this
    is no finding.
    """
    pictures = {feature.name for feature in part.description.inputs if isinstance(feature, ImageFeature)}
    for body in part.bodies:
        for name in pictures.intersection(named(body.function.inputs)):
            waiting, first, seen = [name], set(), set()
            while waiting:
                for user in body.scope.users.get(waiting.pop(), ()):
                    if user.type not in _MOVES or user.depth:
                        first.add(user.type)
                    elif user.name not in seen:
                        seen.add(user.name)
                        waiting.append(user.name)
            if first and not first.intersection(_SCALES):
                yield Hit(f"its first ops are {', '.join(sorted(first))}", name)


@rule(
    "infer-state-not-written",
    "warning",
    "H",
    source=_FOUND_BY_NAME,
    fix="write the state at the end of the function, or make it a constant",
    triggers="""
        program("iOS18")
        s: fp16[1, 8] = state()
        x: fp16[1, 8] = input()
        old: fp16[1, 8] = read_state(input=s)
        y: fp16[1, 8] = add(x=x, y=old)
        output(y)
    """,
    quiet="""
        program("iOS18")
        s: fp16[1, 8] = state()
        x: fp16[1, 8] = input()
        old: fp16[1, 8] = read_state(input=s)
        y: fp16[1, 8] = add(x=x, y=old)
        new: fp16[1, 8] = coreml_update_state(state=s, value=y)
        output(y)
    """,
)
def state_not_written(part: Part, context: Context) -> Iterator[Hit]:
    """A state that is never written.

    It stays what it was at the start: the model forgets everything.
    """
    if len(part.bodies) > 1:  # another function may write it
        return
    states = {state.name for state in part.description.states}
    for body in part.bodies:
        written = {
            entry.name
            for op in body.ops
            for entry in (op.given("state" if op.type == "coreml_update_state" else "input"),)
            if op.type in ("coreml_update_state", "write_state") and isinstance(entry, Ref)
        }
        for name in sorted(states - written):
            yield Hit("it is read and never written", name)


@rule(
    "infer-label-count",
    "error",
    "H",
    source="the declared shapes and labels",
    fix="convert again with one label an output, in the order of training",
    triggers="""
        program("iOS16")
        x: fp16[1, 8] = input()
        p: fp16[1, 3] = softmax(x=fp16[1, 3], axis=-1)
        label, probs = classify(probabilities=p, classes=["ada", "bob"]) >> (string, fp16)
        output(label, probs)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 8] = input()
        p: fp16[1, 2] = linear(x=x, weight=fp16[2, 8])
        label, probs = classify(probabilities=p, classes=["ada", "bob"]) >> (string, fp16)
        output(label, probs)
    """,
)
def label_count(part: Part, context: Context) -> Iterator[Hit]:
    """As many labels as probabilities are expected.

    With one too few, the names of all classes after the gap are wrong.
    """
    found = len(part.description.labels)
    for body in part.bodies:
        for op in body.ops:
            given = op.type_of("probabilities") if op.type == "classify" else None
            sizes = [axis for axis in given.shape or () if axis != 1] if given is not None else []
            if found and len(sizes) == 1 and sizes[0] is not None and sizes[0] != found:
                yield Hit(f"{found} labels for {sizes[0]} probabilities", op)


@rule(
    "infer-updatable",
    "note",
    "H",
    source="Model.proto",
    fix="ship a model that is not updatable, unless the app trains it",
    triggers="""
        network("iOS13", updatable=True)
        x: fp32[8] = input()
        y = activation(x, sigmoid={})
        output(y)
    """,
    quiet="""
        network("iOS13")
        x: fp32[8] = input()
        y = activation(x, sigmoid={})
        output(y)
    """,
)
def updatable(part: Part, context: Context) -> Iterator[Hit]:
    """The model can be trained on the device.

    Its training inputs and parameters travel with it.
    """
    if part.asset.spec.isUpdatable:
        yield Hit("isUpdatable is set")


def _reached(body: Body) -> set[str]:
    """The names that an output, a state or a prediction's effect depends on."""
    reached = set(body.function.block.outputs)
    for op in reversed(body.scope.ops):
        outputs = set(named(op.operation.outputs))
        inner = {name for block in op.operation.blocks for name in block.uses()}
        if outputs & reached or op.type in ("coreml_update_state", "write_state") or op.depth > 0:
            reached |= {*op.refs(), *inner}
    return reached
