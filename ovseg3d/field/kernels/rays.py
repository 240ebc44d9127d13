"""Warp kernels along rays: march, merge, composite, distortion. Reference: `field/reference/rays.py`.

Field units: the innermost cascade of the occupancy grid reaches from -1 to 1, cascade c from -2^c to 2^c.
Samples are packed ray after ray: ray r owns samples offsets[r] to offsets[r + 1]. One thread handles one ray, front
to back, so that every kernel is deterministic.

`march` and `merge` do not know how many samples they will find. On a GPU they run twice: a pass that counts, then one
that writes. On the CPU threads run in order, so that one pass fills buffers of a known capacity: each ray begins where
the one before ended.
"""

from typing import no_type_check

import warp as wp

MODULE = wp.get_module("ovseg3d_rays")
MODULE.options["enable_backward"] = False
EIGHTH = wp.constant(wp.int64(0x330033))
"""The first 2 x 2 x 2 cells of a block of `CellBits`."""


@no_type_check
@wp.func
def largest(p: wp.vec3):
    """The largest absolute coordinate."""
    return wp.max(wp.max(wp.abs(p[0]), wp.abs(p[1])), wp.abs(p[2]))


@no_type_check
@wp.func
def exit_distance(p: wp.vec3, inverse: wp.vec3, ahead: wp.vec3, scale: wp.float32, side: wp.float32):
    """Distance at which a ray from p leaves its cell, in a lattice through the origin with cells of `side` = 1 / scale.

    `inverse` holds the reciprocals of the direction, `ahead` 1 along the axes on which it leaves by the upper border.
    """
    x = (wp.floor(p[0] * scale) + ahead[0]) * side - p[0]
    y = (wp.floor(p[1] * scale) + ahead[1]) * side - p[1]
    z = (wp.floor(p[2] * scale) + ahead[2]) * side - p[2]
    return wp.max(wp.min(wp.min(x * inverse[0], y * inverse[1]), z * inverse[2]), 0.0)


@no_type_check
@wp.func
def reciprocal(x: wp.float32):
    """1 / x; for a direction along no axis, a border that is never reached."""
    if wp.abs(x) > 1.0e-8:
        return 1.0 / x
    return wp.float32(1.0e10)


@no_type_check
@wp.kernel(module=MODULE)
def march(
    # rays, in field units
    origins: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    spans: wp.array(dtype=wp.vec2),
    jitter: wp.array(dtype=wp.float32),
    # grid: see `CellBits`
    words: wp.array(dtype=wp.int64),
    resolution: wp.int32,
    cascades: wp.int32,
    # options
    smallest_step: wp.float32,
    cone: wp.float32,
    in_order: wp.bool,
    # outputs: with empty `offsets`, counts and the start of each ray's first sample; otherwise samples
    counts: wp.array(dtype=wp.int32),
    starts: wp.array(dtype=wp.float32),
    offsets: wp.array(dtype=wp.int32),
    out_t: wp.array(dtype=wp.float32),
    out_step: wp.array(dtype=wp.float32),
    out_ray: wp.array(dtype=wp.int32),
    out_cell: wp.array(dtype=wp.int32),
):
    """Samples of one ray; see `FieldBackend.march`. `in_order`: one pass, which fills `offsets` too."""
    r = wp.tid()
    writing = offsets.shape[0] > 0
    o = origins[r]
    d = directions[r]
    end = spans[r][1]
    inverse = wp.vec3(reciprocal(d[0]), reciprocal(d[1]), reciprocal(d[2]))
    ahead = wp.vec3(
        wp.where(inverse[0] > 0.0, 1.0, 0.0), wp.where(inverse[1] > 0.0, 1.0, 0.0), wp.where(inverse[2] > 0.0, 1.0, 0.0)
    )
    t = spans[r][0]
    t = t + jitter[r] * wp.max(smallest_step, cone * t)
    count = wp.int32(0)
    first = wp.int32(0)
    limit = wp.int32(1 << 30)
    if writing:
        first = offsets[r]
        if in_order:
            limit = out_t.shape[0] - first
        else:
            limit = offsets[r + 1] - first
            # Start at the first sample: empty cells before it were skipped in the first pass.
            t = starts[r]
    blocks = (resolution + 3) // 4
    # Then a block that begins in one cascade ends in it.
    aligned = resolution % 16 == 0
    reach = wp.float32(1 << (cascades - 1))
    while t < end and count < limit:
        step = wp.max(smallest_step, cone * t)
        middle = t + 0.5 * step
        p = o + d * middle
        m = largest(p)
        if m >= reach:
            # Spans end where rays leave the grid, so this happens by rounding only.
            t += step
            continue
        cascade = wp.int32(0)
        half = wp.float32(1.0)
        scale = 0.5 * wp.float32(resolution)
        width = 2.0 / wp.float32(resolution)
        while m >= half:
            half *= 2.0
            scale *= 0.5
            width *= 2.0
            cascade += 1
        x = wp.min(wp.int32((p[0] + half) * scale), resolution - 1)
        y = wp.min(wp.int32((p[1] + half) * scale), resolution - 1)
        z = wp.min(wp.int32((p[2] + half) * scale), resolution - 1)
        word = words[((cascade * blocks + (z >> 2)) * blocks + (y >> 2)) * blocks + (x >> 2)]
        bit = wp.int64(1) << wp.int64(16 * (z & 3) + 4 * (y & 3) + (x & 3))
        if (word & bit) != wp.int64(0):
            if writing:
                out_t[first + count] = middle
                out_step[first + count] = step
                out_ray[first + count] = r
                out_cell[first + count] = ((cascade * resolution + z) * resolution + y) * resolution + x
            elif count == 0:
                starts[r] = t
            count += 1
            t += step
        else:
            # An empty block is skipped at once, and so is an eighth of it. The lattice begins at the cascade's corner.
            # A block may reach into the next finer cascade, which ends at +-half / 2, or beyond the last cell: stop
            # there too.
            if word == wp.int64(0):
                scale *= 0.25
                width *= 4.0
            elif (word & (EIGHTH << wp.int64(16 * (z & 2) + 4 * (y & 2) + (x & 2)))) == wp.int64(0):
                scale *= 0.5
                width *= 2.0
            leave = exit_distance(p + wp.vec3(half, half, half), inverse, ahead, scale, width)
            if not aligned:
                leave = wp.min(leave, exit_distance(p, inverse, ahead, 2.0 / half, 0.5 * half))
            # Whole steps, so that samples stay on the ray's own lattice.
            t += step * wp.max(wp.ceil(leave / step), 1.0)
    if not writing:
        counts[r] = count
    elif in_order:
        offsets[r + 1] = first + count


@no_type_check
@wp.kernel(module=MODULE)
def merge(
    density: wp.array(dtype=wp.float32),
    step: wp.array(dtype=wp.float32),
    offsets: wp.array(dtype=wp.int32),
    # options
    draws: wp.array(dtype=wp.float32),
    least_transmittance: wp.float32,
    quota: wp.float32,
    in_order: wp.bool,
    # outputs: weights and counts when `merged_offsets` is empty, groups otherwise
    weight: wp.array(dtype=wp.float32),
    counts: wp.array(dtype=wp.int32),
    merged_offsets: wp.array(dtype=wp.int32),
    index: wp.array(dtype=wp.int32),
    merged_step: wp.array(dtype=wp.float32),
):
    """Merge neighbouring samples of one ray; see `FieldBackend.merge`. `in_order`: one pass for all outputs."""
    r = wp.tid()
    writing = merged_offsets.shape[0] > 0
    weighing = in_order or not writing
    at = wp.int32(0)
    limit = wp.int32(1 << 30)
    if writing:
        at = merged_offsets[r]
        if in_order:
            limit = index.shape[0]
        else:
            limit = merged_offsets[r + 1]
    count = wp.int32(0)
    transmittance = wp.float32(1.0)
    entered = wp.float32(1.0)
    thickness = wp.float32(0.0)
    chosen = wp.int32(-1)
    last = offsets[r + 1] - 1
    for s in range(offsets[r], offsets[r + 1]):
        x = density[s] * step[s]
        passed = wp.exp(-x)
        if weighing:
            weight[s] = transmittance * (1.0 - passed)
        if transmittance > least_transmittance:
            thickness += x
            # Weighted reservoir sampling: one sweep keeps a sample of a group with probability x_i / sum x.
            if draws[s] * thickness < x:
                chosen = s
        transmittance *= passed
        closing = s == last or transmittance <= least_transmittance or entered - transmittance >= quota
        if closing and chosen >= 0:
            if writing and at < limit:
                index[at] = chosen
                merged_step[at] = thickness / density[chosen]
                at += 1
            count += 1
            entered = transmittance
            thickness = wp.float32(0.0)
            chosen = wp.int32(-1)
    if not writing:
        counts[r] = count
    elif in_order:
        merged_offsets[r + 1] = at


@no_type_check
@wp.kernel(module=MODULE)
def scatter_max(cell: wp.array(dtype=wp.int32), weight: wp.array(dtype=wp.float32), value: wp.array(dtype=wp.float32)):
    """Raise each cell's value to the largest weight of its samples."""
    s = wp.tid()
    # Unused rows have no weight. On a GPU all of them would wait for one cell.
    if weight[s] > 0.0:
        wp.atomic_max(value, cell[s], weight[s])


@no_type_check
@wp.kernel(module=MODULE)
def composite(
    density: wp.array(dtype=wp.float32),
    values: wp.array2d(dtype=wp.float32),
    t: wp.array(dtype=wp.float32),
    step: wp.array(dtype=wp.float32),
    offsets: wp.array(dtype=wp.int32),
    # outputs
    weight: wp.array(dtype=wp.float32),
    out: wp.array2d(dtype=wp.float32),
    opacity: wp.array(dtype=wp.float32),
    distance: wp.array(dtype=wp.float32),
):
    """Volume rendering of one ray, front to back; see `FieldBackend.composite`."""
    r = wp.tid()
    channels = values.shape[1]
    transmittance = wp.float32(1.0)
    total = wp.float32(0.0)
    far = wp.float32(0.0)
    for c in range(channels):
        out[r, c] = 0.0
    for s in range(offsets[r], offsets[r + 1]):
        passed = wp.exp(-density[s] * step[s])
        w = transmittance * (1.0 - passed)
        transmittance *= passed
        weight[s] = w
        total += w
        far += w * t[s]
        for c in range(channels):
            out[r, c] = out[r, c] + w * values[s, c]
    opacity[r] = total
    distance[r] = far


@no_type_check
@wp.kernel(module=MODULE)
def composite_gradient(
    # inputs and the forward pass's weights
    density: wp.array(dtype=wp.float32),
    values: wp.array2d(dtype=wp.float32),
    t: wp.array(dtype=wp.float32),
    step: wp.array(dtype=wp.float32),
    offsets: wp.array(dtype=wp.int32),
    weight: wp.array(dtype=wp.float32),
    # gradients of the outputs
    grad_weight: wp.array(dtype=wp.float32),
    grad_out: wp.array2d(dtype=wp.float32),
    grad_opacity: wp.array(dtype=wp.float32),
    grad_distance: wp.array(dtype=wp.float32),
    # gradients of the inputs
    grad_density: wp.array(dtype=wp.float32),
    grad_values: wp.array2d(dtype=wp.float32),
    grad_t: wp.array(dtype=wp.float32),
    grad_step: wp.array(dtype=wp.float32),
):
    """Gradient of `composite`, in two sweeps from the front."""
    # With x = density * step: dL/dx_i = T_{i+1} g_i - sum_{j>i} w_j g_j, where g = dL/dw.
    r = wp.tid()
    channels = values.shape[1]
    behind = wp.float32(0.0)
    for s in range(offsets[r], offsets[r + 1]):
        g = grad_weight[s] + grad_opacity[r] + grad_distance[r] * t[s]
        w = weight[s]
        for c in range(channels):
            g += grad_out[r, c] * values[s, c]
            grad_values[s, c] = grad_out[r, c] * w
        grad_t[s] = grad_distance[r] * w
        # Keep g for the second sweep, which needs the sum over the samples behind.
        grad_step[s] = g
        behind += w * g
    transmittance = wp.float32(1.0)
    for s in range(offsets[r], offsets[r + 1]):
        g = grad_step[s]
        behind -= weight[s] * g
        transmittance *= wp.exp(-density[s] * step[s])
        grad_x = transmittance * g - behind
        grad_density[s] = grad_x * step[s]
        grad_step[s] = grad_x * density[s]


@no_type_check
@wp.kernel(module=MODULE)
def distortion(
    weight: wp.array(dtype=wp.float32),
    t: wp.array(dtype=wp.float32),
    step: wp.array(dtype=wp.float32),
    offsets: wp.array(dtype=wp.int32),
    loss: wp.array(dtype=wp.float32),
    grad_weight: wp.array(dtype=wp.float32),
):
    """One ray's distortion and its gradient, in linear time; see `distortion` of the reference."""
    # sum_ij w_i w_j |t_i - t_j| = 2 sum_i w_i (t_i W_i - V_i) with W, V the sums of w and w t before i.
    r = wp.tid()
    mass = wp.float32(0.0)
    moment = wp.float32(0.0)
    for s in range(offsets[r], offsets[r + 1]):
        mass += weight[s]
        moment += weight[s] * t[s]
    before = wp.float32(0.0)
    before_moment = wp.float32(0.0)
    total = wp.float32(0.0)
    for s in range(offsets[r], offsets[r + 1]):
        w = weight[s]
        between = t[s] * before - before_moment
        before += w
        before_moment += w * t[s]
        after = (moment - before_moment) - t[s] * (mass - before)
        total += 2.0 * w * between + w * w * step[s] / 3.0
        grad_weight[s] = 2.0 * (between + after) + 2.0 * w * step[s] / 3.0
    loss[r] = total


@no_type_check
@wp.kernel(module=MODULE)
def median(
    weight: wp.array(dtype=wp.float32),
    t: wp.array(dtype=wp.float32),
    step: wp.array(dtype=wp.float32),
    offsets: wp.array(dtype=wp.int32),
    out: wp.array(dtype=wp.float32),
):
    """The distance at which half of the weight of one ray is reached."""
    r = wp.tid()
    half = wp.float32(0.0)
    for s in range(offsets[r], offsets[r + 1]):
        half += 0.5 * weight[s]
    before = wp.float32(0.0)
    found = wp.float32(0.0)
    for s in range(offsets[r], offsets[r + 1]):
        if before < half and before + weight[s] >= half:
            found = t[s] + step[s] * ((half - before) / weight[s] - 0.5)
        before += weight[s]
    out[r] = found
