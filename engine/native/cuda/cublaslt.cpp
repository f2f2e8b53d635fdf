#include "cublaslt.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <tuple>

#include "card.h"
#include "libraries.h"

namespace tstrain::cuda {

namespace {

// Of the documentation's enums, what is used here.
constexpr int CUDA_R_32F = 0, CUDA_R_16BF = 14;
constexpr int CUBLAS_COMPUTE_32F = 68;  // never TF32, which has a value of its own
constexpr int CUBLAS_OP_T = 1;
constexpr int CUBLASLT_MATMUL_DESC_TRANSA = 3, CUBLASLT_MATMUL_DESC_TRANSB = 4;
constexpr int CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES = 1, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK = 3,
              CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES = 5, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES = 6,
              CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES = 7, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES = 8;
// Parts of a sum go through float32 in an order of their own: neither through C's type nor by atomics (INPLACE).
constexpr std::uint32_t CUBLASLT_REDUCTION_SCHEME_NONE = 0, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE = 2;

std::string name_of_status(cublasStatus_t status) {
  switch (status) {
    case 1: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case 3: return "CUBLAS_STATUS_ALLOC_FAILED";
    case 7: return "CUBLAS_STATUS_INVALID_VALUE";
    case 8: return "CUBLAS_STATUS_ARCH_MISMATCH";
    case 11: return "CUBLAS_STATUS_MAPPING_ERROR";
    case 13: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case 14: return "CUBLAS_STATUS_INTERNAL_ERROR";
    case 15: return "CUBLAS_STATUS_NOT_SUPPORTED";
    case 16: return "CUBLAS_STATUS_LICENSE_ERROR";
  }
  return "status " + std::to_string(status);
}

void check_status(cublasStatus_t status, const char* function) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw OpError(std::string(function) + " (" + cublaslt().path + ") fails with " + name_of_status(status) +
                "; TSTRAIN_CUBLASLT=0 does without");
}

// What is missing, or nothing.
std::string open(CublasLt& lt) {
  const char* wanted = std::getenv("TSTRAIN_CUBLASLT");
  if (wanted && !std::strcmp(wanted, "0")) return "not wanted (TSTRAIN_CUBLASLT=0)";
  card();
  Library library = open_library(sonames("libcublasLt", driver().version));
  if (!library.handle) return library.missing;
  lt.path = library.path;
#define TSTRAIN_LOAD(name, parameters)                                               \
  lt.name = reinterpret_cast<cublasStatus_t(*) parameters>(library.function(#name)); \
  if (!lt.name) return library.missing;
  TSTRAIN_CUBLASLT_FUNCTIONS(TSTRAIN_LOAD)
#undef TSTRAIN_LOAD
  for (int property : {0, 1, 2}) {  // MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL
    int value = 0;
    cublasStatus_t status = lt.cublasLtGetProperty(property, &value);
    if (status != CUBLAS_STATUS_SUCCESS)
      return "does not start: cublasLtGetProperty of " + lt.path + " fails with " + name_of_status(status);
    lt.version += (lt.version.empty() ? "" : ".") + std::to_string(value);
  }
  cublasStatus_t status = lt.cublasLtCreate(&lt.handle);
  if (status != CUBLAS_STATUS_SUCCESS)
    return "does not start: cublasLtCreate of " + lt.path + " fails with " + name_of_status(status);
  return "";
}

int type_of(DType type) { return type == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F; }

}  // namespace

const CublasLt& cublaslt() {
  static const CublasLt instance = [] {
    CublasLt lt{};
    lt.missing = open(lt);
    return lt;
  }();
  return instance;
}

std::string in_words(const Product& p) {
  return std::string(name_of(p.type_ab)) + (p.trans_a ? " Aᵀ" : " A") + (p.trans_b ? "·Bᵀ" : "·B") + " of " +
         std::to_string(p.m) + " × " + std::to_string(p.n) + " over " + std::to_string(p.k) + " at addresses of " +
         std::to_string(p.aligned_a) + " and " + std::to_string(p.aligned_b) + " bytes " +
         (p.adds ? "added to " : "to ") + name_of(p.type_c) + " of " + std::to_string(p.aligned_c);
}

i64 alignment(const void* address) {
  auto bits = reinterpret_cast<std::uintptr_t>(address) | 256;
  return i64(bits & -bits);
}

bool Product::operator==(const Product& other) const {
  auto all = [](const Product& p) {
    return std::make_tuple(p.type_c, p.type_ab, p.m, p.n, p.k, p.trans_a, p.trans_b, p.adds, p.aligned_c, p.aligned_a,
                           p.aligned_b);
  };
  return all(*this) == all(other);
}

// A row-major matrix as the library sees it, column by column: rows and columns change their places.
Matmul::Owned<cublasLtMatrixLayoutOpaque> Matmul::layout(DType type, i64 rows, i64 columns) {
  auto& lt = cublaslt();
  cublasLtMatrixLayout_t made;
  check_status(
      lt.cublasLtMatrixLayoutCreate(&made, type_of(type), std::uint64_t(columns), std::uint64_t(rows), columns),
      "cublasLtMatrixLayoutCreate");
  return {made, lt.cublasLtMatrixLayoutDestroy};
}

// Read column by column, C is Cᵀ = Bᵀ·Aᵀ: the library's first operand is our second, and an operand is to be transposed
// there just where it is here.
Matmul::Matmul(const Product& p)
    : product_(p),
      description_(nullptr, cublaslt().cublasLtMatmulDescDestroy),
      a_(p.trans_b ? layout(p.type_ab, p.n, p.k) : layout(p.type_ab, p.k, p.n)),
      b_(p.trans_a ? layout(p.type_ab, p.k, p.m) : layout(p.type_ab, p.m, p.k)),
      c_(layout(p.type_c, p.m, p.n)) {
  auto& lt = cublaslt();
  cublasLtMatmulDesc_t description;
  check_status(lt.cublasLtMatmulDescCreate(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
  description_.reset(description);
  auto transpose = [&](int attribute) {
    check_status(lt.cublasLtMatmulDescSetAttribute(description, attribute, &CUBLAS_OP_T, sizeof CUBLAS_OP_T),
                 "cublasLtMatmulDescSetAttribute");
  };
  if (p.trans_b) transpose(CUBLASLT_MATMUL_DESC_TRANSA);
  if (p.trans_a) transpose(CUBLASLT_MATMUL_DESC_TRANSB);
}

std::vector<cublasLtMatmulHeuristicResult_t> Matmul::algorithms(int most) const {
  auto& lt = cublaslt();
  cublasLtMatmulPreference_t preference;
  check_status(lt.cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
  cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
  auto prefer = [&](int attribute, auto value) {
    if (status == CUBLAS_STATUS_SUCCESS)
      status = lt.cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value);
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t(kCublasLtWorkspace));
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
  // Of the addresses alone: the layouts say how long the lines are.
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, std::uint32_t(product_.aligned_b));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, std::uint32_t(product_.aligned_a));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, std::uint32_t(product_.aligned_c));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, std::uint32_t(product_.aligned_c));
  std::vector<cublasLtMatmulHeuristicResult_t> found(static_cast<size_t>(most));
  int count = 0;
  if (status == CUBLAS_STATUS_SUCCESS)
    status = lt.cublasLtMatmulAlgoGetHeuristic(lt.handle, description_.get(), a_.get(), b_.get(), c_.get(), c_.get(),
                                               preference, most, found.data(), &count);
  lt.cublasLtMatmulPreferenceDestroy(preference);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return {};
  check_status(status, "cublasLtMatmulAlgoGetHeuristic");
  found.resize(static_cast<size_t>(count));
  found.erase(std::remove_if(found.begin(), found.end(), [](auto& f) { return f.state != CUBLAS_STATUS_SUCCESS; }),
              found.end());
  return found;
}

bool Matmul::takes(const cublasLtMatmulAlgo_t& algorithm) const {
  auto& lt = cublaslt();
  cublasLtMatmulHeuristicResult_t result{};
  cublasStatus_t status = lt.cublasLtMatmulAlgoCheck(lt.handle, description_.get(), a_.get(), b_.get(), c_.get(),
                                                     c_.get(), &algorithm, &result);
  return status == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= size_t(kCublasLtWorkspace);
}

cublasStatus_t Matmul::queue(void* c, const void* a, const void* b, const void* addend,
                             const cublasLtMatmulAlgo_t& algorithm, void* workspace, CUstream stream) const {
  auto& lt = cublaslt();
  float alpha = 1, beta = product_.adds ? 1 : 0;
  return lt.cublasLtMatmul(lt.handle, description_.get(), &alpha, b, a_.get(), a, b_.get(), &beta, addend, c_.get(), c,
                           c_.get(), &algorithm, workspace, size_t(kCublasLtWorkspace), stream);
}

void Matmul::run(void* c, const void* a, const void* b, const void* addend, const cublasLtMatmulAlgo_t& algorithm,
                 void* workspace, CUstream stream) const {
  check_status(queue(c, a, b, addend, algorithm, workspace, stream), "cublasLtMatmul");
}

}  // namespace tstrain::cuda
