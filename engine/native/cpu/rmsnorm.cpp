#include "kernels.h"
#include "simd.h"
#include "threads.h"

namespace tstrain::TSTRAIN_ISA {

namespace {

template <class T>
void forward(T* y, float* rstd, const T* x, const T* w, i64 rows, i64 dim, f64 eps) {
#pragma omp parallel for schedule(static) if (rows * dim >= kParallelFrom)
  for (i64 r = 0; r < rows; r++) {
    const T* xr = x + r * dim;
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (i64 i = 0; i < dim; i++) squares += load(xr + i) * load(xr + i);
    float scale = 1.f / std::sqrt(squares / float(dim) + float(eps));
    rstd[r] = scale;
    T* yr = y + r * dim;
#pragma omp simd
    for (i64 i = 0; i < dim; i++) store(yr + i, load(xr + i) * scale * load(w + i));
  }
}

template <class T, class W>
void backward(T* dx, W* dw, float* partial, const T* dy, const T* x, const T* w, const float* rstd, const T* dresidual,
              i64 rows, i64 dim) {
  int wanted = rows * dim >= kParallelFrom ? thread_count() : 1;
  if (dw) std::memset(partial, 0, size_t(wanted) * size_t(dim) * sizeof(float));
#pragma omp parallel num_threads(wanted)
  {
    // OpenMP may grant fewer threads than were asked for (OMP_THREAD_LIMIT).
    i64 t = omp_get_thread_num(), threads = omp_get_num_threads();
    float* mine = partial + t * dim;
    for (i64 r = rows * t / threads; r < rows * (t + 1) / threads; r++) {
      const T *xr = x + r * dim, *dyr = dy + r * dim;
      T* dxr = dx + r * dim;
      float s = rstd[r], dot = 0;
#pragma omp simd reduction(+ : dot)
      for (i64 i = 0; i < dim; i++) dot += load(dyr + i) * load(w + i) * load(xr + i);
      float c = dot * s * s / float(dim);
      if (dw) {
#pragma omp simd
        for (i64 i = 0; i < dim; i++) mine[i] += load(dyr + i) * load(xr + i) * s;
      }
      if (dresidual) {
        const T* drr = dresidual + r * dim;
#pragma omp simd
        for (i64 i = 0; i < dim; i++)
          store(dxr + i, load(drr + i) + s * (load(w + i) * load(dyr + i) - load(xr + i) * c));
      } else {
#pragma omp simd
        for (i64 i = 0; i < dim; i++) store(dxr + i, s * (load(w + i) * load(dyr + i) - load(xr + i) * c));
      }
    }
  }
  if (!dw) return;
#pragma omp simd
  for (i64 i = 0; i < dim; i++) {
    float sum = load(dw + i);
    for (int t = 0; t < wanted; t++) sum += partial[t * dim + i];
    store(dw + i, sum);
  }
}

}  // namespace

void rmsnorm_forward(const Context&, Out y, Out rstd, In x, In w, i64 rows, i64 dim, f64 eps) {
  with_float_type(x.dtype, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    forward(y.as<T>(), rstd.as<float>(), x.as<T>(), w.as<T>(), rows, dim, eps);
  });
}

void rmsnorm_backward(const Context& context, Out dx, Out dw, In dy, In x, In w, In rstd, In dresidual, i64 rows,
                      i64 dim) {
  with_float_type(x.dtype, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    with_float_type(dw.dtype, [&](auto* tw) {
      using W = std::remove_pointer_t<decltype(tw)>;
      backward(dx.as<T>(), dw.as<W>(), static_cast<float*>(context.workspace), dy.as<T>(), x.as<T>(), w.as<T>(),
               rstd.as<float>(), dresidual.as<T>(), rows, dim);
    });
  });
}

}  // namespace tstrain::TSTRAIN_ISA
