"""What a pass has between the base's products, as kernels in Triton; all but the last two for one token.

A mixture in torch's own functions is some fifteen kernels, of a few microseconds each whatever they compute; here it is
two: all that reads the input, and all that writes the output, residual and activation included.

Axes: P linears that read one input, E experts (1 without a router), R rank, K picked, I in_features, O out_features of
one. Everything is summed in float32. Shapes behind pointers: x [I], A [P, E, R, I], routers [P, E, I] and their bias
[P, E], h [P, E, R], logits [P, E], B [P, E, R, O] (linear after linear, where their O differ), masks [P, 4, E] as
`plan.masks_array` lays them out, rows [P, E+2K] as `Recorder` keeps them. Of the last two: N tokens, H query heads,
G key and value heads, D their size.
"""

from __future__ import annotations

import triton
import triton.language as tl

_LOWEST: tl.constexpr = tl.constexpr(-3.0e38)
"""Below any score that counts, above those already taken"""


@triton.jit
def _dot(x, weight, INPUTS: tl.constexpr, BLOCK: tl.constexpr):
    """Of two vectors [I]."""
    cols = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for at in tl.static_range(0, INPUTS, BLOCK):
        there = at + cols < INPUTS
        value = tl.load(x + at + cols, mask=there, other=0.0).to(tl.float32)
        total += value * tl.load(weight + at + cols, mask=there, other=0.0).to(tl.float32)
    return tl.sum(total, 0)


@triton.jit
def lowered(
    x,
    a,
    router,
    bias,
    h,
    logits,
    projected,  # P*E*R; the programs behind them take a router's row each
    INPUTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """h = A x and logits = routers x + bias, a row a program."""
    row = tl.program_id(0)
    if row < projected:
        tl.store(h + row, _dot(x, a + row * INPUTS, INPUTS, BLOCK))
    else:
        own = row - projected
        tl.store(logits + own, _dot(x, router + own * INPUTS, INPUTS, BLOCK) + tl.load(bias + own))


@triton.jit
def _lora(cols, there, outputs, h, b, R: tl.constexpr, R2: tl.constexpr):
    """B h of one expert for some of its outputs, in float32."""
    ranks = tl.arange(0, R2)
    ranked = ranks < R
    low = tl.load(h + ranks, mask=ranked, other=0.0)
    high = tl.load(b + ranks[:, None] * outputs + cols[None], mask=ranked[:, None] & there[None], other=0.0)
    return tl.sum(low[:, None] * high.to(tl.float32), 0)


@triton.jit
def _chosen(scores, experts, masks, E: tl.constexpr, K: tl.constexpr, MASKED: tl.constexpr):
    """Picks as `layers.choose` makes them: what ranks the picked, below all others, their weights, and which count."""
    real = experts < E
    ranked, values, sharpness, kept = scores, scores, 1.0, real
    if MASKED:
        ranked = scores + tl.load(masks + experts, mask=real, other=0.0)
        kept = tl.load(masks + E + experts, mask=real, other=0.0) != 0
        values = scores + tl.load(masks + 2 * E + experts, mask=real, other=0.0)
        sharpness = tl.load(masks + 3 * E)
    free = tl.where(real, tl.maximum(ranked, _LOWEST), -float("inf"))  # some score of its own for each expert there is
    for _ in tl.static_range(K):
        free = tl.where(experts == tl.argmax(free, 0), -float("inf"), free)
    picked = real & (free == -float("inf"))
    highest = tl.max(tl.where(picked, values, -float("inf")), 0)
    weights = tl.where(picked, tl.exp((values - highest) * sharpness), 0.0)
    weights = tl.where(kept, weights / tl.sum(weights, 0), 0.0)
    left = tl.where(picked, tl.maximum(values, _LOWEST), -float("inf"))
    return left, weights, kept


@triton.jit
def _next(left, experts, weights, kept):
    """The strongest that is left: its number, its weight, what the record calls it, and who is left then."""
    expert = tl.argmax(left, 0)
    own = experts == expert
    named = tl.where(tl.sum(tl.where(own & kept, 1, 0), 0) > 0, expert, -1).to(tl.float32)
    return expert, tl.sum(tl.where(own, weights, 0.0), 0), named, tl.where(own, -float("inf"), left)


@triton.jit
def _mixed(
    cols,
    there,
    outputs,
    h,
    b,
    logits,
    masks,
    rows,
    writes,  # whether this program is the one that says what was picked
    E: tl.constexpr,
    R: tl.constexpr,
    K: tl.constexpr,
    MASKED: tl.constexpr,
    E2: tl.constexpr,
    R2: tl.constexpr,
):
    """The same of a mixture: who is picked, and what the picked experts give."""
    experts = tl.arange(0, E2)
    scores = tl.load(logits + experts, mask=experts < E, other=0.0)
    left, weights, kept = _chosen(scores, experts, masks, E, K, MASKED)
    y = tl.zeros_like(cols).to(tl.float32)
    for place in tl.static_range(K):
        expert, weight, named, left = _next(left, experts, weights, kept)
        own = _lora(cols, there, outputs, h + expert * R, b + expert * R * outputs, R, R2)
        y += tl.where(weight == 0, 0.0, weight * own)  # one switched off must add nothing even where it overflows
        if writes:
            tl.store(rows + E + place, named)
            tl.store(rows + E + K + place, weight)
    if writes:
        tl.store(rows + experts, scores, mask=experts < E)
    return y


@triton.jit
def _adapted(
    cols,
    part,
    outputs,
    before,  # outputs of the linears ahead of this one
    base,
    h,
    b,
    logits,
    masks,
    rows,
    writes,
    scaling,
    E: tl.constexpr,
    R: tl.constexpr,
    K: tl.constexpr,
    MASKED: tl.constexpr,
    E2: tl.constexpr,
    R2: tl.constexpr,
):
    """Some outputs of one linear with what its adapter adds: K picked of E experts, none at all if R is 0."""
    there = cols < outputs
    y = tl.load(base + cols, mask=there, other=0.0).to(tl.float32)
    if R > 0:
        own_h, own_b = h + part * E * R, b + before * E * R
        if K > 0:
            own_logits, own_masks, own_rows = logits + part * E, masks + part * 4 * E, rows + part * (E + 2 * K)
            added = _mixed(
                cols, there, outputs, own_h, own_b, own_logits, own_masks, own_rows, writes, E, R, K, MASKED, E2, R2
            )
        else:
            added = _lora(cols, there, outputs, own_h, own_b, R, R2)
        y += scaling * added
    return y


@triton.jit
def raised(
    base0,  # [O], of up to three linears, whose widths may differ; a width of 0 where there are fewer
    base1,
    base2,
    residual,  # [sum of O]
    h,
    b,
    logits,
    masks,
    rows,
    out,  # [sum of O]
    outputs0,
    outputs1,
    outputs2,
    scaling,
    RESIDUAL: tl.constexpr,
    E: tl.constexpr,
    R: tl.constexpr,
    K: tl.constexpr,
    MASKED: tl.constexpr,
    E2: tl.constexpr,
    R2: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Linears side by side with their adapters, and with what was there before; a program for some outputs of one."""
    program = tl.program_id(0)
    second = tl.cdiv(outputs0, BLOCK)
    third = second + tl.cdiv(outputs1, BLOCK)
    part, first, before, outputs, base = 0, 0, 0, outputs0, base0
    if program >= third:
        part, first, before, outputs, base = 2, third, outputs0 + outputs1, outputs2, base2
    elif program >= second:
        part, first, before, outputs, base = 1, second, outputs0, outputs1, base1
    cols = (program - first) * BLOCK + tl.arange(0, BLOCK)
    writes = program == first
    y = _adapted(cols, part, outputs, before, base, h, b, logits, masks, rows, writes, scaling, E, R, K, MASKED, E2, R2)
    there = cols < outputs
    if RESIDUAL:
        y += tl.load(residual + before + cols, mask=there, other=0.0).to(tl.float32)
    tl.store(out + before + cols, y, mask=there)


@triton.jit
def gated(
    gate,
    up,
    h,
    b,
    logits,
    masks,
    rows,
    out,
    outputs,
    scaling,
    E: tl.constexpr,
    R: tl.constexpr,
    K: tl.constexpr,
    MASKED: tl.constexpr,
    E2: tl.constexpr,
    R2: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """silu(gate) * up of two linears of one width with their adapters."""
    cols = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    writes = tl.program_id(0) == 0
    g = _adapted(cols, 0, outputs, 0, gate, h, b, logits, masks, rows, writes, scaling, E, R, K, MASKED, E2, R2)
    u = _adapted(cols, 1, outputs, outputs, up, h, b, logits, masks, rows, writes, scaling, E, R, K, MASKED, E2, R2)
    tl.store(out + cols, g / (1 + tl.exp(-g)) * u, mask=cols < outputs)


@triton.jit
def normed(x, weight, out, epsilon, INPUTS: tl.constexpr, BLOCK: tl.constexpr):
    """RMSNorm of x [I], in one program."""
    cols = tl.arange(0, BLOCK)
    there = cols < INPUTS
    value = tl.load(x + cols, mask=there, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(value * value, 0) / INPUTS + epsilon)
    tl.store(out + cols, value * scale * tl.load(weight + cols, mask=there, other=0.0).to(tl.float32), mask=there)


@triton.jit(do_not_specialize=["room", "tokens"])  # they change as a text grows, and nothing is to be compiled then
def turned(
    states,  # [N, H+2G, D]
    cos,  # [N, D], sin too, signed as `Step._angles` has it
    sin,
    places,  # int64 [N], in the cache
    query,  # [H, N, D]
    buffer,  # [2, 1, G, room, D]
    room,
    tokens,
    scale,  # of the queries
    HEADS: tl.constexpr,
    GROUPS: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Queries and keys turned to their positions, keys and values put into the cache; a program a head and token."""
    head, token = tl.program_id(0), tl.program_id(1)
    cols = tl.arange(0, BLOCK)
    there = cols < SIZE
    at = states + (token * (HEADS + 2 * GROUPS) + head) * SIZE
    own = tl.load(at + cols, mask=there, other=0.0).to(tl.float32)
    if head < HEADS + GROUPS:
        other = tl.load(at + (cols + SIZE // 2) % SIZE, mask=there, other=0.0).to(tl.float32)
        angle = token * SIZE + cols
        own = own * tl.load(cos + angle, mask=there, other=0.0) + other * tl.load(sin + angle, mask=there, other=0.0)
    if head < HEADS:
        tl.store(query + (head * tokens + token) * SIZE + cols, own * scale, mask=there)
    else:
        row = (head - HEADS).to(tl.int64) * room + tl.load(places + token)  # of keys, and behind them of values
        tl.store(buffer + row * SIZE + cols, own, mask=there)


@triton.jit
def weighed(
    h,  # [N, P, E, R]
    logits,  # [N, P, E]
    masks,
    rows,  # a token's begin so far behind the one's before:
    apart,
    scaling,
    E: tl.constexpr,
    R: tl.constexpr,
    K: tl.constexpr,
    MASKED: tl.constexpr,
    E2: tl.constexpr,
    R2: tl.constexpr,
):
    """Of many tokens: picks, and h times the weights of the picked experts, in place; a program a token and linear."""
    token, part = tl.program_id(0), tl.program_id(1)
    one = token * tl.num_programs(1) + part
    experts, ranks = tl.arange(0, E2), tl.arange(0, R2)
    scores = tl.load(logits + one * E + experts, mask=experts < E, other=0.0)
    left, weights, kept = _chosen(scores, experts, masks + part * 4 * E, E, K, MASKED)
    cells = h + one * E * R + experts[:, None] * R + ranks[None]  # [E, R]
    there = (experts[:, None] < E) & (ranks[None] < R)
    gates = scaling * weights[:, None]
    low = tl.load(cells, mask=there, other=0.0).to(tl.float32)
    tl.store(cells, tl.where(gates == 0, 0.0, low * gates), mask=there)  # one switched off may overflow
    own = rows + token * apart + part * (E + 2 * K)
    tl.store(own + experts, scores, mask=experts < E)
    for place in tl.static_range(K):
        _, weight, named, left = _next(left, experts, weights, kept)
        tl.store(own + E + place, named)
        tl.store(own + E + K + place, weight)
