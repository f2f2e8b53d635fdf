// A libcublasLt.so without a card: NVIDIA's C interface, as much of it as the engine uses, over the simulated driver. It
// refuses what the real library refuses, with the status that the cuBLAS documentation names, and says on stderr why.
//
// Declared anew from that documentation, and not by the engine's header: a mistake there is to be found here.
//
// Where the documentation leaves something open, this one is stricter than any real library need be:
// - What was destroyed, or never made, is recognised (CUBLAS_STATUS_INVALID_VALUE). The real one reads freed memory.
// - An algorithm wants addresses and lines of 16 bytes; one wants 4. For less there is none, so that a caller meets an
//   operation without algorithms; which ones a real library lacks, no document says.
// - An algorithm given operands that are aligned to less than it needs is CUBLAS_STATUS_NOT_SUPPORTED.
// - Algorithms are the library's own: none is made up by a caller, or missing.
//
// CUDASIM_CUBLASLT_FASTEST says which of the algorithms for long sums is fastest: whole, parts or chance, of which the last
// adds its parts up in another order each time, though by its reduction scheme it should not; it is there only then.
//
// CUDASIM_CUBLASLT_FAIL=create:1, heuristic:2 or matmul:3 makes that call of cublasLtCreate, …AlgoGetHeuristic or Matmul
// fail (NOT_INITIALIZED, INTERNAL_ERROR, EXECUTION_FAILED).
#include <chrono>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "cudasim.h"

namespace {

enum Status {
  SUCCESS = 0,
  NOT_INITIALIZED = 1,
  INVALID_VALUE = 7,
  EXECUTION_FAILED = 13,
  INTERNAL_ERROR = 14,
  NOT_SUPPORTED = 15,
};

enum DataType { R_32F = 0, R_16BF = 14 };
constexpr int kCompute32F = 68;
enum Transposition { N = 0, T = 1 };
enum ReductionScheme : std::uint32_t { NONE = 0, INPLACE = 1, COMPUTE_TYPE = 2, ALL = 7, BY_CHANCE = 256 };

struct Handle {};
struct Description {
  int compute_type, scale_type;
  std::int32_t trans_a = N, trans_b = N;
};
struct Layout {
  int type;
  std::uint64_t rows, columns;
  std::int64_t ld;

  std::size_t element() const { return type == R_16BF ? 2 : 4; }
  std::size_t bytes() const { return ((columns - 1) * std::uint64_t(ld) + rows) * element(); }
};
struct Preference {
  std::uint64_t workspace = 0;
  std::uint32_t schemes = ALL;
  std::uint32_t alignment[4] = {256, 256, 256, 256};  // of A, B, C, D
};

// What a caller keeps of an algorithm: 64 bytes that mean nothing to it.
struct Algorithm {
  std::uint64_t mark, parts, scheme, alignment, workspace, m, n, k;
};
struct HeuristicResult {
  Algorithm algorithm;
  std::size_t workspace;
  int state;
  float waves;
  int reserved[4];
};
constexpr std::uint64_t kMark = 0x746c7361;

Status refuse(Status status, const char* format, ...) {
  std::va_list arguments;
  va_start(arguments, format);
  std::fputs("cublasLt: ", stderr);
  std::vfprintf(stderr, format, arguments);
  std::fputc('\n', stderr);
  va_end(arguments);
  return status;
}

// What is alive of a kind.
template <class T>
std::set<const void*>& live() {
  static auto& objects = *new std::set<const void*>;
  return objects;
}
template <class T>
bool alive(const T* object) {
  return live<T>().count(object) > 0;
}
template <class T>
Status make(T** to, const T& value) {
  if (!to) return refuse(INVALID_VALUE, "nowhere to put what is made");
  *to = new T(value);
  live<T>().insert(*to);
  return SUCCESS;
}
template <class T>
Status destroy(T* object, const char* what) {
  if (live<T>().erase(object) == 0) return refuse(INVALID_VALUE, "%s was destroyed before, or never made", what);
  delete object;
  return SUCCESS;
}

template <class T>
Status set(T& member, const void* value, std::size_t bytes, int attribute) {
  if (!value || bytes != sizeof(T))
    return refuse(INVALID_VALUE, "attribute %d takes %zu bytes, not %zu", attribute, sizeof(T), bytes);
  std::memcpy(&member, value, sizeof(T));
  return SUCCESS;
}

// Whether this call is to fail.
bool fails(const char* call) {
  static const char* wanted = std::getenv("CUDASIM_CUBLASLT_FAIL");
  if (!wanted) return false;
  std::string text = wanted;
  auto colon = text.find(':');
  if (text.substr(0, colon) != call) return false;
  static int left = std::atoi(text.c_str() + colon + 1);
  return --left == 0;
}

// Whether algorithms of these parts and scheme are the fastest, as CUDASIM_CUBLASLT_FASTEST has it.
bool is_fastest(std::uint64_t parts, std::uint64_t scheme) {
  static const char* wanted = std::getenv("CUDASIM_CUBLASLT_FASTEST");
  return wanted && !std::strcmp(wanted, scheme & BY_CHANCE ? "chance" : parts > 1 ? "parts" : "whole");
}

struct Sizes {
  std::uint64_t m, n, k;
};

Status check_operation(const Description* d, const Layout* a, const Layout* b, const Layout* c, const Layout* out,
                       Sizes& sizes) {
  if (!alive(d)) return refuse(INVALID_VALUE, "the description of the product was destroyed, or never made");
  for (auto* layout : {a, b, c, out})
    if (!alive(layout)) return refuse(INVALID_VALUE, "a layout was destroyed, or never made");
  for (auto* layout : {a, b, c, out}) {
    if (layout->rows == 0 || layout->columns == 0) return refuse(INVALID_VALUE, "a matrix has no elements");
    if (layout->ld < std::int64_t(layout->rows))
      return refuse(INVALID_VALUE, "columns of %llu elements are %lld apart", (unsigned long long)layout->rows,
                    (long long)layout->ld);
  }
  for (auto trans : {d->trans_a, d->trans_b})
    if (trans != N && trans != T) return refuse(INVALID_VALUE, "a transposition is %d", trans);
  auto m = d->trans_a ? a->columns : a->rows, k = d->trans_a ? a->rows : a->columns;
  auto k_of_b = d->trans_b ? b->columns : b->rows, n = d->trans_b ? b->rows : b->columns;
  auto text = [](std::uint64_t rows, std::uint64_t columns) {
    return std::to_string(rows) + " × " + std::to_string(columns);
  };
  if (k != k_of_b || out->rows != m || out->columns != n || c->rows != m || c->columns != n)
    return refuse(INVALID_VALUE, "op(A) is %s, op(B) %s, C %s, D %s", text(m, k).c_str(), text(k_of_b, n).c_str(),
                  text(c->rows, c->columns).c_str(), text(out->rows, out->columns).c_str());
  if (d->compute_type != kCompute32F || d->scale_type != R_32F)
    return refuse(NOT_SUPPORTED, "computing in %d with scales of %d is not simulated", d->compute_type, d->scale_type);
  // The table of supported types, for COMPUTE_32F with R_32F.
  bool supported = a->type == b->type && c->type == out->type &&
                   (a->type == R_16BF ? c->type == R_16BF || c->type == R_32F : a->type == R_32F && c->type == R_32F);
  if (!supported)
    return refuse(NOT_SUPPORTED, "no product of types A %d, B %d, C %d, D %d", a->type, b->type, c->type, out->type);
  sizes = {m, n, k};
  return SUCCESS;
}

bool aligned(std::uint64_t address, const Layout& layout, std::uint64_t bytes) {
  return address % bytes == 0 && std::uint64_t(layout.ld) * layout.element() % bytes == 0;
}

struct Queued {
  Sizes sizes;
  Description description;
  Layout a, b, c, d;
  std::uint64_t at_a, at_b, at_c, at_d, workspace;
  float alpha, beta;
  Algorithm algorithm;
};

float value(std::uint64_t at, const Layout& layout, std::uint64_t row, std::uint64_t column) {
  std::uint64_t i = column * std::uint64_t(layout.ld) + row;
  if (layout.type == R_32F) return reinterpret_cast<const float*>(at)[i];
  std::uint32_t bits = std::uint32_t(reinterpret_cast<const std::uint16_t*>(at)[i]) << 16;
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

void put(std::uint64_t at, const Layout& layout, std::uint64_t row, std::uint64_t column, float x) {
  std::uint64_t i = column * std::uint64_t(layout.ld) + row;
  if (layout.type == R_32F) {
    reinterpret_cast<float*>(at)[i] = x;
    return;
  }
  std::uint32_t bits;
  std::memcpy(&bits, &x, 4);
  // To nearest, ties to even; what is not a number stays none.
  std::uint32_t rounded = x != x ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  reinterpret_cast<std::uint16_t*>(at)[i] = std::uint16_t(rounded);
}

// Sums of k from `from` to `to`, in that order, in float32.
void multiply(const Queued& o, std::uint64_t from, std::uint64_t to, float* sums) {
  auto [m, n, k] = o.sizes;
  std::vector<float> a(m * (to - from));
  for (std::uint64_t p = from; p < to; p++)
    for (std::uint64_t i = 0; i < m; i++)
      a[(p - from) * m + i] = o.description.trans_a ? value(o.at_a, o.a, p, i) : value(o.at_a, o.a, i, p);
  for (std::uint64_t j = 0; j < n; j++) {
    float* column = sums + j * m;
    for (std::uint64_t i = 0; i < m; i++) column[i] = 0;
    for (std::uint64_t p = from; p < to; p++) {
      float b = o.description.trans_b ? value(o.at_b, o.b, j, p) : value(o.at_b, o.b, p, j);
      const float* row = a.data() + (p - from) * m;
      for (std::uint64_t i = 0; i < m; i++) column[i] += row[i] * b;
    }
  }
}

void run(const void* data) {
  auto& o = *static_cast<const Queued*>(data);
  if (cudasim_check_range(o.at_a, o.a.bytes(), 0, "cublasLtMatmul of A") != 0) return;
  if (cudasim_check_range(o.at_b, o.b.bytes(), 0, "cublasLtMatmul of B") != 0) return;
  if (o.beta != 0 && cudasim_check_range(o.at_c, o.c.bytes(), 0, "cublasLtMatmul of C") != 0) return;
  if (cudasim_check_range(o.at_d, o.d.bytes(), 1, "cublasLtMatmul of D") != 0) return;
  if (o.algorithm.workspace &&
      cudasim_check_range(o.workspace, o.algorithm.workspace, 1, "cublasLtMatmul of its workspace") != 0)
    return;
  // More than any product here takes, whatever else the machine does.
  if (std::getenv("CUDASIM_CUBLASLT_FASTEST") && !is_fastest(o.algorithm.parts, o.algorithm.scheme))
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  auto [m, n, k] = o.sizes;
  // Parts of k, which all stand in the workspace, where the algorithm has one, until they are added up.
  auto parts = o.algorithm.parts;
  std::vector<float> own(o.algorithm.workspace ? 0 : parts * m * n);
  float* sums = o.algorithm.workspace ? reinterpret_cast<float*>(o.workspace) : own.data();
  for (std::uint64_t part = 0; part < parts; part++)
    multiply(o, k * part / parts, k * (part + 1) / parts, sums + part * m * n);
  // With INPLACE, or by chance, any part may come first: another one each time.
  static std::uint64_t runs = 0;
  std::uint64_t first = o.algorithm.scheme == INPLACE || o.algorithm.scheme & BY_CHANCE ? runs++ : 0;
  for (std::uint64_t j = 0; j < n; j++)
    for (std::uint64_t i = 0; i < m; i++) {
      float sum = 0;
      for (std::uint64_t part = 0; part < parts; part++) sum += sums[(part + first) % parts * m * n + j * m + i];
      sum *= o.alpha;
      if (o.beta != 0) sum += o.beta * value(o.at_c, o.c, i, j);
      put(o.at_d, o.d, i, j, sum);
    }
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

Status cublasLtCreate(Handle** handle) {
  if (fails("create")) return refuse(NOT_INITIALIZED, "cublasLtCreate fails, as CUDASIM_CUBLASLT_FAIL has it");
  return make(handle, Handle{});
}

Status cublasLtDestroy(Handle* handle) { return destroy(handle, "the handle"); }

Status cublasLtGetProperty(int property, int* value) {
  static const int version[] = {12, 8, 4};
  if (!value || property < 0 || property > 2) return refuse(INVALID_VALUE, "no property %d", property);
  *value = version[property];
  return SUCCESS;
}

Status cublasLtMatmulDescCreate(Description** description, int compute_type, int scale_type) {
  return make(description, Description{compute_type, scale_type});
}
Status cublasLtMatmulDescDestroy(Description* description) { return destroy(description, "the description"); }
Status cublasLtMatmulDescSetAttribute(Description* description, int attribute, const void* value, std::size_t bytes) {
  if (!alive(description)) return refuse(INVALID_VALUE, "the description was destroyed, or never made");
  switch (attribute) {
    case 3: return set(description->trans_a, value, bytes, attribute);
    case 4: return set(description->trans_b, value, bytes, attribute);
  }
  return refuse(INVALID_VALUE, "attribute %d of a product is not simulated", attribute);
}

Status cublasLtMatrixLayoutCreate(Layout** layout, int type, std::uint64_t rows, std::uint64_t columns,
                                  std::int64_t ld) {
  return make(layout, Layout{type, rows, columns, ld});
}
Status cublasLtMatrixLayoutDestroy(Layout* layout) { return destroy(layout, "the layout"); }

Status cublasLtMatmulPreferenceCreate(Preference** preference) { return make(preference, Preference{}); }
Status cublasLtMatmulPreferenceDestroy(Preference* preference) { return destroy(preference, "the preference"); }
Status cublasLtMatmulPreferenceSetAttribute(Preference* preference, int attribute, const void* value,
                                            std::size_t bytes) {
  if (!alive(preference)) return refuse(INVALID_VALUE, "the preference was destroyed, or never made");
  switch (attribute) {
    case 1: return set(preference->workspace, value, bytes, attribute);
    case 3: return set(preference->schemes, value, bytes, attribute);
    case 5:
    case 6:
    case 7:
    case 8: return set(preference->alignment[attribute - 5], value, bytes, attribute);
  }
  return refuse(INVALID_VALUE, "preference %d is not simulated", attribute);
}

Status cublasLtMatmulAlgoGetHeuristic(Handle* handle, Description* description, Layout* a, Layout* b, Layout* c,
                                      Layout* d, Preference* preference, int most, HeuristicResult* results,
                                      int* count) {
  if (fails("heuristic")) return refuse(INTERNAL_ERROR, "the heuristic fails, as CUDASIM_CUBLASLT_FAIL has it");
  if (!alive(handle)) return refuse(NOT_INITIALIZED, "the handle was destroyed, or never made");
  if (!alive(preference) || most <= 0 || !results || !count)
    return refuse(INVALID_VALUE, "no preference, or no room for an algorithm");
  Sizes sizes;
  Status status = check_operation(description, a, b, c, d, sizes);
  if (status != SUCCESS) return status;
  *count = 0;
  auto [m, n, k] = sizes;
  // A long sum is done in parts first: of these some are added up in an order of chance, some through the workspace.
  const Algorithm all[] = {
      {kMark, 3, INPLACE, 16, 0, m, n, k},
      {kMark, 2, COMPUTE_TYPE, 16, 2 * m * n * 4, m, n, k},
      {kMark, 3, COMPUTE_TYPE | BY_CHANCE, 16, 0, m, n, k},
      {kMark, 1, NONE, 16, 0, m, n, k},
      {kMark, 1, NONE, 4, 0, m, n, k},
  };
  for (auto& algorithm : all) {
    if (algorithm.parts > 1 && k < 128) continue;
    if (algorithm.scheme != NONE && !(algorithm.scheme & preference->schemes)) continue;
    if (algorithm.scheme & BY_CHANCE && !is_fastest(algorithm.parts, algorithm.scheme)) continue;
    if (algorithm.workspace > preference->workspace) continue;
    auto& promised = preference->alignment;
    if (!aligned(promised[0], *a, algorithm.alignment) || !aligned(promised[1], *b, algorithm.alignment) ||
        !aligned(promised[2], *c, algorithm.alignment) || !aligned(promised[3], *d, algorithm.alignment))
      continue;
    if (*count < most) results[(*count)++] = {algorithm, std::size_t(algorithm.workspace), SUCCESS, 1.f, {}};
  }
  return *count > 0 ? SUCCESS : NOT_SUPPORTED;
}

Status cublasLtMatmulAlgoCheck(Handle* handle, Description* description, Layout* a, Layout* b, Layout* c, Layout* d,
                               const Algorithm* algorithm, HeuristicResult* result) {
  if (!alive(handle)) return refuse(NOT_INITIALIZED, "the handle was destroyed, or never made");
  if (!algorithm || !result) return refuse(INVALID_VALUE, "no algorithm, or no room for the result");
  Sizes sizes;
  Status status = check_operation(description, a, b, c, d, sizes);
  if (status != SUCCESS) return status;
  if (algorithm->mark != kMark || algorithm->m != sizes.m || algorithm->n != sizes.n || algorithm->k != sizes.k)
    return NOT_SUPPORTED;
  *result = {*algorithm, std::size_t(algorithm->workspace), SUCCESS, 1.f, {}};
  return SUCCESS;
}

Status cublasLtMatmul(Handle* handle, Description* description, const float* alpha, const void* a, Layout* layout_a,
                      const void* b, Layout* layout_b, const float* beta, const void* c, Layout* layout_c, void* d,
                      Layout* layout_d, const Algorithm* algorithm, void* workspace, std::size_t workspace_bytes,
                      void* stream) {
  if (fails("matmul")) return refuse(EXECUTION_FAILED, "the product fails, as CUDASIM_CUBLASLT_FAIL has it");
  if (!alive(handle)) return refuse(NOT_INITIALIZED, "the handle was destroyed, or never made");
  Sizes sizes;
  Status status = check_operation(description, layout_a, layout_b, layout_c, layout_d, sizes);
  if (status != SUCCESS) return status;
  if (!alpha || !beta || !a || !b || !d || (!c && *beta != 0)) return refuse(INVALID_VALUE, "a pointer is null");
  if (c == d && layout_c->ld != layout_d->ld) return refuse(INVALID_VALUE, "C is D, but their layouts differ");
  if (!algorithm || algorithm->mark != kMark) return refuse(INVALID_VALUE, "this is no algorithm of the heuristic's");
  if (algorithm->m != sizes.m || algorithm->n != sizes.n || algorithm->k != sizes.k)
    return refuse(INVALID_VALUE, "the algorithm is for a product of other sizes");
  if (algorithm->workspace > workspace_bytes || (algorithm->workspace && !workspace))
    return refuse(INVALID_VALUE, "the algorithm needs %llu bytes of workspace, there are %zu",
                  (unsigned long long)algorithm->workspace, workspace ? workspace_bytes : std::size_t(0));
  auto address = [](const void* p) { return std::uint64_t(reinterpret_cast<std::uintptr_t>(p)); };
  if (workspace_bytes && address(workspace) % 256 != 0)
    return refuse(INVALID_VALUE, "the workspace is not aligned to 256 bytes");
  if (!aligned(address(a), *layout_a, algorithm->alignment) || !aligned(address(b), *layout_b, algorithm->alignment) ||
      !aligned(address(c), *layout_c, algorithm->alignment) || !aligned(address(d), *layout_d, algorithm->alignment))
    return refuse(NOT_SUPPORTED, "the algorithm needs addresses and columns of %llu bytes",
                  (unsigned long long)algorithm->alignment);
  auto* operation =
      new Queued{sizes,      *description, *layout_a,  *layout_b,          *layout_c, *layout_d, address(a),
                 address(b), address(c),   address(d), address(workspace), *alpha,    *beta,     *algorithm};
  auto release = [](void* data) { delete static_cast<Queued*>(data); };
  if (cudasim_enqueue(stream, run, operation, release) == 0) return SUCCESS;
  delete operation;
  return refuse(EXECUTION_FAILED, "the card has failed before");
}

}  // extern "C"
#pragma GCC visibility pop
