// C = A·B + addend. Where oneDNN is there and has a fast way, it does the work; otherwise the built-in product below,
// blocked for the caches in the manner of Goto and van de Geijn (2008): B in panels of kDepth rows, A in blocks of
// kRows, both packed (and widened from bfloat16 while they are), and a register tile inside.
#include <algorithm>

#include "gemm_blocks.h"
#include "gemm_tile.h"
#include "kernels.h"
#include "onednn.h"
#include "threads.h"

namespace tstrain::TSTRAIN_ISA {

namespace {

struct Shape {
  i64 m, n, k;
  bool trans_a, trans_b;
};

// Packs rows i0…i0+rows of A, columns p0…p0+depth, as tiles of kTileRows: [tile][p][row], missing rows zero.
template <class T>
void pack_a(float* to, const T* a, const Shape& s, i64 i0, i64 rows, i64 p0, i64 depth) {
  i64 row_stride = s.trans_a ? 1 : s.k, column_stride = s.trans_a ? s.m : 1;
  for (i64 t = 0; t < rows; t += kTileRows) {
    i64 count = std::min<i64>(kTileRows, rows - t);
    const T* from = a + (i0 + t) * row_stride + p0 * column_stride;
    if (count < kTileRows) std::memset(to, 0, size_t(kTileRows * depth) * sizeof(float));
    if (s.trans_a) {
      for (i64 p = 0; p < depth; p++)
        for (i64 i = 0; i < count; i++) to[p * kTileRows + i] = load(from + p * column_stride + i);
    } else {
      for (i64 i = 0; i < count; i++)
        for (i64 p = 0; p < depth; p++) to[p * kTileRows + i] = load(from + i * row_stride + p);
    }
    to += kTileRows * depth;
  }
}

// Packs one panel of kTileColumns columns of B from column j0, rows p0…p0+depth: [p][column], missing ones zero.
template <class T>
void pack_b_panel(float* to, const T* b, const Shape& s, i64 j0, i64 columns, i64 p0, i64 depth) {
  if (columns < kTileColumns) std::memset(to, 0, size_t(kTileColumns * depth) * sizeof(float));
  if (s.trans_b) {
    const T* from = b + j0 * s.k + p0;
    i64 stride = s.k, whole_columns = columns / kLanes * kLanes, whole_depth = depth / kLanes * kLanes;
    for (i64 j = 0; j < whole_columns; j += kLanes)
      for (i64 p = 0; p < whole_depth; p += kLanes) {
        vfloat block[kLanes];
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; i++) block[i] = load_vector(from + (j + i) * stride + p);
        transpose(block);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; i++) store_vector(to + (p + i) * kTileColumns + j, block[i]);
      }
    for (i64 j = 0; j < columns; j++)
      for (i64 p = j < whole_columns ? whole_depth : 0; p < depth; p++)
        to[p * kTileColumns + j] = load(from + j * stride + p);
  } else {
    for (i64 p = 0; p < depth; p++) {
      const T* from = b + (p0 + p) * s.n + j0;
#pragma omp simd
      for (i64 j = 0; j < columns; j++) to[p * kTileColumns + j] = load(from + j);
    }
  }
}

static_assert(kGemmRows % kTileRows == 0 && kTileRows * kTileColumns <= 16 * 32);

// rows × width of C from `at` on = packed rows of A times a packed panel of B, plus those of the addend. edge: room for
// a tile.
template <class C>
void multiply_panel(C* c, const C* addend, i64 at, i64 ldc, const float* packed_a, const float* panel, i64 rows,
                    i64 width, i64 depth, float* edge) {
  for (i64 i = 0; i < rows; i += kTileRows) {
    i64 height = std::min<i64>(kTileRows, rows - i);
    C* to = c + at + i * ldc;
    const C* from = addend ? addend + at + i * ldc : nullptr;
    auto multiply = [&](auto tile_rows, float* sums, i64 ld, const float* added) {
      tile<decltype(tile_rows)::value, kTileVectors>(depth, packed_a + i * depth, 1, kTileRows, panel, kTileColumns,
                                                     sums, ld, added);
    };
    // The smallest tile that holds the rows there are.
    auto multiply_by = [&](auto tile_rows) {
      if constexpr (std::is_same_v<C, float>) {
        if (width == kTileColumns && height == tile_rows) return multiply(tile_rows, to, ldc, from);
      }
      multiply(tile_rows, edge, kTileColumns, nullptr);
      for (i64 y = 0; y < height; y++)
#pragma omp simd
        for (i64 x = 0; x < width; x++) {
          float value = edge[y * kTileColumns + x];
          store(to + y * ldc + x, from ? load(from + y * ldc + x) + value : value);
        }
    };
    if (height <= 2) multiply_by(std::integral_constant<int, 2>{});
    else if (height <= 4) multiply_by(std::integral_constant<int, 4>{});
    else if (kTileRows > 8 && height <= 8) multiply_by(std::integral_constant<int, 8>{});
    else multiply_by(std::integral_constant<int, kTileRows>{});
  }
}

// All of A, packed, fits into the room for a block of B, and a panel of B into that for a block of A.
bool few_rows(const Shape& s) {
  return s.m <= kGemmRows / 2 && round_up(s.m, kTileRows) * s.k <= kGemmDepth * kGemmColumns;
}
static_assert(kTileColumns <= kGemmRows);

// Threads share out the panels of B: one thread packs a panel and multiplies it while it is in the nearest cache, and
// reads B in the order of its memory. The sums are those of built_in(), bit for bit.
template <class T, class C>
void few_rows_built_in(C* c, const C* addend, const T* a, const T* b, const Shape& s, int threads, float* workspace) {
  i64 padded_rows = round_up(s.m, kTileRows);
#pragma omp parallel num_threads(threads)
  {
    float* panel = workspace + kGemmDepth * (kGemmColumns + kTileColumns) + omp_get_thread_num() * gemm_thread_floats();
    float* edge = panel + kGemmRows * kGemmDepth;
#pragma omp for schedule(static)
    for (i64 p0 = 0; p0 < s.k; p0 += kGemmDepth)
      pack_a(workspace + p0 * padded_rows, a, s, 0, s.m, p0, std::min(kGemmDepth, s.k - p0));
#pragma omp for schedule(static)
    for (i64 j0 = 0; j0 < s.n; j0 += kTileColumns) {
      i64 width = std::min<i64>(kTileColumns, s.n - j0);
      for (i64 p0 = 0; p0 < s.k; p0 += kGemmDepth) {
        i64 depth = std::min(kGemmDepth, s.k - p0);
        pack_b_panel(panel, b, s, j0, width, p0, depth);
        // What is packed next comes from memory while this is multiplied.
        i64 next_j = p0 + depth < s.k ? j0 : j0 + kTileColumns, next_p = p0 + depth < s.k ? p0 + depth : 0;
        for (i64 j = next_j; j < std::min(s.n, next_j + kTileColumns); j++)
          for (i64 p = next_p; p < std::min(s.k, next_p + kGemmDepth); p += 64 / i64(sizeof(T)))
            __builtin_prefetch(b + j * s.k + p, 0, 2);
        multiply_panel(c, p0 > 0 ? c : addend, j0, s.n, workspace + p0 * padded_rows, panel, s.m, width, depth, edge);
      }
    }
  }
}

template <class T, class C>
void built_in(C* c, const C* addend, const T* a, const T* b, const Shape& s, float* workspace) {
  int threads = s.m * s.n * s.k >= 64 * 64 * 64 ? thread_count() : 1;
  if (few_rows(s) && s.n >= threads * kTileColumns) return few_rows_built_in(c, addend, a, b, s, threads, workspace);
  float* packed_b = workspace;
  float* packed_a_all = workspace + kGemmDepth * (kGemmColumns + kTileColumns);
#pragma omp parallel num_threads(threads)
  {
    float* packed_a = packed_a_all + omp_get_thread_num() * gemm_thread_floats();
    float* edge = packed_a + kGemmRows * kGemmDepth;
    for (i64 j0 = 0; j0 < s.n; j0 += kGemmColumns) {
      i64 columns = std::min(kGemmColumns, s.n - j0), panels = (columns + kTileColumns - 1) / kTileColumns;
      for (i64 p0 = 0; p0 < s.k; p0 += kGemmDepth) {
        i64 depth = std::min(kGemmDepth, s.k - p0);
#pragma omp for schedule(static)
        for (i64 q = 0; q < panels; q++)
          pack_b_panel(packed_b + q * kTileColumns * depth, b, s, j0 + q * kTileColumns,
                       std::min<i64>(kTileColumns, columns - q * kTileColumns), p0, depth);
        // Blocks are cut so that each thread has some, whatever m is.
        i64 block = std::min(kGemmRows, round_up((s.m + threads - 1) / threads, kTileRows));
        i64 blocks = (s.m + block - 1) / block;
#pragma omp for schedule(dynamic)
        for (i64 t = 0; t < blocks; t++) {
          i64 i0 = t * block, rows = std::min(block, s.m - i0);
          pack_a(packed_a, a, s, i0, rows, p0, depth);
          for (i64 q = 0; q < panels; q++)
            multiply_panel(c, p0 > 0 ? c : addend, i0 * s.n + j0 + q * kTileColumns, s.n, packed_a,
                           packed_b + q * kTileColumns * depth, rows,
                           std::min<i64>(kTileColumns, columns - q * kTileColumns), depth, edge);
        }
      }
    }
  }
}

// One row times a matrix whose rows are contiguous (decoding a token): bound by memory, so no packing.
template <class T, class C>
void row_times_transposed(C* c, const C* addend, const T* a, const T* b, const Shape& s) {
#pragma omp parallel for schedule(static) if (s.n * s.k >= kParallelFrom)
  for (i64 j = 0; j < s.n; j++) {
    const T* row = b + j * s.k;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (i64 p = 0; p < s.k; p++) sum += load(a + p) * load(row + p);
    store(c + j, addend ? load(addend + j) + sum : sum);
  }
}

}  // namespace

void gemm(const Context& context, Out c, In a, In b, In addend, i64 m, i64 n, i64 k, bool trans_a, bool trans_b) {
  if (m == 0 || n == 0) return;
  if (k == 0) {
    if (addend) std::memmove(c.data, addend.data, size_t(m * n * size_of(c.dtype)));
    else std::memset(c.data, 0, size_t(m * n * size_of(c.dtype)));
    return;
  }
  Shape s{m, n, k, trans_a, trans_b};
  bool row = m == 1 && trans_b;
  if (!row && onednn_gemm(c, a, b, addend, m, n, k, trans_a, trans_b, context.workspace)) return;
  with_float_type(a.dtype, [&](auto* ta) {
    using T = std::remove_pointer_t<decltype(ta)>;
    with_float_type(c.dtype, [&](auto* tc) {
      using C = std::remove_pointer_t<decltype(tc)>;
      if constexpr (std::is_same_v<T, bf16> || std::is_same_v<C, float>) {
        const C* added = addend.as<C>();
        if (row) return row_times_transposed(c.as<C>(), added, a.as<T>(), b.as<T>(), s);
        // Sums over more than one panel of k would be rounded in between if C itself held them.
        if constexpr (std::is_same_v<C, bf16>) {
          if (k > kGemmDepth) {
            float* wide = static_cast<float*>(context.workspace) + gemm_pack_floats(thread_count());
            built_in<T, float>(wide, nullptr, a.as<T>(), b.as<T>(), s, static_cast<float*>(context.workspace));
            C* to = c.as<C>();
#pragma omp parallel for simd schedule(static) if (m * n >= kParallelFrom)
            for (i64 i = 0; i < m * n; i++) store(to + i, added ? load(added + i) + wide[i] : wide[i]);
            return;
          }
        }
        built_in(c.as<C>(), added, a.as<T>(), b.as<T>(), s, static_cast<float*>(context.workspace));
      }
    });
  });
}

}  // namespace tstrain::TSTRAIN_ISA
