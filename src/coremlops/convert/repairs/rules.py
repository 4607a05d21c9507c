"""All repairs, in the order in which they act. `docs/repairs.md` is written from this table."""

from __future__ import annotations

from coremlops.convert.repairs import front, graph, program
from coremlops.convert.repairs.rule import Rule

RULES: tuple[Rule, ...] = (
    Rule(
        "training-mode",
        "a program saved in training mode drops values at random, or takes the batch's own mean",
        "refuses it and says where",
        program=program.training_mode,
        refuses=True,
    ),
    Rule(
        "wide-integers",
        "coremltools cuts integers off at 32 bits and says nothing",
        "refuses them and says where",
        program=program.wide_integers,
        refuses=True,
    ),
    Rule(
        "replay",
        "TorchScript with control flow, with strides and the like in attributes, or with a state that is "
        "set: `got tensor[1, str]`, `op 'setattr' not implemented`",
        "runs the program node by node on an example and traces it anew",
        program=program.replay,
    ),
    Rule(
        "dialect",
        "an exported program as it is saved, or one that was decomposed before it was saved, is refused: "
        "`Provided Dialect: TRAINING`, `does not handle/bind value at index 1`",
        "runs `run_decompositions({})` on it",
        program=program.dialect,
    ),
    Rule(
        "decompose",
        "`Unsupported fx node`: torch has the op, coremltools does not",
        "writes the op as the simpler ones that torch itself gives for it",
        program=program.decompose,
    ),
    Rule(
        "recurrent",
        "`Unsupported fx node lstm`: LSTM, GRU and RNN of an exported program",
        "reads them as coremltools reads them in TorchScript, so one `lstm` stays one op",
        ops={f"{kind}.input": front.recurrent for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
    ),
    Rule(
        "prelu",
        "PReLU with a weight a channel over rank 2, 3 or 5: `rank 3 or rank 5 input is only supported when`",
        "max(x, 0) - w * max(-x, 0)",
        ops={"prelu": front.prelu, "_prelu_kernel": front.prelu},
    ),
    Rule(
        "mask-ops",
        "how transformers build a mask: `new_ones` and `bitwise_or` are not implemented",
        "fill and logical_or",
        ops={"new_ones": front.new_ones, "bitwise_or": front.bitwise_or, "or": front.bitwise_or},
    ),
    Rule(
        "triangles",
        "torch.triu or tril of -inf, the mask of a decoder, is NaN: the other triangle is subtracted",
        "chooses instead",
        ops={"triu": front.triangle, "tril": front.triangle},
    ),
    Rule(
        "where-scalar",
        "torch.where(c, 0, x) of an exported program: `must have the same data type`",
        "both values in the type that torch gives the result",
        ops=dict.fromkeys(("where.scalarself", "where.scalarother", "where.scalar"), front.where_scalar),
    ),
    Rule(
        "missing-ops",
        "LSTMCell, GRUCell, log_sigmoid, logaddexp and celu of a traced model are not implemented",
        "the same by ops that are",
        ops={
            "unsafe_chunk": front.unsafe_chunk,
            "log_sigmoid": front.log_sigmoid,
            "logaddexp": front.logaddexp,
            "celu": front.celu,
        },
    ),
    Rule(
        "rms-norm",
        "RMSNorm of zeros is NaN, its eps counts by the largest |x|, and one without eps does not convert",
        "x * rsqrt(mean(x^2) + eps) * weight",
        ops={"rms_norm": front.rms_norm},
    ),
    Rule(
        "debug-map",
        "an exported program with a loop (a GRU) converts and cannot be saved: `Multi-block case`",
        "leaves out coremltools' map of debug handles, which coremlops' origins replace",
        graph=graph.debug_map,
    ),
    Rule(
        "mask-range",
        "a mask of torch.finfo.min is -inf in 16 bits, so 0 times it, or a row of it alone, is NaN",
        "-30000 instead, where the value goes to a softmax alone: exp of it is 0 as well",
        graph=graph.mask_range,
        float16=True,
    ),
    Rule(
        "log-softmax",
        "log(softmax(x)) is -inf from 17 below the largest on in 16 bits (coremltools #2728)",
        "x - m - log(sum(exp(x - m))), m the largest x",
        graph=graph.log_softmax,
        float16=True,
    ),
    Rule(
        "log-cumsum-exp",
        "log(cumsum(exp(x))) is infinite from 11.09 on in 16 bits (coremltools #2729)",
        "by doubling, with max(a, b) + log(1 + exp(-|a - b|))",
        graph=graph.log_cumsum_exp,
        float16=True,
    ),
    Rule(
        "log-sum-exp",
        "logsumexp falls to 0 on the Neural Engine where the sum passes 65504, "
        "for 32 channels from 7.63 on (coremltools #2690)",
        "m + log(sum(exp(x - m))), m the largest x",
        graph=graph.log_sum_exp,
        float16=True,
    ),
    Rule(
        "softplus",
        "softplus and mish fall to 0 on the Neural Engine from 10.4 on (coremltools #2687)",
        "max(x, 0) + log(1 + exp(-|x|))",
        graph=graph.softplus,
        float16=True,
    ),
    Rule(
        "squares",
        "a norm by hand: x^2 is infinite from 256 on in 16 bits, and an eps below 6e-8 is none",
        "m * sqrt(mean((x/m)^2) + eps/m^2), m the larger of sqrt(eps) and the largest |x|",
        graph=graph.squares,
        float16=True,
    ),
)

_NAMES = [rule.name for rule in RULES]
if len(set(_NAMES)) != len(_NAMES):
    raise ValueError(f"two repairs of one name: {_NAMES}")
