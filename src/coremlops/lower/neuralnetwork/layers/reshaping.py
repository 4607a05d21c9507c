"""Layers that give a value another shape or order: nothing is computed."""

from __future__ import annotations

from collections.abc import Sequence

from coremlops.errors import ModelFormatError
from coremlops.lower.neuralnetwork.context import NetworkLowering, Size
from coremlops.lower.neuralnetwork.registry import layer
from coremlops.lower.registry import Ints, Unsupported, Value

_FAR = 1 << 62  # past the end of any axis


@layer("reshape", moves=True)
def reshape(ctx: NetworkLowering, x: Value, *, targetShape: Ints, mode: str) -> Value:
    """[..., C, H, W] in another shape; four numbers name the sequence's length, too.

    `CHANNEL_LAST`: the elements are counted with the channels last, on both sides.
    """
    if len(targetShape) not in (3, 4) or x.rank < 3:
        raise ModelFormatError(f"the target shape {list(targetShape)} of a value of rank {x.rank}")
    lead: list[Size] = [*ctx.sizes(x, 0, x.rank - 3)]
    if len(targetShape) == 4:
        lead = [targetShape[0], *lead[1:]]
    channels, height, width = targetShape[-3:]
    if mode == "CHANNEL_FIRST":
        return ctx.reshape(x, [*lead, channels, height, width])
    count = len(lead)
    last = ctx.transpose(x, [*range(count), count + 1, count + 2, count])
    shaped = ctx.reshape(last, [*lead, height, width, channels])
    return ctx.transpose(shaped, [*range(count), count + 2, count, count + 1])


@layer("flatten", moves=True)
def flatten(ctx: NetworkLowering, x: Value, *, mode: str) -> Value:
    """[..., C, H, W] -> [..., C * H * W, 1, 1]; `CHANNEL_LAST`: counted with the channels last."""

    def function(view: Value) -> Value:
        if mode == "CHANNEL_LAST":
            view = ctx.transpose(view, [0, 2, 3, 1])
        return ctx.reshape(view, [*ctx.sizes(view, 0, 1), _product(view.shape[1:]), 1, 1])

    return ctx.on_images(x, function)


def _product(sizes: Sequence[int | None]) -> int:
    """The number of elements; -1 when it is known at run time alone."""
    count = 1
    for size in sizes:
        if size is None:
            return -1
        count *= size
    return count


@layer("permute", moves=True)
def permute(ctx: NetworkLowering, x: Value, *, axis: Ints) -> Value:
    """[sequence, batch, C, H, W] with all axes but the batch in another order, 0 being the sequence."""
    if sorted(axis or (0, 1, 2, 3)) != [0, 1, 2, 3]:
        raise ModelFormatError(f"the order {list(axis)}; expected one of 0, 1, 2, 3")
    order = axis or (0, 1, 2, 3)
    if x.rank == 5:
        places = (0, 2, 3, 4)
        return ctx.transpose(x, [places[order[0]], 1, *(places[index] for index in order[1:])])
    if x.rank == 4:
        return ctx.transpose(x, order)
    raise Unsupported(f"a value of rank {x.rank}; expected 5")


@layer("transpose", moves=True)
def transpose(ctx: NetworkLowering, x: Value, *, axes: Ints) -> Value:
    """The axes in another order; one before them, of an image, stays where it is.

    coremltools' `make_image_input` turns [C, H, W] into an image, which has four axes, and leaves such
    layers.
    """
    if len(axes) == x.rank - 1 and x.shape[0] == 1:
        axes = (0, *(axis + 1 for axis in axes))
    return ctx.transpose(x, axes)


@layer("squeeze", moves=True)
def squeeze(ctx: NetworkLowering, x: Value, *, axes: Ints, squeezeAll: bool) -> Value:
    """Without those axes, which have one element.

    Of all axes, an open one is taken to be longer: should it have one element in a run, then it goes, too,
    and a layer after this one that counts on it fails.
    """
    if squeezeAll or not axes:
        # Where all other axes have one element, an open one stays, whatever its size: one axis is left.
        if None in x.shape and sorted(x.shape, key=str)[:-1] != [1] * (x.rank - 1):
            return ctx.retyped(ctx.node("Squeeze", x), *(size for size in x.shape if size != 1))
        chosen = [axis for axis, size in enumerate(x.shape) if size == 1]
    else:
        chosen = sorted({x.axis(axis) for axis in axes})
    if any(x.shape[axis] not in (1, None) for axis in chosen):
        raise ModelFormatError(f"the axes {chosen} of the shape {list(x.shape)} do not have one element")
    kept = [ctx.size(x, axis) for axis in range(x.rank) if axis not in chosen]
    return ctx.reshape(x, kept)


@layer("expandDims", moves=True)
def expand_dims(ctx: NetworkLowering, x: Value, *, axes: Ints) -> Value:
    """With axes of one element put in at those places of the result."""
    return ctx.node("Unsqueeze", x, ctx.ints(axes))


@layer("flattenTo2D", moves=True)
def flatten_to_2d(ctx: NetworkLowering, x: Value, *, axis: int) -> Value:
    """The axes before `axis` as one, and the others as one."""
    return ctx.node("Flatten", x, axis=axis)


@layer("reshapeLike", moves=True)
def reshape_like(ctx: NetworkLowering, x: Value, like: Value) -> Value:
    """In the shape of another value."""
    return ctx.reshape(x, ctx.sizes(like))


@layer("reshapeStatic", moves=True)
def reshape_static(ctx: NetworkLowering, x: Value, *, targetShape: Ints) -> Value:
    """In another shape; one size may be -1."""
    return ctx.reshape(x, targetShape)


@layer("reshapeDynamic", moves=True)
def reshape_dynamic(ctx: NetworkLowering, x: Value, shape: Value) -> Value:
    """In the shape that a vector says; one size may be -1."""
    if shape.constant is not None:
        return ctx.reshape(x, ctx.integers(shape).ints("the shape"))
    return ctx.node("Reshape", x, ctx.integers(shape))


@layer("rankPreservingReshape", moves=True)
def rank_preserving_reshape(ctx: NetworkLowering, x: Value, *, targetShape: Ints) -> Value:
    """In another shape of the same rank; 0 keeps a size, and one may be -1."""
    if len(targetShape) != x.rank:
        raise ModelFormatError(f"the target shape {list(targetShape)} of a value of rank {x.rank}")
    sizes = [ctx.size(x, axis) if size == 0 else size for axis, size in enumerate(targetShape)]
    return ctx.reshape(x, sizes)


@layer("concat", moves=True)
def concat(ctx: NetworkLowering, x: Value, *values: Value, sequenceConcat: bool) -> Value:
    """All inputs along the channels, axis -3, or along the sequence, axis -5."""
    axis = -5 if sequenceConcat else -3
    if sequenceConcat:
        return ctx.node("Concat", x, *values, axis=axis)
    return ctx.elementwise(lambda *all_: ctx.node("Concat", *all_, axis=axis), x, *values)


@layer("concatND", moves=True)
def concat_nd(ctx: NetworkLowering, x: Value, *values: Value, axis: int, interleave: bool) -> Value:
    """All inputs along an axis; `interleave`: the first of each, then the second of each, and so on."""
    if not interleave:
        return ctx.node("Concat", x, *values, axis=axis)
    place = x.axis(axis)
    parts = [ctx.node("Unsqueeze", value, ctx.ints([place + 1])) for value in (x, *values)]
    joined = ctx.node("Concat", *parts, axis=place + 1)
    size = x.shape[place]
    length: Size = -1 if size is None else size * len(parts)
    return ctx.reshape(joined, [*ctx.sizes(x, 0, place), length, *ctx.sizes(x, place + 1)])


@layer("stack", moves=True)
def stack(ctx: NetworkLowering, x: Value, *values: Value, axis: int) -> Value:
    """All inputs along a new axis."""
    parts = [ctx.node("Unsqueeze", value, ctx.ints([axis])) for value in (x, *values)]
    return ctx.node("Concat", *parts, axis=axis)


@layer("split", moves=True)
def split(ctx: NetworkLowering, x: Value, *, nOutputs: int) -> tuple[Value, ...]:
    """Equal parts along the channels, axis -3."""
    return _parts(ctx, x, -3, nOutputs, ())


@layer("splitND", moves=True)
def split_nd(
    ctx: NetworkLowering, x: Value, *, axis: int, numSplits: int, splitSizes: Ints
) -> tuple[Value, ...]:
    """Parts of an axis: of those sizes, or equal ones; what is left over goes to the first parts."""
    return _parts(ctx, x, axis, numSplits, splitSizes)


def _parts(ctx: NetworkLowering, x: Value, axis: int, count: int, sizes: Ints) -> tuple[Value, ...]:
    axis = x.axis(axis)
    if not 1 <= (len(sizes) or count) <= 1 << 16:
        raise ModelFormatError(f"{len(sizes) or count} parts")
    length = x.shape[axis]
    if sizes:
        return ctx.nodes("Split", len(sizes), x, ctx.ints(sizes), axis=axis)
    if length is not None and length % count:
        sizes = tuple(length // count + (index < length % count) for index in range(count))
        return ctx.nodes("Split", count, x, ctx.ints(sizes), axis=axis)
    return ctx.nodes("Split", count, x, axis=axis, num_outputs=count)


@layer("tile", moves=True)
def tile(ctx: NetworkLowering, x: Value, times: Value | None = None, *, reps: Ints) -> Value:
    """Repeated along each axis that many times; fewer numbers than axes are for the last ones."""
    if times is None:
        return ctx.node("Tile", x, ctx.ints((1,) * (x.rank - len(reps)) + reps))
    given = times.shape[0] if times.rank == 1 else None
    repeats = ctx.integers(times)
    if given != x.rank:
        repeats = ctx.node("Concat", ctx.ints([1] * x.rank), repeats, axis=0)
        repeats = ctx.slice(repeats, 0, -x.rank, _FAR)
    return ctx.node("Tile", x, repeats)


@layer("sequenceRepeat", moves=True)
def sequence_repeat(ctx: NetworkLowering, x: Value, *, nRepetitions: int) -> Value:
    """The sequence, axis -5, repeated; 0 means once."""
    axis = x.axis(-5)
    return ctx.node(
        "Tile", x, ctx.ints([(nRepetitions or 1) if index == axis else 1 for index in range(x.rank)])
    )


@layer("reorganizeData", moves=True)
def reorganize_data(ctx: NetworkLowering, x: Value, *, mode: str, blockSize: int) -> Value:
    """Blocks of places become channels, or the other way round. x: [..., C, H, W].

    The place in a block is the faster index of a channel in `PIXEL_SHUFFLE`, as PyTorch has it, and the
    slower one in `DEPTH_TO_SPACE`, as TensorFlow has it.
    """
    if blockSize < 2:
        raise ModelFormatError(f"blocks of {blockSize}")
    if mode == "SPACE_TO_DEPTH":
        return ctx.on_images(x, lambda view: ctx.node("SpaceToDepth", view, blocksize=blockSize))
    order = "DCR" if mode == "DEPTH_TO_SPACE" else "CRD"
    return ctx.on_images(x, lambda view: ctx.node("DepthToSpace", view, blocksize=blockSize, mode=order))


@layer("reverse", moves=True)
def reverse(ctx: NetworkLowering, x: Value, *, reverseDim: Sequence[bool]) -> Value:
    """Backwards along the axes that are chosen."""
    axes = [axis for axis, chosen in enumerate(reverseDim) if chosen]
    if len(reverseDim) != x.rank:
        raise ModelFormatError(f"{len(reverseDim)} choices for a value of rank {x.rank}")
    if not axes:
        return ctx.node("Identity", x)
    ones = [1] * len(axes)
    return ctx.node(
        "Slice",
        x,
        ctx.ints([-one for one in ones]),
        ctx.ints([-_FAR for _ in ones]),
        ctx.ints(axes),
        ctx.ints([-one for one in ones]),
    )


@layer("reverseSeq", moves=True)
def reverse_sequence(
    ctx: NetworkLowering, x: Value, lengths: Value, *, batchAxis: int, sequenceAxis: int
) -> Value:
    """The first `lengths[i]` elements of each sequence backwards, i counting along the batch axis."""
    batch, sequence = x.axis(batchAxis), x.axis(sequenceAxis)
    order = [batch, sequence, *(axis for axis in range(x.rank) if axis not in (batch, sequence))]
    turned = ctx.node(
        "ReverseSequence", ctx.transpose(x, order), ctx.integers(lengths), batch_axis=0, time_axis=1
    )
    return ctx.transpose(turned, [order.index(axis) for axis in range(x.rank)])
