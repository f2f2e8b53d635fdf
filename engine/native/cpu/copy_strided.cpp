#include "kernels.h"
#include "simd.h"

namespace tstrain::TSTRAIN_ISA {

namespace {
template <class T>
void copy(T* y, const T* x, const i64 (&d)[4], const i64 (&ys)[4], const i64 (&xs)[4]) {
  i64 rows = d[0] * d[1] * d[2];
#pragma omp parallel for schedule(static) if (rows * d[3] >= kParallelFrom)
  for (i64 row = 0; row < rows; row++) {
    i64 i2 = row % d[2], i1 = row / d[2] % d[1], i0 = row / d[2] / d[1];
    T* to = y + i0 * ys[0] + i1 * ys[1] + i2 * ys[2];
    const T* from = x + i0 * xs[0] + i1 * xs[1] + i2 * xs[2];
    if (ys[3] == 1 && xs[3] == 1) std::memcpy(to, from, size_t(d[3]) * sizeof(T));
    else
      for (i64 i = 0; i < d[3]; i++) to[i * ys[3]] = from[i * xs[3]];
  }
}
}  // namespace

void copy_strided(const Context&, Out y, In x, i64 y_offset, i64 x_offset, i64 d0, i64 d1, i64 d2, i64 d3, i64 y0,
                  i64 y1, i64 y2, i64 y3, i64 x0, i64 x1, i64 x2, i64 x3) {
  const i64 d[4] = {d0, d1, d2, d3}, ys[4] = {y0, y1, y2, y3}, xs[4] = {x0, x1, x2, x3};
  auto run = [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    copy(y.as<T>() + y_offset, x.as<T>() + x_offset, d, ys, xs);
  };
  switch (size_of(y.dtype)) {
    case 1: return run(static_cast<std::uint8_t*>(nullptr));
    case 2: return run(static_cast<std::uint16_t*>(nullptr));
    case 4: return run(static_cast<std::uint32_t*>(nullptr));
    default: return run(static_cast<std::uint64_t*>(nullptr));
  }
}

}  // namespace tstrain::TSTRAIN_ISA
