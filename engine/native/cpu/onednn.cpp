#include "onednn.h"

#include "../row_steps.h"

#ifdef TSTRAIN_ONEDNN
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <list>
#include <oneapi/dnnl/dnnl.hpp>
#include <tuple>
#include <unordered_map>

#include "threads.h"
#endif

namespace tstrain {

namespace {
i64 whole_rows(i64 rows) { return i64(rounded_up(rows, kRowStep)); }
}  // namespace

i64 row_slack(DType type, i64 rows, i64 columns) {
  if (type != DType::bf16 || bf16_gemm() == Bf16Gemm::float32) return 0;
  return slack_of(whole_rows, rows, columns);
}

#ifndef TSTRAIN_ONEDNN

bool onednn_takes(DType) { return false; }
Bf16Gemm bf16_gemm() { return Bf16Gemm::float32; }
bool onednn_gemm(Out, In, In, In, i64, i64, i64, bool, bool, void*) { return false; }
i64 onednn_gemm_scratch(Out, In, In, In, i64, i64, i64, bool, bool) { return 0; }
const char* onednn_version() { return ""; }

#else

namespace {

using dnnl::memory;

const dnnl::engine& engine() {
  static const dnnl::engine e(dnnl::engine::kind::cpu, 0);
  return e;
}

dnnl::stream& stream() {
  static dnnl::stream s(engine());
  return s;
}

memory::data_type type_of(DType t) { return t == DType::bf16 ? memory::data_type::bf16 : memory::data_type::f32; }

using Key = std::tuple<DType, DType, i64, i64, i64, bool, bool, bool, int>;

struct KeyHash {
  size_t operator()(const Key& k) const {
    size_t h = 0;
    auto mix = [&](i64 x) { h = (h ^ size_t(x)) * 0x9e3779b97f4a7c15ull; };
    std::apply([&](auto... x) { (mix(i64(x)), ...); }, k);
    return h;
  }
};

struct Product {
  dnnl::matmul::primitive_desc description;
  dnnl::matmul primitive;
};

// Primitives are made per shape (code generation takes up to milliseconds) and kept, the least recently used
// going first: real rows bring ever new token counts. The code of one takes tens of kilobytes that no plan counts, so
// there are not many, and oneDNN's own cache, which would keep them longer, is switched off.
class Cache {
 public:
  Cache() { dnnl::set_primitive_cache_capacity(0); }

  const Product& get(const Key& key) {
    auto found = index_.find(key);
    if (found != index_.end()) {
      order_.splice(order_.begin(), order_, found->second);
      return found->second->second;
    }
    order_.emplace_front(key, make(key));
    index_[key] = order_.begin();
    if (order_.size() > kCapacity) {
      index_.erase(order_.back().first);
      order_.pop_back();
    }
    return order_.front().second;
  }

 private:
  static constexpr size_t kCapacity = 512;

  static Product make(const Key& key) {
    auto [tc, tab, m, n, k, trans_a, trans_b, accumulate, threads] = key;
    (void)threads;
    memory::desc a({m, k}, type_of(tab), trans_a ? memory::dims{1, m} : memory::dims{k, 1});
    memory::desc b({k, n}, type_of(tab), trans_b ? memory::dims{1, k} : memory::dims{n, 1});
    memory::desc c({m, n}, type_of(tc), memory::dims{n, 1});
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (accumulate) {
      dnnl::post_ops sum;
      sum.append_sum(1.f);
      attributes.set_post_ops(sum);
    }
#if DNNL_VERSION_MAJOR >= 3
    dnnl::matmul::primitive_desc description(engine(), a, b, c, attributes);
#else
    dnnl::matmul::primitive_desc description(dnnl::matmul::desc(a, b, c), attributes, engine());
#endif
    return {description, dnnl::matmul(description)};
  }

  std::list<std::pair<Key, Product>> order_;
  std::unordered_map<Key, std::list<std::pair<Key, Product>>::iterator, KeyHash> index_;
};

const Product& product(DType c, DType ab, i64 m, i64 n, i64 k, bool trans_a, bool trans_b, bool accumulate) {
  static Cache cache;
  return cache.get({c, ab, m, n, k, trans_a, trans_b, accumulate, thread_count()});
}

}  // namespace

// What oneDNN will use, not what the processor announces: the system may withhold AMX's registers, and ONEDNN_MAX_CPU_ISA
// may ask for less.
Bf16Gemm bf16_gemm() {
  static const Bf16Gemm path = [] {
    if (!onednn_version()[0]) return Bf16Gemm::float32;
    auto effective = unsigned(dnnl::get_effective_cpu_isa());
    // Each value has the bits of all that it includes.
    auto has = [&](dnnl::cpu_isa isa) { return (effective & unsigned(isa)) == unsigned(isa); };
    if (has(dnnl::cpu_isa::avx512_core_amx)) return Bf16Gemm::amx;
    return has(dnnl::cpu_isa::avx512_core_bf16) ? Bf16Gemm::avx512_bf16 : Bf16Gemm::float32;
  }();
  return path;
}

// sgemm needs no primitive per shape. For bfloat16 oneDNN is asked only where the processor multiplies it; its
// reference code elsewhere is slower than widening to float32 (gemm.cpp).
bool onednn_takes(DType ab) {
  static const bool used = onednn_version()[0];
  return used && (ab == DType::f32 || bf16_gemm() != Bf16Gemm::float32);
}

namespace {
// Rows of the slack that are summed over must add nothing.
void clear_slack(In t, i64 elements) {
  std::memset(const_cast<char*>(t.as<char>()) + t.numel * size_of(t.dtype), 0, size_t(elements * size_of(t.dtype)));
}

// oneDNN adds to what stands in C.
void bring(Out c, In addend, i64 elements) {
  if (!addend || addend.data == c.data) return;
  i64 bytes = elements * size_of(c.dtype);
  constexpr i64 kPiece = 64 << 10;
#pragma omp parallel for schedule(static) if (bytes > kPiece)
  for (i64 at = 0; at < bytes; at += kPiece)
    std::memcpy(c.as<char>() + at, addend.as<char>() + at, size_t(std::min(kPiece, bytes - at)));
}
}  // namespace

i64 onednn_gemm_scratch(Out c, In a, In b, In addend, i64 m, i64 n, i64 k, bool trans_a, bool trans_b) {
  if (a.dtype != DType::bf16 || !onednn_takes(a.dtype) || m == 0 || n == 0 || k == 0) return 0;
  Rows r = stepped(whole_rows, c, a, b, addend, m, n, k, trans_a, trans_b);
  auto& p = product(c.dtype, a.dtype, r.m, n, r.k, trans_a, trans_b, addend.present);
  return i64(p.description.scratchpad_desc().get_size());
}

bool onednn_gemm(Out c, In a, In b, In addend, i64 m, i64 n, i64 k, bool trans_a, bool trans_b, void* scratch) {
  if (!onednn_takes(a.dtype) || m == 0 || n == 0 || k == 0) return false;
  bring(c, addend, m * n);
  if (a.dtype == DType::f32 && c.dtype == DType::f32) {
    auto status = dnnl_sgemm(trans_a ? 'T' : 'N', trans_b ? 'T' : 'N', m, n, k, 1.f, a.as<float>(), trans_a ? m : k,
                             b.as<float>(), trans_b ? k : n, addend ? 1.f : 0.f, c.as<float>(), n);
    if (status != dnnl_success) throw OpError("oneDNN's sgemm fails with status " + std::to_string(int(status)));
    return true;
  }
  // Some tens of primitives serve a whole run instead of twenty new ones a step.
  Rows r = stepped(whole_rows, c, a, b, addend, m, n, k, trans_a, trans_b);
  if (r.k > k) {
    clear_slack(a, (r.k - k) * m);
    clear_slack(b, (r.k - k) * n);
  }
  auto& p = product(c.dtype, a.dtype, r.m, n, r.k, trans_a, trans_b, addend.present);
  auto bind = [&](const memory::desc& d, const void* data) { return memory(d, engine(), const_cast<void*>(data)); };
  p.primitive.execute(stream(), {{DNNL_ARG_SRC, bind(p.description.src_desc(), a.data)},
                                 {DNNL_ARG_WEIGHTS, bind(p.description.weights_desc(), b.data)},
                                 {DNNL_ARG_DST, bind(p.description.dst_desc(), c.data)},
                                 {DNNL_ARG_SCRATCHPAD, bind(p.description.scratchpad_desc(), scratch)}});
  stream().wait();
  return true;
}

const char* onednn_version() {
  static const std::string text = [] {
    const char* wanted = std::getenv("TSTRAIN_ONEDNN");
    if (wanted && !std::strcmp(wanted, "0")) return std::string();
    auto v = dnnl::version();
    return std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
  }();
  return text.c_str();
}

#endif

const char* name_of(Bf16Gemm path) {
  switch (path) {
    case Bf16Gemm::amx: return "amx";
    case Bf16Gemm::avx512_bf16: return "avx512_bf16";
    case Bf16Gemm::float32: return "float32";
  }
  return "?";
}

}  // namespace tstrain
