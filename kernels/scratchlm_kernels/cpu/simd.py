"""What Numba can't say by itself: a register-tiled matrix product, a fast exp.

The product's innermost loop is LLVM IR: ``ROWS`` rows by up to ``VECTORS`` vectors of the result
stay in registers while the sum runs. On AVX-512 that is 4 rows of 4 vectors of 16 floats: 16
accumulators, and per step 4 loads of B, 4 broadcasts of A and 16 fused multiply-adds.
"""

from __future__ import annotations

import math
from typing import Any

import llvmlite.binding as llvm  # type: ignore[import-untyped]
import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import extending, types
from numba.np.arrayobj import make_array

from .compiling import helper

intrinsic: Any = extending.intrinsic  # what it makes is called with one argument less

_wide = bool(llvm.get_host_cpu_features().get("avx512f"))
VECTOR_BYTES = 64 if _wide else 32
VECTORS = 4 if _wide else 2
ROWS = 4
BESIDE = 4 if _wide else 2  # rows of both at a time: see dot_products


def lanes(dtype: np.dtype[Any]) -> int:
    """Numbers in a vector."""
    return VECTOR_BYTES // dtype.itemsize


def panel(dtype: np.dtype[Any]) -> int:
    """Columns of the result that one innermost loop makes."""
    return VECTORS * lanes(dtype)


def round_up(n: int, step: int) -> int:
    return -(-n // step) * step


def _tile(vectors: int) -> Any:
    """An intrinsic: ``ROWS`` rows and ``vectors`` vectors of ``C = [C +] A B``."""

    @intrinsic
    def tile(context, A, a, a_row, a_k, B, b, b_row, C, c, c_row, K, add):
        n = types.intp
        signature = types.void(A, n, n, n, B, n, n, C, n, n, n, types.boolean)

        def generate(context, builder, signature, arguments):
            _, a, a_row, a_k, _, b, b_row, _, c, c_row, K, add = arguments
            kind = signature.args[0].dtype
            real: ir.Type = ir.FloatType() if kind == types.float32 else ir.DoubleType()
            width = VECTOR_BYTES * 8 // kind.bitwidth
            vector = ir.VectorType(real, width)
            index = ir.IntType(64)
            zero = ir.Constant(vector, [0.0] * width)

            def number(value: int) -> ir.Constant:
                return ir.Constant(index, value)

            def pointer(position: int, offset: Any) -> Any:
                array = make_array(signature.args[position])(context, builder, arguments[position])
                data = builder.bitcast(array.data, real.as_pointer())
                return builder.gep(data, [offset])

            def load(at: Any, offset: Any) -> Any:
                where = builder.bitcast(builder.gep(at, [offset]), vector.as_pointer())
                loaded = builder.load(where)
                loaded.align = kind.bitwidth // 8
                return loaded

            pa, pb, pc = pointer(0, a), pointer(4, b), pointer(7, c)
            grid = [(i, j) for i in range(ROWS) for j in range(vectors)]
            places = {
                (i, j): builder.add(builder.mul(number(i), c_row), number(j * width))
                for i, j in grid
            }
            start = {at: builder.select(add, load(pc, places[at]), zero) for at in grid}
            before = builder.block
            loop = builder.append_basic_block("product")
            end = builder.append_basic_block("product.end")
            builder.cbranch(builder.icmp_signed("<", number(0), K), loop, end)

            builder.position_at_end(loop)
            k = builder.phi(index)
            k.add_incoming(number(0), before)
            sums = {at: builder.phi(vector) for at in grid}
            row = builder.mul(k, b_row)
            bs = [load(pb, builder.add(row, number(j * width))) for j in range(vectors)]
            column = builder.mul(k, a_k)
            new = {}
            for i in range(ROWS):
                at = builder.add(builder.mul(number(i), a_row), column)
                scalar = builder.load(builder.gep(pa, [at]))
                one = builder.insert_element(
                    ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0)
                )
                everywhere = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
                same = builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), everywhere)
                for j in range(vectors):
                    product = builder.fmul(same, bs[j], flags=("contract",))
                    new[i, j] = builder.fadd(sums[i, j], product, flags=("contract",))
            following = builder.add(k, number(1))
            k.add_incoming(following, loop)
            for at in grid:
                sums[at].add_incoming(start[at], before)
                sums[at].add_incoming(new[at], loop)
            builder.cbranch(builder.icmp_signed("<", following, K), loop, end)

            builder.position_at_end(end)
            last = {at: builder.phi(vector) for at in grid}
            for at in grid:
                last[at].add_incoming(start[at], before)
                last[at].add_incoming(new[at], loop)
            for at in grid:
                where = builder.bitcast(builder.gep(pc, [places[at]]), vector.as_pointer())
                stored = builder.store(last[at], where)
                stored.align = kind.bitwidth // 8
            return context.get_dummy_value()

        return signature, generate

    return tile


_tile1, _tile2, _tile3, _tile4 = (_tile(vectors) for vectors in (1, 2, 3, 4))


@helper
def matmul_add(A, a, a_row, a_k, B, b, b_row, b_panel, C, c, c_row, rows, columns, K, wide, add):
    """``C[:rows, :columns] = A B``, or ``+= A B`` if ``add``.

    Element (i, k) of A is at ``a + i a_row + k a_k`` of its array; (k, j) of B, in panels of
    ``wide * VECTORS`` columns, at ``b + (panel number) b_panel + k b_row + (column in panel)``;
    (i, j) of C at ``c + i c_row + j``. ``rows`` is rounded up to ROWS, ``columns`` to ``wide``, the
    numbers in a vector: the arrays must have room.
    """
    step = wide * VECTORS
    for j in range(0, columns, step):
        bj = b + (j // step) * b_panel
        left = columns - j
        for i in range(0, rows, ROWS):
            ai = a + i * a_row
            cij = c + i * c_row + j
            if left > 3 * wide and VECTORS == 4:
                _tile4(A, ai, a_row, a_k, B, bj, b_row, C, cij, c_row, K, add)
            elif left > 2 * wide and VECTORS == 4:
                _tile3(A, ai, a_row, a_k, B, bj, b_row, C, cij, c_row, K, add)
            elif left > wide:
                _tile2(A, ai, a_row, a_k, B, bj, b_row, C, cij, c_row, K, add)
            else:
                _tile1(A, ai, a_row, a_k, B, bj, b_row, C, cij, c_row, K, add)


def _dots(rows: int, columns: int) -> Any:
    """An intrinsic: ``C[i, j] = sum_k A[i, k] B[j, k]`` of so many rows of A and of B.

    A vector of partial sums for each of them stays in a register; what is left of the K terms
    beyond the last whole vector is summed one by one.
    """

    @intrinsic
    def dots(context, A, a, a_row, B, b, b_row, C, c, c_row, c_step, K):
        n = types.intp
        signature = types.void(A, n, n, B, n, n, C, n, n, n, n)

        def generate(context, builder, signature, arguments):
            _, a, a_row, _, b, b_row, _, c, c_row, c_step, K = arguments
            kind = signature.args[0].dtype
            real: ir.Type = ir.FloatType() if kind == types.float32 else ir.DoubleType()
            width = VECTOR_BYTES * 8 // kind.bitwidth
            vector = ir.VectorType(real, width)
            index, place = ir.IntType(64), ir.IntType(32)
            grid = [(i, j) for i in range(rows) for j in range(columns)]

            def number(value: int) -> ir.Constant:
                return ir.Constant(index, value)

            def lines(position: int, start: Any, step: Any, count: int) -> list[Any]:
                array = make_array(signature.args[position])(context, builder, arguments[position])
                at = builder.gep(builder.bitcast(array.data, real.as_pointer()), [start])
                return [builder.gep(at, [builder.mul(number(i), step)]) for i in range(count)]

            def load(line: Any, offset: Any, form: Any) -> Any:
                where = builder.bitcast(builder.gep(line, [offset]), form.as_pointer())
                loaded = builder.load(where)
                loaded.align = kind.bitwidth // 8
                return loaded

            def sum_up(form: Any, zero: Any, first: Any, last: Any, step: int) -> dict[Any, Any]:
                before = builder.block
                loop = builder.append_basic_block("dots")
                end = builder.append_basic_block("dots.end")
                builder.cbranch(builder.icmp_signed("<", first, last), loop, end)

                builder.position_at_end(loop)
                k = builder.phi(index)
                k.add_incoming(first, before)
                sums = {at: builder.phi(form) for at in grid}
                rights = [load(line, k, form) for line in rows_b]
                new = {}
                for i in range(rows):
                    left = load(rows_a[i], k, form)
                    for j in range(columns):
                        product = builder.fmul(left, rights[j], flags=("contract",))
                        new[i, j] = builder.fadd(sums[i, j], product, flags=("contract",))
                following = builder.add(k, number(step))
                k.add_incoming(following, loop)
                for at in grid:
                    sums[at].add_incoming(zero, before)
                    sums[at].add_incoming(new[at], loop)
                builder.cbranch(builder.icmp_signed("<", following, last), loop, end)

                builder.position_at_end(end)
                found = {at: builder.phi(form) for at in grid}
                for at in grid:
                    found[at].add_incoming(zero, before)
                    found[at].add_incoming(new[at], loop)
                return found

            rows_a, rows_b = lines(0, a, a_row, rows), lines(3, b, b_row, columns)
            whole = builder.and_(K, number(-width))
            nothing = ir.Constant(vector, [0.0] * width)
            sums = sum_up(vector, nothing, number(0), whole, width)
            rest = sum_up(real, ir.Constant(real, 0.0), whole, K, 1)
            for i, line in enumerate(lines(6, c, c_row, rows)):
                for j in range(columns):
                    lanes_left, total = width, sums[i, j]
                    while lanes_left > 1:  # the upper half is added to the lower one
                        lanes_left //= 2
                        order = [x % lanes_left + lanes_left for x in range(width)]
                        halves = ir.Constant(ir.VectorType(place, width), order)
                        upper = builder.shuffle_vector(total, total, halves)
                        total = builder.fadd(total, upper)
                    whole_sum = builder.extract_element(total, ir.Constant(place, 0))
                    result = builder.fadd(whole_sum, rest[i, j])
                    builder.store(result, builder.gep(line, [builder.mul(number(j), c_step)]))
            return context.get_dummy_value()

        return signature, generate

    return dots


_dots11, _dots21, _dots31, _dots41 = (_dots(rows, 1) for rows in (1, 2, 3, 4))
_dots1n, _dots2n, _dots3n, _dots4n = (_dots(rows, BESIDE) for rows in (1, 2, 3, 4))


@helper
def dot_products(A, a, a_row, B, b, b_row, C, c, c_row, rows, columns, K):
    """``C[:rows, :columns] = A Bᵀ``, where the rows of A and of B lie in memory as they are.

    Element (i, k) of A is at ``a + i a_row + k`` of its array, (j, k) of B at ``b + j b_row + k``,
    (i, j) of C at ``c + i c_row + j``. The rows of B that are taken together are far apart: each is
    then the next one of a long stretch, which the processor fetches ahead. All sums have one order,
    whatever else is computed beside them.
    """
    apart = columns // BESIDE
    step = apart * b_row
    single = columns - apart * BESIDE
    for j in range(apart + single):
        for i in range(0, rows, ROWS):
            ai, left = a + i * a_row, rows - i
            if j < apart:
                bj, cij = b + j * b_row, c + i * c_row + j
                if left >= 4:
                    _dots4n(A, ai, a_row, B, bj, step, C, cij, c_row, apart, K)
                elif left == 3:
                    _dots3n(A, ai, a_row, B, bj, step, C, cij, c_row, apart, K)
                elif left == 2:
                    _dots2n(A, ai, a_row, B, bj, step, C, cij, c_row, apart, K)
                else:
                    _dots1n(A, ai, a_row, B, bj, step, C, cij, c_row, apart, K)
            else:
                column = columns - single + j - apart
                bj, cij = b + column * b_row, c + i * c_row + column
                if left >= 4:
                    _dots41(A, ai, a_row, B, bj, 0, C, cij, c_row, 0, K)
                elif left == 3:
                    _dots31(A, ai, a_row, B, bj, 0, C, cij, c_row, 0, K)
                elif left == 2:
                    _dots21(A, ai, a_row, B, bj, 0, C, cij, c_row, 0, K)
                else:
                    _dots11(A, ai, a_row, B, bj, 0, C, cij, c_row, 0, K)


@numba.njit(fastmath={"nnan", "nsz"}, nogil=True)
def row_max(x):
    """The largest of ``x``. (LLVM compares several at a time only if told that none is NaN; a NaN
    gets lost here or not, and makes its row NaN later.)
    """
    high = x[0]
    for i in range(1, x.size):
        high = max(high, x[i])
    return high


@intrinsic
def _as_float(context, bits):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


_f = np.float32
_LOG2_E = _f(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = _f(0.693359375), _f(-2.12194440e-4)
_P0, _P1, _P2 = _f(1.9875691500e-4), _f(1.3981999507e-3), _f(8.3334519073e-3)
_P3, _P4, _P5 = _f(4.1665795894e-2), _f(1.6666665459e-1), _f(5.0000001201e-1)
_LOWEST, _HIGHEST = _f(-87.33), _f(88.37)
_HALF, _ONE, _ZERO = _f(0.5), _f(1), _f(0)


def exp(x):
    """``exp(x)``: in float32 a polynomial (Cephes' expf) that vectorizes, good to 1e-7; below -87
    it is 0, above 88 as at 88. NaN gives NaN. In float64 the C library's.
    """
    raise NotImplementedError  # Numba takes the overload below


@extending.overload(exp)
def _exp(x):
    if x != types.float32:
        return lambda x: math.exp(x)

    def float32(x):
        y = min(x, _HIGHEST)
        n = np.floor(y * _LOG2_E + _HALF)
        r = y - n * _LN2_HIGH
        r = r - n * _LN2_LOW
        p = _P0 * r + _P1
        p = p * r + _P2
        p = p * r + _P3
        p = p * r + _P4
        p = p * r + _P5
        p = p * r * r + r + _ONE
        p = p * _as_float((np.int32(n) + np.int32(127)) << np.int32(23))
        return _ZERO if x < _LOWEST else p

    return float32
