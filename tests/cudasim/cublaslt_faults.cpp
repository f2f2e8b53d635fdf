// What a caller of cuBLASLt can do wrong, done on purpose through the engine's own declarations of it, one after the
// other: each line of the output is a fault and the status it got. Products without a fault stand between them.
//
//   cublaslt_faults          with the simulated driver and cuBLASLt in front of the real ones
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <vector>

#include "../../engine/native/cuda/card.h"
#include "../../engine/native/cuda/cublaslt.h"

using namespace tstrain;
using namespace tstrain::cuda;

namespace {

constexpr int kF32 = 0, kBf16 = 14, kCompute32F = 68, kTf32 = 77, kTransposed = 1;

char* memory(std::size_t bytes) {
  CUdeviceptr start;
  check(driver().cuMemAlloc_v2(&start, bytes), "allocating");
  check(driver().cuMemsetD8Async(start, 0, bytes, card().compute), "filling");
  return reinterpret_cast<char*>(start);
}

// D [m, n] = op(A)·op(B), column by column: all that a call is made of, right before a fault changes it.
struct Call {
  std::uint64_t m = 48, n = 32, k = 256;
  int compute = kCompute32F, scale = kF32;
  int type_a = kBf16, type_b = kBf16, type_c = kF32, type_d = kF32;
  int trans_a = kTransposed, trans_b = 0;
  std::uint64_t rows_a = k, columns_a = m, rows_b = k, columns_b = n;
  std::int64_t ld_a = std::int64_t(k), ld_b = std::int64_t(k), ld_c = std::int64_t(m), ld_d = ld_c;
  std::uint64_t allowed_workspace = 1 << 20;
  std::uint32_t schemes = 2, promised_alignment = 256;
  std::size_t workspace_bytes = 1 << 20;
  char *a, *b, *c, *d, *workspace;
  float alpha = 1, beta = 0;
  std::function<void(cublasLtHandle_t&, cublasLtMatmulDesc_t&, cublasLtMatrixLayout_t&)> before_heuristic,
      before_matmul;
  std::function<void(cublasLtMatmulHeuristicResult_t&)> spoil;
  bool without_alpha = false;
};

// The first status that is none of success, and which call it came from.
std::string outcome(Call call) {
  auto& lt = cublaslt();
  std::string said;
  auto wrong = [&](const char* function, cublasStatus_t status) {
    if (status != 0 && said.empty()) said = std::string(function) + " " + std::to_string(status);
    return status != 0;
  };
  cublasLtHandle_t handle = lt.handle;
  cublasLtMatmulDesc_t description;
  cublasLtMatrixLayout_t a, b, c, d;
  cublasLtMatmulPreference_t preference;
  wrong("DescCreate", lt.cublasLtMatmulDescCreate(&description, call.compute, call.scale));
  wrong("DescSet", lt.cublasLtMatmulDescSetAttribute(description, 3, &call.trans_a, sizeof(int)));
  wrong("DescSet", lt.cublasLtMatmulDescSetAttribute(description, 4, &call.trans_b, sizeof(int)));
  wrong("LayoutCreate", lt.cublasLtMatrixLayoutCreate(&a, call.type_a, call.rows_a, call.columns_a, call.ld_a));
  wrong("LayoutCreate", lt.cublasLtMatrixLayoutCreate(&b, call.type_b, call.rows_b, call.columns_b, call.ld_b));
  wrong("LayoutCreate", lt.cublasLtMatrixLayoutCreate(&c, call.type_c, call.m, call.n, call.ld_c));
  wrong("LayoutCreate", lt.cublasLtMatrixLayoutCreate(&d, call.type_d, call.m, call.n, call.ld_d));
  wrong("PreferenceCreate", lt.cublasLtMatmulPreferenceCreate(&preference));
  auto prefer = [&](int attribute, const void* value, std::size_t bytes) {
    wrong("PreferenceSet", lt.cublasLtMatmulPreferenceSetAttribute(preference, attribute, value, bytes));
  };
  prefer(1, &call.allowed_workspace, 8);
  prefer(3, &call.schemes, 4);
  for (int attribute : {5, 6, 7, 8}) prefer(attribute, &call.promised_alignment, 4);
  if (call.before_heuristic) call.before_heuristic(handle, description, a);
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  if (!wrong("Heuristic",
             lt.cublasLtMatmulAlgoGetHeuristic(handle, description, a, b, c, d, preference, 1, &found, &count))) {
    if (call.spoil) call.spoil(found);
    if (call.before_matmul) call.before_matmul(handle, description, a);
    if (!wrong("Matmul", lt.cublasLtMatmul(handle, description, call.without_alpha ? nullptr : &call.alpha, call.a, a,
                                           call.b, b, &call.beta, call.c, c, call.d, d, &found.algo, call.workspace,
                                           call.workspace_bytes, card().compute)))
      wrong("synchronize", driver().cuStreamSynchronize(card().compute));
  }
  return said.empty() ? "fine" : said;
}

}  // namespace

int main() {
  Call right;
  right.a = memory(right.rows_a * right.columns_a * 2);
  right.b = memory(right.rows_b * right.columns_b * 2);
  right.c = right.d = memory(right.m * right.n * 4);
  right.workspace = memory(right.workspace_bytes);
  auto fault = [&](const char* what, auto change) {
    Call call = right;
    change(call);
    std::printf("%s: %s\n", what, outcome(call).c_str());
    std::fflush(stdout);
  };
  auto& lt = cublaslt();
  fault("none", [](Call&) {});
  fault("columns closer than they are long", [](Call& c) { c.ld_a = std::int64_t(c.k) - 1; });
  fault("A not transposed", [](Call& c) { c.trans_a = 0; });
  fault("B transposed", [](Call& c) { c.trans_b = kTransposed; });
  fault("a transposition that there is none of", [](Call& c) { c.trans_b = 7; });
  fault("rows and columns of D changed over",
        [](Call& c) { std::swap(c.m, c.n), c.ld_c = c.ld_d = std::int64_t(c.m); });
  fault("A of another type than B", [](Call& c) { c.type_a = kF32; });
  fault("float32 to bfloat16", [](Call& c) { c.type_a = c.type_b = kF32, c.type_c = c.type_d = kBf16; });
  fault("C of another type than D", [](Call& c) { c.type_c = kBf16; });
  fault("computing in TF32", [](Call& c) { c.compute = kTf32; });
  fault("less workspace than was promised", [](Call& c) { c.workspace_bytes = 1024; });
  fault("no workspace", [](Call& c) { c.workspace = nullptr; });
  fault("a workspace at an odd address", [](Call& c) { c.workspace += 16, c.workspace_bytes -= 16; });
  fault("an address less aligned than was promised", [](Call& c) { c.a += 4, c.columns_a--, c.m--; });
  fault("lines that no algorithm takes", [](Call& c) { c.rows_a--, c.rows_b--, c.k--, c.ld_a--, c.ld_b--; });
  fault("addresses that no algorithm takes", [](Call& c) { c.promised_alignment = 2; });
  fault("no alpha", [](Call& c) { c.without_alpha = true; });
  fault("no A", [](Call& c) { c.a = nullptr; });
  fault("C in place with lines of its own", [](Call& c) { c.ld_c += 4; });
  fault("none", [](Call&) {});
  fault("a destroyed description", [&](Call& c) {
    c.before_matmul = [&](auto&, auto& description, auto&) { lt.cublasLtMatmulDescDestroy(description); };
  });
  fault("a destroyed layout", [&](Call& c) {
    c.before_heuristic = [&](auto&, auto&, auto& layout) { lt.cublasLtMatrixLayoutDestroy(layout); };
  });
  fault("a layout destroyed twice", [&](Call& c) {
    c.before_heuristic = [&](auto&, auto&, auto& layout) {
      lt.cublasLtMatrixLayoutDestroy(layout);
      std::printf("%d then ", lt.cublasLtMatrixLayoutDestroy(layout));
    };
  });
  fault("no handle", [](Call& c) { c.before_heuristic = [](auto& handle, auto&, auto&) { handle = nullptr; }; });
  fault("an algorithm of nobody's",
        [](Call& c) { c.spoil = [](auto& found) { std::memset(&found.algo, 0, sizeof found.algo); }; });
  fault("none", [](Call&) {});
  // The last one: the context does not survive it.
  fault("a matrix that ends beyond its memory", [](Call& c) { c.a += 256; });
}
