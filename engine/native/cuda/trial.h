// A timed try of cuBLASLt's algorithms for a product.
#pragma once
#include <optional>

#include "cublaslt.h"

namespace tstrain::cuda {

struct Trial {
  // The fastest that gives the same bits each time; none where the library has none.
  std::optional<cublasLtMatmulAlgo_t> best;
  // The card had no memory for it: `best` is the library's first choice.
  bool untried = false;
};

// Waits for what was queued before. The matrices are of its own, of normally distributed numbers, for constants draw less
// power and zeros hide in which order they were summed up. They take memory that no plan counts, until it returns.
// workspace: kCublasLtWorkspace bytes.
Trial fastest(const Product& product, const Matmul& matmul, void* workspace);

}  // namespace tstrain::cuda
