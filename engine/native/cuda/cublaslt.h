// NVIDIA's cuBLASLt, as much of it as matrix products take: declared anew, since no header of CUDA's is needed to build,
// and found at run time, since a driver comes without it.
//
// Names, values and meanings are those of the cuBLAS documentation. Descriptors are made by the library (…Create), for
// their sizes differ between its versions.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../ops.h"
#include "driver.h"

namespace tstrain::cuda {

using cublasStatus_t = int;  // 0: success
using cublasLtHandle_t = struct cublasLtContext*;
using cublasLtMatmulDesc_t = struct cublasLtMatmulDescOpaque*;
using cublasLtMatrixLayout_t = struct cublasLtMatrixLayoutOpaque*;
using cublasLtMatmulPreference_t = struct cublasLtMatmulPreferenceOpaque*;

constexpr cublasStatus_t CUBLAS_STATUS_SUCCESS = 0, CUBLAS_STATUS_NOT_SUPPORTED = 15;

struct cublasLtMatmulAlgo_t {
  std::uint64_t data[8];
};
struct cublasLtMatmulHeuristicResult_t {
  cublasLtMatmulAlgo_t algo;
  std::size_t workspaceSize;
  cublasStatus_t state;
  float wavesCount;
  int reserved[4];
};

// FUNCTION(name, parameters), each of which returns a cublasStatus_t.
#define TSTRAIN_CUBLASLT_FUNCTIONS(FUNCTION)                                                                        \
  FUNCTION(cublasLtCreate, (cublasLtHandle_t * handle))                                                             \
  FUNCTION(cublasLtGetProperty, (int property, int* value))                                                         \
  FUNCTION(cublasLtMatmulDescCreate, (cublasLtMatmulDesc_t * description, int compute_type, int scale_type))        \
  FUNCTION(cublasLtMatmulDescSetAttribute,                                                                          \
           (cublasLtMatmulDesc_t description, int attribute, const void* value, std::size_t bytes))                 \
  FUNCTION(cublasLtMatmulDescDestroy, (cublasLtMatmulDesc_t description))                                           \
  FUNCTION(cublasLtMatrixLayoutCreate, (cublasLtMatrixLayout_t * layout, int type, std::uint64_t rows,              \
                                        std::uint64_t columns, std::int64_t leading_dimension))                     \
  FUNCTION(cublasLtMatrixLayoutDestroy, (cublasLtMatrixLayout_t layout))                                            \
  FUNCTION(cublasLtMatmulPreferenceCreate, (cublasLtMatmulPreference_t * preference))                               \
  FUNCTION(cublasLtMatmulPreferenceSetAttribute,                                                                    \
           (cublasLtMatmulPreference_t preference, int attribute, const void* value, std::size_t bytes))            \
  FUNCTION(cublasLtMatmulPreferenceDestroy, (cublasLtMatmulPreference_t preference))                                \
  FUNCTION(cublasLtMatmulAlgoGetHeuristic,                                                                          \
           (cublasLtHandle_t handle, cublasLtMatmulDesc_t description, cublasLtMatrixLayout_t a,                    \
            cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,                           \
            cublasLtMatmulPreference_t preference, int most, cublasLtMatmulHeuristicResult_t* results, int* count)) \
  FUNCTION(cublasLtMatmulAlgoCheck,                                                                                 \
           (cublasLtHandle_t handle, cublasLtMatmulDesc_t description, cublasLtMatrixLayout_t a,                    \
            cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,                           \
            const cublasLtMatmulAlgo_t* algorithm, cublasLtMatmulHeuristicResult_t* result))                        \
  FUNCTION(cublasLtMatmul,                                                                                          \
           (cublasLtHandle_t handle, cublasLtMatmulDesc_t description, const void* alpha, const void* a,            \
            cublasLtMatrixLayout_t layout_a, const void* b, cublasLtMatrixLayout_t layout_b, const void* beta,      \
            const void* c, cublasLtMatrixLayout_t layout_c, void* d, cublasLtMatrixLayout_t layout_d,               \
            const cublasLtMatmulAlgo_t* algorithm, void* workspace, std::size_t workspace_bytes, CUstream stream))

struct CublasLt {
#define TSTRAIN_MEMBER(name, parameters) cublasStatus_t(*name) parameters;
  TSTRAIN_CUBLASLT_FUNCTIONS(TSTRAIN_MEMBER)
#undef TSTRAIN_MEMBER

  std::string missing;  // why there is none, in words for a person; empty when there is one
  std::string path, version;
  cublasLtHandle_t handle = nullptr;
};

// Looked for at the first call, which needs a card. TSTRAIN_CUBLASLT=0 asks for none (to compare, to debug).
const CublasLt& cublaslt();

// What cuBLASLt may use beside the operands: what NVIDIA advises for Hopper, on every card, so that a plan needs none.
constexpr i64 kCublasLtWorkspace = 32 << 20;

// A product of the op table. `adds`: there is an addend. Whether it is C itself, no algorithm asks. `aligned_*`: bytes,
// powers of two, of which the addresses are multiples (see alignment()); that of C is the addend's too.
struct Product {
  DType type_c, type_ab;
  i64 m, n, k;
  bool trans_a, trans_b, adds;
  i64 aligned_c, aligned_a, aligned_b;

  bool operator==(const Product& other) const;
};

// "bfloat16 A·Bᵀ of 512 × 2048 over 2048 …": all of it, so that no two products have the same words.
std::string in_words(const Product& product);

// Of an address: up to 256, beyond which no algorithm asks.
i64 alignment(const void* address);

// A product as cuBLASLt has it. Throws OpError, as its functions do, when the library fails.
class Matmul {
 public:
  explicit Matmul(const Product& product);

  // The first of the library's choices, best first; none where it has no algorithm for such alignments. Only such as sum
  // up in float32 and in a fixed order.
  std::vector<cublasLtMatmulHeuristicResult_t> algorithms(int most) const;
  // Whether an algorithm that was not asked for here does it, within the workspace.
  bool takes(const cublasLtMatmulAlgo_t& algorithm) const;
  // Queues it. addend: C where there is none. workspace: kCublasLtWorkspace bytes.
  void run(void* c, const void* a, const void* b, const void* addend, const cublasLtMatmulAlgo_t& algorithm,
           void* workspace, CUstream stream) const;
  // Likewise, and answers what the library says, for some algorithms turn out not to do it.
  cublasStatus_t queue(void* c, const void* a, const void* b, const void* addend, const cublasLtMatmulAlgo_t& algorithm,
                       void* workspace, CUstream stream) const;

 private:
  template <class T>
  using Owned = std::unique_ptr<T, cublasStatus_t (*)(T*)>;
  static Owned<cublasLtMatrixLayoutOpaque> layout(DType type, i64 rows, i64 columns);

  Product product_;
  Owned<cublasLtMatmulDescOpaque> description_;
  Owned<cublasLtMatrixLayoutOpaque> a_, b_, c_;
};

}  // namespace tstrain::cuda
