// A timed try of cuBLASLt's algorithms (trial.h), and the kernels that it takes: what it multiplies, and whether the bits
// of two results are the same.
#ifdef __CUDACC_RTC__
#include "on_card.h"

// An operand of lines of `length`, whose depth goes along a line (deep) or from line to line. Nearly normal: four uniform
// numbers of 16 bits, added up, with mean 0 and variance 1. The second half of the depth is the first once more, in one of the
// two operands with the other sign: a product's sums cancel, and what is left is what rounding leaves of the order in which
// they were made. So another order shows in the leading bits, where C is bfloat16 too.
template <class T>
__global__ void __launch_bounds__(256) trial_numbers(T* x, i64 length, i64 depth, bool deep, bool negate, i64 n) {
  i64 half = depth / 2;
  for (i64 i = first(); i < n; i += all()) {
    Quotient at = divided(i, length);
    i64 p = deep ? at.rest : at.whole, other = deep ? at.whole : at.rest;
    bool again = p >= half && p < 2 * half;
    u64 bits = mix(mix(u64(other) + negate) + u64(again ? p - half : p));
    i32 sum = i32(bits & 0xffff) + i32(bits >> 16 & 0xffff) + i32(bits >> 32 & 0xffff) + i32(bits >> 48);
    float value = float(sum - 2 * 65535) * (1 / 37837.2f);
    store(x + i, again && negate ? -value : value);
  }
}

// sum += Σ of what each element's bits are at its place. Integers, so that the order does not matter.
template <class T>
__global__ void __launch_bounds__(256) trial_digest(u64* sum, const T* x, i64 n) {
  u64 own = 0;
  for (i64 i = first(); i < n; i += all()) own += mix(u64(i) << 32 ^ __float_as_uint(load(x + i)));
  for (int lanes = 16; lanes > 0; lanes /= 2) own += __shfl_down_sync(0xffffffff, own, lanes);
  if (threadIdx.x % 32 == 0) atomicAdd(sum, own);
}

KERNELS(trial_numbers<float>, trial_numbers<bf16>, trial_digest<float>, trial_digest<bf16>)

#else
#include "trial.h"

#include <algorithm>
#include <numeric>

#include "card.h"
#include "event.h"
#include "launch.h"

namespace tstrain::cuda {

namespace {

constexpr int kChoices = 16, kScreened = 4, kCompared = 8, kRepeats = 20;

// Nothing where the card has no memory.
class Scratch {
 public:
  explicit Scratch(i64 bytes) {
    CUresult result = driver().cuMemAlloc_v2(&start_, size_t(bytes));
    if (result != CUDA_ERROR_OUT_OF_MEMORY) check(result, "allocating memory to try products");
  }
  ~Scratch() {
    if (start_) driver().cuMemFree_v2(start_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  bool there() const { return start_ != 0; }
  CUdeviceptr start() const { return start_; }
  // An address that is aligned to just so many bytes.
  char* aligned(i64 bytes) const { return reinterpret_cast<char*>(start_) + (bytes < kAlignment ? bytes : 0); }
  static i64 size(i64 elements, DType type, i64 aligned) { return elements * size_of(type) + aligned; }

 private:
  CUdeviceptr start_ = 0;
};

class Attempt {
 public:
  Attempt(const Product& product, const Matmul& matmul, void* workspace)
      : p_(product),
        matmul_(matmul),
        context_{workspace, card().compute},
        a_(Scratch::size(p_.m * p_.k, p_.type_ab, p_.aligned_a)),
        b_(Scratch::size(p_.k * p_.n, p_.type_ab, p_.aligned_b)),
        c_(Scratch::size(p_.m * p_.n, p_.type_c, p_.aligned_c)),
        digests_(kRepeats * 8) {}

  bool has_memory() const { return a_.there() && b_.there() && c_.there() && digests_.there(); }

  std::optional<cublasLtMatmulAlgo_t> best_of(const std::vector<cublasLtMatmulHeuristicResult_t>& choices) {
    numbers(a(), p_.m, !p_.trans_a, false);
    numbers(b(), p_.n, p_.trans_b, true);
    clear();
    std::vector<const cublasLtMatmulAlgo_t*> able;
    // The first run of each is its warm-up, in which some turn out not to do it.
    for (auto& choice : choices)
      if (run(choice.algo)) able.push_back(&choice.algo);
    auto screened = times(able, kScreened);
    std::vector<size_t> order(able.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](size_t x, size_t y) { return screened[x] < screened[y]; });
    std::vector<const cublasLtMatmulAlgo_t*> ranked;
    for (size_t i : order) ranked.push_back(able[i]);
    if (ranked.size() > 1) {
      auto both = times({ranked[0], ranked[1]}, kCompared);
      if (both[1] < both[0]) std::swap(ranked[0], ranked[1]);
    }
    for (auto* algorithm : ranked)
      if (repeats(*algorithm)) return *algorithm;
    return std::nullopt;
  }

 private:
  char* a() const { return a_.aligned(p_.aligned_a); }
  char* b() const { return b_.aligned(p_.aligned_b); }
  char* c() const { return c_.aligned(p_.aligned_c); }

  void numbers(char* to, i64 rows, bool deep, bool negate) {
    launch(context_, kernel("trial_numbers", {p_.type_ab}), blocks_for(rows * p_.k), to, deep ? p_.k : rows, p_.k, deep,
           negate, rows * p_.k);
  }

  // C, for what it held would hide what rounding leaves.
  void clear() {
    check(driver().cuMemsetD8Async(reinterpret_cast<CUdeviceptr>(c()), 0, size_t(p_.m * p_.n * size_of(p_.type_c)),
                                   card().compute),
          "filling with zeros");
  }

  bool run(const cublasLtMatmulAlgo_t& algorithm) {
    static const std::string name = "cublasLtMatmul on trial";
    if (matmul_.queue(c(), a(), b(), c(), algorithm, context_.workspace, card().compute) != CUBLAS_STATUS_SUCCESS)
      return false;
    launched(name);
    return true;
  }

  // The median of so many runs of each, in turns.
  std::vector<float> times(const std::vector<const cublasLtMatmulAlgo_t*>& algorithms, int count) {
    size_t runs = algorithms.size() * size_t(count);
    std::vector<Event> events(runs + 1);
    events[0].record();
    for (size_t i = 0; i < runs; i++) {
      run(*algorithms[i % algorithms.size()]);
      events[i + 1].record();
    }
    wait_for(card().compute);
    std::vector<float> medians;
    for (size_t which = 0; which < algorithms.size(); which++) {
      std::vector<float> found;
      for (size_t i = which; i < runs; i += algorithms.size()) {
        float milliseconds;
        check(driver().cuEventElapsedTime(&milliseconds, events[i].event, events[i + 1].event), "reading events");
        found.push_back(milliseconds);
      }
      std::nth_element(found.begin(), found.begin() + count / 2, found.end());
      medians.push_back(found[size_t(count / 2)]);
    }
    return medians;
  }

  bool repeats(const cublasLtMatmulAlgo_t& algorithm) {
    check(driver().cuMemsetD8Async(digests_.start(), 0, kRepeats * 8, card().compute), "filling with zeros");
    for (int i = 0; i < kRepeats; i++) {
      clear();
      if (!run(algorithm)) return false;
      launch(context_, kernel("trial_digest", {p_.type_c}), blocks_for(p_.m * p_.n),
             reinterpret_cast<void*>(digests_.start() + CUdeviceptr(i) * 8), static_cast<void*>(c()), p_.m * p_.n);
    }
    std::vector<std::uint64_t> digests(kRepeats);
    check(driver().cuMemcpyDtoHAsync_v2(digests.data(), digests_.start(), kRepeats * 8, card().compute), "copying");
    wait_for(card().compute);
    return std::count(digests.begin(), digests.end(), digests[0]) == kRepeats;
  }

  const Product& p_;
  const Matmul& matmul_;
  Context context_;
  Scratch a_, b_, c_, digests_;
};

}  // namespace

Trial fastest(const Product& product, const Matmul& matmul, void* workspace) {
  auto choices = matmul.algorithms(kChoices);
  if (choices.empty()) return {};
  Attempt attempt(product, matmul, workspace);
  if (!attempt.has_memory()) return {choices[0].algo, true};
  return {attempt.best_of(choices), false};
}

}  // namespace tstrain::cuda

#endif
