// The register tile all matrix products are made of: C[m,n] (+)= A[m,k] · B[k,n] in float32, where A's elements
// are broadcast (any strides) and B's rows are loaded as vectors (n a multiple of the vector length, or padded).
#pragma once
#include "simd.h"

namespace tstrain::TSTRAIN_ISA {

// Rows of a tile: 6×2 (12×2) accumulators leave room for the operands in 16 (32) registers.
#if defined(__AVX512F__)
constexpr int kTileRows = 12;
#else
constexpr int kTileRows = 6;
#endif
constexpr int kTileVectors = 2;
constexpr int kTileColumns = kTileVectors * kLanes;

// addend, if there is one, lies as C does, and may be C.
template <int Rows, int Vectors>
inline __attribute__((always_inline)) void tile(i64 k, const float* a, i64 row_stride, i64 column_stride,
                                                const float* b, i64 ldb, float* c, i64 ldc, const float* addend) {
  vfloat sum[Rows][Vectors];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; j++) sum[i][j] = vfloat{};
  for (i64 p = 0; p < k; p++) {
    vfloat row[Vectors];
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; j++) row[j] = load_vector(b + p * ldb + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < Rows; i++) {
      float x = a[i * row_stride + p * column_stride];
#pragma GCC unroll 4
      for (int j = 0; j < Vectors; j++) sum[i][j] += x * row[j];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < Rows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; j++) {
      i64 at = i * ldc + j * kLanes;
      store_vector(c + at, addend ? load_vector(addend + at) + sum[i][j] : sum[i][j]);
    }
}

// Any m; n a multiple of kLanes.
template <int Vectors>
inline void panel(i64 m, i64 k, const float* a, i64 row_stride, i64 column_stride, const float* b, i64 ldb, float* c,
                  i64 ldc, bool accumulate) {
  i64 i = 0;
  auto rows = [&](auto count) {
    constexpr int n = decltype(count)::value;
    float* to = c + i * ldc;
    tile<n, Vectors>(k, a + i * row_stride, row_stride, column_stride, b, ldb, to, ldc, accumulate ? to : nullptr);
    i += n;
  };
  for (; i + kTileRows <= m;) rows(std::integral_constant<int, kTileRows>{});
  if constexpr (kTileRows > 8)
    if (i + 8 <= m) rows(std::integral_constant<int, 8>{});
  if (i + 4 <= m) rows(std::integral_constant<int, 4>{});
  if (i + 2 <= m) rows(std::integral_constant<int, 2>{});
  if (i + 1 <= m) rows(std::integral_constant<int, 1>{});
}

inline void small_gemm(i64 m, i64 n, i64 k, const float* a, i64 row_stride, i64 column_stride, const float* b, i64 ldb,
                       float* c, i64 ldc, bool accumulate) {
  i64 j = 0;
  for (; j + kTileColumns <= n; j += kTileColumns)
    panel<kTileVectors>(m, k, a, row_stride, column_stride, b + j, ldb, c + j, ldc, accumulate);
  for (; j < n; j += kLanes) panel<1>(m, k, a, row_stride, column_stride, b + j, ldb, c + j, ldc, accumulate);
}

}  // namespace tstrain::TSTRAIN_ISA
