#include "cuda.h"

#include "card.h"
#include "cublaslt.h"
#include "kernels.h"
#include "launch.h"
#include "products.h"

namespace tstrain {

namespace {

const OpTable& ops() {
  static const OpTable table = {
#define TSTRAIN_ENTRY(name, parameters, ...) cuda::name,
      TSTRAIN_OPS(TSTRAIN_ENTRY)
#undef TSTRAIN_ENTRY
  };
  return table;
}

std::string missing() { return cuda::driver().missing; }

std::string description(DType) {
  auto& blas = cuda::cublaslt();
  std::string gemm = blas.missing.empty() ? "cuBLASLt " + blas.version : "the built-in kernels (" + blas.missing + ")";
  return cuda::driver().card + ", kernels " + cuda::kernels_come_from() + ", GEMM by " + gemm;
}

}  // namespace

const DeviceKind cuda_device = {"cuda",
                                missing,
                                ops,
                                &cuda::workspaces,
                                cuda::kAlignment,
                                cuda::kRowStep,
                                true,
                                cuda::row_slack,
                                cuda::memory,
                                description,
                                cuda::chosen_products,
                                cuda::choose_products,
                                cuda::product_account,
                                128,
                                cuda::kGradientRows};

}  // namespace tstrain
