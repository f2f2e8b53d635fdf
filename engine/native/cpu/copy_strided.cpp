#include "kernels.h"
#include "simd.h"

namespace tstrain::TSTRAIN_ISA {

namespace {
template <class T>
void copy(T* y, const T* x, const Four& d, const Four& ys, const Four& xs) {
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

void copy_strided(const Context&, Out y, In x, i64 y_offset, i64 x_offset, Four shape, Four y_strides, Four x_strides) {
  auto run = [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    copy(y.as<T>() + y_offset, x.as<T>() + x_offset, shape, y_strides, x_strides);
  };
  switch (size_of(y.dtype)) {
    case 1: return run(static_cast<std::uint8_t*>(nullptr));
    case 2: return run(static_cast<std::uint16_t*>(nullptr));
    case 4: return run(static_cast<std::uint32_t*>(nullptr));
    default: return run(static_cast<std::uint64_t*>(nullptr));
  }
}

}  // namespace tstrain::TSTRAIN_ISA
