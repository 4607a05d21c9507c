"""`os-...`: which systems read the model, what makes it so, and what would change that."""

from __future__ import annotations

from collections.abc import Iterator

from coremlops.dialects.neuralnetwork import Layer
from coremlops.lint.context import Context
from coremlops.lint.needs import OPSETS, Need, known_op, need_of_kind, op_needs
from coremlops.lint.rule import Hit, rule
from coremlops.lint.subject import Part
from coremlops.lint.target import targets_of

FORMAT = "Core ML's format (Model.proto; coremltools' op registry and Utils.cpp)"

# What lowers the version, by op or by what makes it so.
_LOWER = {
    "scaled_dot_product_attention": "coremltools writes it as matmul and softmax for an older target",
    "read_state": "pass the state as an input and an output",
    "coreml_update_state": "pass the state as an input and an output",
    "slice_update": "scatter, or concatenate the pieces",
    "constexpr_blockwise_shift_scale": "quantize a channel each in int8, or palettize",
    "constexpr_lut_to_dense": "palettize a tensor each, to 1, 2, 4, 6 or 8 bits",
    "cast": "coremltools keeps int32 for targets before iOS 17",
    "gather": "coremltools keeps indices of int32 for older targets",
    "quantize": "compute in float16, and keep the weights compressed",
    "dequantize": "compute in float16, and keep the weights compressed",
    "resize": "use resize_bilinear or upsample_bilinear",
    "a state": "pass it as an input and an output",
    "several functions": "ship one model a function",
    "an array of float16": "declare it float32",
    "an array of int8": "declare it int32",
    "a picture of 16 bits": "take 8 bits, or an array",
    "a default that is not 0": "let the app give the value",
}


def _instead(need: Need) -> str:
    """What would lower the version, where that is known."""
    advice = _LOWER.get(need.kind or need.what)
    return f"; instead: {advice}" if advice else ""


@rule(
    "os-target-too-old",
    "error",
    "H",
    source=FORMAT,
    fix="raise the target, or convert for it: coremltools then writes older ops, where there are some",
    triggers="""
        lint(target="iOS16")
        program("iOS18")
        q: fp16[1, 4, 8, 16] = input()
        y: fp16[1, 4, 8, 16] = scaled_dot_product_attention(query=q, key=q, value=q)
        output(y)
    """,
    quiet="""
        lint(target="iOS18")
        program("iOS18")
        q: fp16[1, 4, 8, 16] = input()
        y: fp16[1, 4, 8, 16] = scaled_dot_product_attention(query=q, key=q, value=q)
        output(y)
    """,
)
def target_too_old(part: Part, context: Context) -> Iterator[Hit]:
    """The target cannot read the model.

    A system refuses a file of a newer specification version, whatever is in it; the finding names each op
    that needs one, and the first system that has it.
    """
    if context.target is None:
        return
    target = context.target
    for need in part.needs:
        if need.specification > target.specification:
            yield Hit(
                f"{need.cause} needs {targets_of(need.specification)}; the target is {target.name}"
                f"{_instead(need)}",
                need.at,
            )
    declared = part.asset.spec.specificationVersion
    if not part.path and declared > target.specification:
        yield Hit(
            f"the model declares specification version {declared}, which needs {targets_of(declared)}; "
            f"{target.name} reads {target.specification} at most"
        )


@rule(
    "os-forced-by",
    "note",
    "H",
    source=FORMAT,
    fix="if older systems matter, replace what is named here, or convert for an older target",
    triggers="""
        program("iOS17")
        x: fp16[2, 8] = input()
        i: int16[2, 8] = cast(x=x, dtype="int16")
        y: fp16[2, 8] = cast(x=i, dtype="fp16")
        output(y)
    """,
    quiet="""
        program("iOS15")
        x: fp32[2, 8] = input()
        y: fp32[2, 8] = relu(x=x)
        output(y)
    """,
)
def forced_by(part: Part, context: Context) -> Iterator[Hit]:
    """What keeps the model from older systems.

    The ops and features that need the highest version of all in the model: while one of them is there, no
    conversion can lower it. What needs no more than the kind of model itself is not named.
    """
    newest = context.needed
    if newest <= max(need_of_kind(entry) for entry in context.parts):
        return
    for need in part.needs:
        if need.specification == newest:
            yield Hit(f"{need.cause} needs {targets_of(newest)}{_instead(need)}", need.at)


@rule(
    "os-could-be-older",
    "note",
    "H",
    source=FORMAT,
    fix="convert with the older target (`coremlops convert --target`), when users of older systems matter",
    triggers="""
        program("iOS18")
        x: fp16[2, 8] = input()
        y: fp16[2, 8] = relu(x=x)
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[2, 8] = input()
        y: fp16[2, 8] = relu(x=x)
        output(y)
    """,
)
def could_be_older(part: Part, context: Context) -> Iterator[Hit]:
    """The declared version is newer than anything in the model needs.

    Converters write the version of the target that they were given. A newer one shuts older systems out,
    though it may also let the compiler choose better kernels.
    """
    if part.path:
        return
    declared = part.asset.spec.specificationVersion
    needed = context.needed
    unknown = any(
        not known_op(op.type) for entry in context.parts for body in entry.bodies for op in body.ops
    )
    if needed < declared and not unknown:
        yield Hit(
            f"specification version {declared} ({targets_of(declared)}) is declared; "
            f"nothing in the model needs more than {needed} ({targets_of(needed)})"
        )


@rule(
    "os-newer-than-declared",
    "error",
    "H",
    source=FORMAT,
    fix="convert again with a target that has the op; a file edited by hand is often the cause",
    triggers="""
        program("iOS16")
        q: fp16[1, 4, 8, 16] = input()
        y: fp16[1, 4, 8, 16] = scaled_dot_product_attention(query=q, key=q, value=q)
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 4, 8, 16] = input()
        y: fp16[1, 4, 8, 16] = softmax(x=x, axis=-1)
        output(y)
    """,
)
def newer_than_declared(part: Part, context: Context) -> Iterator[Hit]:
    """An op that the declared version does not have.

    Systems that accept the file by its version meet an op that they do not know: the model fails there when
    it is compiled.
    """
    declared = part.asset.spec.specificationVersion
    for body in part.bodies:
        own = OPSETS.get(body.function.opset, declared)
        for op in body.ops:
            needed, why = op_needs(op)
            if needed > own:
                detail = f" ({why})" if why else ""
                yield Hit(
                    f"{op.type}{detail} needs {targets_of(needed)}; the function is written for "
                    f"{body.function.opset}, {targets_of(own)}",
                    op,
                )
    for need in part.needs:
        if need.specification > declared and isinstance(need.at, str | Layer):
            yield Hit(
                f"{need.cause} needs {targets_of(need.specification)}; the model declares version {declared}",
                need.at,
            )


@rule(
    "os-unknown-op",
    "warning",
    "M",
    source="coremltools 9.0's op registry",
    fix="check the name; if Apple has added it since, lint with a newer coremlops",
    triggers="""
        program("iOS18")
        x: fp16[2, 8] = input()
        y: fp16[2, 8] = frobnicate(x=x)
        output(y)
    """,
    quiet="""
        program("iOS18")
        x: fp16[2, 8] = input()
        y: fp16[2, 8] = relu(x=x)
        output(y)
    """,
)
def unknown_op(part: Part, context: Context) -> Iterator[Hit]:
    """An op that coremltools does not know.

    Nothing can be said of the systems that have it.
    """
    for body in part.bodies:
        for op in body.ops:
            if not known_op(op.type):
                yield Hit(f"no op {op.type!r} is known", op)


@rule(
    "os-device-too-old",
    "error",
    "M",
    source="Apple's lists of devices that iOS 17 and iOS 26 dropped",
    fix="convert for an older target, or leave the device out",
    triggers="""
        lint(device="iPhone X")
        program("iOS17")
        x: fp16[2, 8] = input()
        y: fp16[2, 8] = relu(x=x)
        output(y)
    """,
    quiet="""
        lint(device="iPhone X")
        program("iOS16")
        x: fp16[2, 8] = input()
        y: fp16[2, 8] = relu(x=x)
        output(y)
    """,
)
def device_too_old(part: Part, context: Context) -> Iterator[Hit]:
    """A device that never gets a system which reads the model.

    Some iPhones stay on an older iOS for good.
    """
    from coremlops.model.description import MINIMUM_TARGETS

    if part.path:
        return
    declared = part.asset.spec.specificationVersion
    first = MINIMUM_TARGETS.get(declared, {}).get("iOS", "0")
    for device in context.devices:
        if device.newest_ios and float(first) >= device.newest_ios + 1:
            yield Hit(f"{device.name} stays on iOS {device.newest_ios}; version {declared} needs iOS {first}")
