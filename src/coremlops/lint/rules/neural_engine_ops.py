"""`ane-...`: ops that may keep a part of the model from the Neural Engine, by what they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from coremlops.lint.context import Context
from coremlops.lint.rule import Hit, rule
from coremlops.lint.rules.neural_engine import ANEFORGE
from coremlops.lint.subject import Op, Part

RECURRENT = ("lstm", "gru", "rnn")
RECURRENT_LAYERS = ("simpleRecurrent", "gru", "uniDirectionalLSTM", "biDirectionalLSTM")
LOOPS = ("while_loop", "cond")
LOOP_LAYERS = ("loop", "branch", "loopBreak", "loopContinue")
BY_DATA = ("non_zero", "one_hot", "band_part", "reverse_sequence", "make_list")
BY_DATA_PREFIXES = ("scatter", "list_")
BY_DATA_LAYERS = ("whereNonZero", "oneHot", "matrixBandPart", "reverseSeq")
RARE = ("acos", "asin", "tan", "sinh", "cosh", "mod", "reduce_prod")
RARE_PREFIXES = ("logical_", "random_")
RARE_LAYERS = ("acos", "asin", "tan", "sinh", "cosh", "modBroadcastable", "reduceProd")
RESIZING = ("crop_resize", "resize", "resize_bilinear", "resize_nearest_neighbor")
RANKED = ("ND", "Broadcastable")


@rule(
    "ane-recurrent",
    "warning",
    "H",
    source="coremltools #1780",
    fix="unroll a short sequence, or use convolutions or attention; what stays runs on the CPU or the GPU",
    triggers="""
        program("iOS17")
        x: fp16[4, 1, 8] = input()
        h: fp16[1, 3] = input()
        y, z = gru(x=x, initial_h=h, weight_ih=fp16[9, 8], weight_hh=fp16[9, 3]) >> (fp16[1, 3], fp16[1, 3])
        output(y)
    """,
    quiet="""
        program("iOS17")
        x: fp16[4, 8] = input()
        y: fp16[4, 8] = linear(x=x, weight=fp16[8, 8])
        output(y)
    """,
    leaves_engine=True,
)
def recurrent(part: Part, context: Context) -> Iterator[Hit]:
    """A recurrent layer.

    Recurrent layers run on the CPU or the GPU.
    """
    yield from _ops(part, lambda op: "a recurrent op" if op.type in RECURRENT else "")
    yield from _layers(part, RECURRENT_LAYERS, "a recurrent layer")


@rule(
    "ane-custom-layer",
    "warning",
    "H",
    source="coremltools #1278",
    fix="express it in layers of the format; each custom layer splits the network in two",
    triggers="""
        network("iOS13")
        x: fp32[8] = input()
        y = custom(x, className="Swish")
        output(y)
    """,
    quiet="""
        network("iOS13")
        x: fp32[8] = input()
        y = activation(x, sigmoid={})
        output(y)
    """,
    leaves_engine=True,
)
def custom_layer(part: Part, context: Context) -> Iterator[Hit]:
    """A custom layer.

    The app's own code computes it, on the CPU or the GPU, and an app without that code cannot load the model.
    """
    for layer in part.layers:
        if layer.kind == "custom":
            yield Hit(f"the app must bring the class {layer.fields['className']!r}", layer)


@rule(
    "ane-gather-topk",
    "note",
    "M",
    source="coremltools #1103",
    fix="sort or choose outside of the model, or give the indices as an output",
    triggers="""
        program("iOS16")
        x: fp16[1, 100] = input()
        v, i = topk(x=x, k=5, axis=-1) >> (fp16[1, 5], int32[1, 5])
        y: fp16[1, 5] = gather_along_axis(x=x, indices=i, axis=1)
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 100] = input()
        y: fp16[1, 5] = gather_along_axis(x=x, indices=int32[1, 5], axis=1)
        output(y)
    """,
    leaves_engine=True,
)
def gather_topk(part: Part, context: Context) -> Iterator[Hit]:
    """Values gathered by the indices of the largest ones.

    A gather along an axis over what topk chose was seen to leave the Neural Engine.
    """
    for body in part.bodies:
        for op in body.ops:
            maker = op.maker("indices") if op.type == "gather_along_axis" else None
            if maker is not None and maker.type in ("topk", "argsort"):
                yield Hit(f"its indices come from {maker.name}", op)


@rule(
    "ane-data-dependent",
    "note",
    "M",
    source=ANEFORGE,
    fix="write it with masks and products, or do it outside of the model",
    triggers="""
        program("iOS16")
        i: int32[4] = input()
        y: fp16[4, 10] = one_hot(indices=i, one_hot_vector_size=10, on_value=fp16(1.0), off_value=fp16(0.0))
        output(y)
    """,
    quiet="""
        program("iOS16")
        i: int32[4] = input()
        y: fp16[4, 8] = gather(x=fp16[10, 8], indices=i, axis=0)
        output(y)
    """,
    leaves_engine=True,
)
def data_dependent(part: Part, context: Context) -> Iterator[Hit]:
    """An op whose places depend on the data.

    Scatters, lists, one-hot vectors, bands of a matrix and reversed sequences were not seen to compile.
    """
    yield from _ops(
        part, lambda op: "its places depend on data" if _among(op.type, BY_DATA, BY_DATA_PREFIXES) else ""
    )
    scatters = tuple(layer.kind for layer in part.layers if layer.kind.startswith("scatter"))
    yield from _layers(part, (*BY_DATA_LAYERS, *scatters), "its places depend on data")


@rule(
    "ane-control-flow",
    "note",
    "M",
    source=ANEFORGE,
    fix="unroll a loop of fixed length; compute both branches and select",
    triggers="""
        program("iOS16")
        p: bool = input()
        x: fp16[8] = input()
        def yes():
            a: fp16[8] = relu(x=x)
            return a
        def no():
            b: fp16[8] = tanh(x=x)
            return b
        y: fp16[8] = cond(pred=p, blocks=[yes, no])
        output(y)
    """,
    quiet="""
        program("iOS16")
        p: bool[8] = input()
        x: fp16[8] = input()
        y: fp16[8] = select(cond=p, a=x, b=fp16(0.0))
        output(y)
    """,
    leaves_engine=True,
)
def control_flow(part: Part, context: Context) -> Iterator[Hit]:
    """A loop or a branch.

    The host decides what runs next, so the Neural Engine stops there.
    """
    yield from _ops(part, lambda op: "a loop or a branch" if op.type in LOOPS else "")
    yield from _layers(part, LOOP_LAYERS, "a loop or a branch")


@rule(
    "ane-sort",
    "note",
    "M",
    source=ANEFORGE,
    fix="sort outside of the model, or require a newer chip",
    triggers="""
        lint(device="A13")
        program("iOS16")
        x: fp16[1, 100] = input()
        v, i = topk(x=x, k=5, axis=-1) >> (fp16[1, 5], int32[1, 5])
        output(v)
    """,
    quiet="""
        lint(device="A16")
        program("iOS16")
        x: fp16[1, 100] = input()
        v, i = topk(x=x, k=5, axis=-1) >> (fp16[1, 5], int32[1, 5])
        output(v)
    """,
    leaves_engine=True,
)
def sort(part: Part, context: Context) -> Iterator[Hit]:
    """Sorting, on an A13 or M1.

    The tables have topk and argsort compile on later chips alone.
    """
    chips = context.chips("A13", "M1")
    if chips:
        said = f"not seen to compile on {', '.join(chips)}"
        yield from _ops(part, lambda op: said if op.type in ("topk", "argsort") else "")
        yield from _layers(part, ("topK", "argSort"), said)


@rule(
    "ane-rare-op",
    "note",
    "M",
    source=ANEFORGE,
    fix="replace it by a polynomial, a table, or arithmetic on 0 and 1",
    triggers="""
        program("iOS16")
        x: fp16[1, 64] = input()
        y: fp16[1, 64] = cosh(x=x)
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 64] = input()
        y: fp16[1, 64] = tanh(x=x)
        output(y)
    """,
    leaves_engine=True,
)
def rare_op(part: Part, context: Context) -> Iterator[Hit]:
    """An op that the Neural Engine may not have.

    Inverse and hyperbolic functions, remainders, logic, products along an axis and random numbers.
    """
    yield from _ops(part, lambda op: "not seen to compile" if _among(op.type, RARE, RARE_PREFIXES) else "")
    more = tuple(layer.kind for layer in part.layers if layer.kind.startswith(("logical", "random")))
    yield from _layers(part, (*RARE_LAYERS, *more), "not seen to compile")


@rule(
    "ane-int-cast",
    "note",
    "M",
    source=f"{ANEFORGE} (M1)",
    fix="keep indices out of the middle of the model, or compute them before it",
    triggers="""
        program("iOS16")
        x: fp16[1, 64] = input()
        i: int32[1, 64] = cast(x=x, dtype="int32")
        y: fp16[1, 64] = cast(x=i, dtype="fp16")
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp32[1, 64] = input()
        y: fp16[1, 64] = cast(x=x, dtype="fp16")
        output(y)
    """,
    leaves_engine=True,
)
def int_cast(part: Part, context: Context) -> Iterator[Hit]:
    """A cast to int32 in the middle of the model.

    Whole numbers of 32 bits live on the CPU and the GPU.
    """
    yield from _ops(
        part, lambda op: "it gives int32" if op.type == "cast" and op.output.dtype == "int32" else ""
    )


@rule(
    "ane-resize",
    "note",
    "M",
    source=ANEFORGE,
    fix="upsample by 2 with a transposed convolution, or pad with zeros",
    triggers="""
        lint(device="M1")
        program("iOS16")
        x: fp16[1, 8, 16, 16] = input()
        y: fp16[1, 8, 40, 40] = resize_bilinear(x=x, target_size_height=40, target_size_width=40)
        output(y)
    """,
    quiet="""
        lint(device="M2")
        program("iOS16")
        x: fp16[1, 8, 16, 16] = input()
        y: fp16[1, 8, 40, 40] = resize_bilinear(x=x, target_size_height=40, target_size_width=40)
        output(y)
    """,
    leaves_engine=True,
)
def resize(part: Part, context: Context) -> Iterator[Hit]:
    """Resizing, cropping or reflecting, on an A13 or M1.

    The tables have these compile on later chips alone.
    """
    chips = context.chips("A13", "M1")
    if not chips:
        return
    said = f"not seen to compile on {', '.join(chips)}"
    yield from _ops(
        part,
        lambda op: (
            said
            if op.type in RESIZING or (op.type == "pad" and op.value("mode") in ("reflect", "replicate"))
            else ""
        ),
    )
    yield from _layers(part, ("resizeBilinear", "cropResize"), said)
    for layer in part.layers:
        if layer.kind == "padding" and layer.fields.get("reflection") is not None:
            yield Hit(said, layer)


@rule(
    "ane-ranked-layer",
    "note",
    "L",
    source="hollance/neural-engine, 2020",
    fix="convert to an ML Program (iOS 15 or later), or use the layers of five axes",
    triggers="""
        network("iOS13")
        x: fp32[4, 8] = input()
        y = addBroadcastable(x, x)
        output(y)
    """,
    quiet="""
        network("iOS13")
        x: fp32[8, 4, 4] = input()
        y = add(x, x)
        output(y)
    """,
    leaves_engine=True,
)
def ranked_layer(part: Part, context: Context) -> Iterator[Hit]:
    """A layer of a neural network that takes any rank.

    Layers of iOS 13 whose names end in ND or Broadcastable ran on the GPU or the CPU in the logs of 2020.
    """
    for layer in part.layers:
        if layer.kind.endswith(RANKED):
            yield Hit("a layer for arrays of any rank", layer)


def _among(name: str, names: tuple[str, ...], prefixes: tuple[str, ...]) -> bool:
    return name in names or name.startswith(prefixes)


def _ops(part: Part, said: Callable[[Op], str]) -> Iterator[Hit]:
    """A hit for each op of which something is said."""
    for body in part.bodies:
        for op in body.ops:
            message = said(op)
            if message:
                yield Hit(message, op)


def _layers(part: Part, kinds: tuple[str, ...], said: str) -> Iterator[Hit]:
    """A hit for each layer of these kinds."""
    for layer in part.layers:
        if layer.kind in kinds:
            yield Hit(said, layer)
