// Whether a card spreads matrices over a warp's registers as NVIDIA documents it (ldmatrix, mma.sync m16n8k16), and fills
// with zeros what cp.async does not read: what the simulated card and the kernels may have misread alike.
//
//   fragments PTX SOURCE    compares; one line of JSON
//   fragments --ptx SOURCE  prints the PTX that is kept beside the source, for compute_80
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "../../engine/native/cuda/card.h"
#include "../../engine/native/cuda/embedded.h"
#include "../../engine/native/cuda/nvrtc.h"

using namespace tstrain;
using namespace tstrain::cuda;

namespace {

constexpr int kWarp = 32;

std::string read_file(const char* path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw OpError(std::string("cannot read ") + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

Source source_in(const char* path) { return {"fragments", read_file(path), tstrain_cuda_header}; }

// Bytes on the card that come from and go to a vector.
template <class T>
class Buffer {
 public:
  explicit Buffer(const std::vector<T>& values) : count_(values.size()) {
    check(driver().cuMemAlloc_v2(&start_, bytes()), "allocating");
    check(driver().cuMemcpyHtoDAsync_v2(start_, values.data(), bytes(), card().compute), "copying in");
  }
  ~Buffer() { driver().cuMemFree_v2(start_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::vector<T> values() const {
    std::vector<T> all(count_);
    check(driver().cuMemcpyDtoHAsync_v2(all.data(), start_, bytes(), card().compute), "copying out");
    check(driver().cuStreamSynchronize(card().compute), "waiting for the card");
    return all;
  }
  CUdeviceptr start() const { return start_; }

 private:
  std::size_t bytes() const { return count_ * sizeof(T); }
  std::size_t count_;
  CUdeviceptr start_ = 0;
};

// The kernels in one of the forms in which they come to a card.
class Kernels {
 public:
  Kernels(const Compiled& compiled, const std::string& code) : names_(compiled.names) {
    check(driver().cuModuleLoadData(&module_, code.c_str()), "loading the kernels");
  }
  // One warp.
  template <class... A>
  void run(const char* kernel, A... arguments) const {
    CUfunction function;
    check(driver().cuModuleGetFunction(&function, module_, names_.at(kernel).c_str()), kernel);
    void* pointers[] = {static_cast<void*>(&arguments)...};
    check(driver().cuLaunchKernel(function, 1, 1, 1, kWarp, 1, 1, 0, card().compute, pointers, nullptr), kernel);
  }

 private:
  std::map<std::string, std::string> names_;
  CUmodule module_ = nullptr;
};

std::mt19937 random_bits(20261126);

template <class T>
std::vector<T> distinct(std::size_t count) {
  std::vector<T> all(count);
  for (std::size_t i = 0; i < count; i++) all[i] = T(i + 1);
  std::shuffle(all.begin(), all.end(), random_bits);
  return all;
}

// Whole numbers up to 8, which bfloat16 and the sums of the products hold exactly.
std::vector<int> small_numbers(std::size_t count) {
  std::vector<int> all(count);
  for (auto& x : all) x = int(random_bits() % 17) - 8;
  return all;
}

std::uint16_t bf16_of(int small) {
  float value = float(small);
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return std::uint16_t(bits >> 16);
}

std::uint32_t pair(std::uint16_t low, std::uint16_t high) { return low | std::uint32_t(high) << 16; }

// How many of `values` are not as expected.
template <class T>
int wrong(const std::vector<T>& values, const std::vector<T>& expected) {
  int count = 0;
  for (std::size_t i = 0; i < expected.size(); i++) count += values[i] != expected[i];
  return count;
}

int wrong_loads(const Kernels& kernels, bool transposed) {
  auto matrices = distinct<std::uint16_t>(4 * 64);
  Buffer<std::uint16_t> in(matrices);
  Buffer<std::uint32_t> out(std::vector<std::uint32_t>(4 * kWarp, ~0u));
  kernels.run(transposed ? "read_matrices<true>" : "read_matrices<false>", out.start(), in.start());
  std::vector<std::uint32_t> expected;
  for (int thread = 0; thread < kWarp; thread++)
    for (int j = 0; j < 4; j++) {
      auto element = [&](int row, int column) { return matrices[std::size_t(64 * j + 8 * row + column)]; };
      int group = thread / 4, first = 2 * (thread % 4);
      expected.push_back(transposed ? pair(element(first, group), element(first + 1, group))
                                    : pair(element(group, first), element(group, first + 1)));
    }
  return wrong(out.values(), expected);
}

int wrong_products(const Kernels& kernels) {
  auto a = small_numbers(16 * 16), b = small_numbers(16 * 8), c = small_numbers(16 * 8);
  std::vector<std::uint32_t> a_registers, b_registers;
  std::vector<float> c_registers, expected;
  for (int thread = 0; thread < kWarp; thread++) {
    int group = thread / 4, first = 2 * (thread % 4);
    auto a_pair = [&](int row, int k) {
      auto* at = &a[std::size_t(16 * row + k)];
      a_registers.push_back(pair(bf16_of(at[0]), bf16_of(at[1])));
    };
    a_pair(group, first);
    a_pair(group + 8, first);
    a_pair(group, first + 8);
    a_pair(group + 8, first + 8);
    for (int k : {first, first + 8})
      b_registers.push_back(pair(bf16_of(b[std::size_t(8 * k + group)]), bf16_of(b[std::size_t(8 * (k + 1) + group)])));
    for (int row : {group, group + 8})
      for (int column : {first, first + 1}) {
        int sum = c[std::size_t(8 * row + column)];
        c_registers.push_back(float(sum));
        for (int k = 0; k < 16; k++) sum += a[std::size_t(16 * row + k)] * b[std::size_t(8 * k + column)];
        expected.push_back(float(sum));
      }
  }
  Buffer<std::uint32_t> a_in(a_registers), b_in(b_registers);
  Buffer<float> c_in_out(c_registers);
  kernels.run("product", c_in_out.start(), a_in.start(), b_in.start());
  return wrong(c_in_out.values(), expected);
}

int wrong_copies(const Kernels& kernels) {
  auto from = distinct<std::uint32_t>(4 * kWarp);
  Buffer<std::uint32_t> in(from), out(std::vector<std::uint32_t>(4 * kWarp, ~0u));
  kernels.run("copy_in_part", out.start(), in.start());
  auto expected = from;
  for (int thread = 0; thread < kWarp; thread++)
    for (int i = thread % 5; i < 4; i++) expected[std::size_t(4 * thread + i)] = 0;
  return wrong(out.values(), expected);
}

// The counts of what is wrong, as JSON.
std::string compare(const Kernels& kernels, bool& good) {
  std::string json = "{";
  const std::pair<const char*, std::function<int()>> questions[] = {
      {"ldmatrix.x4", [&] { return wrong_loads(kernels, false); }},
      {"ldmatrix.x4.trans", [&] { return wrong_loads(kernels, true); }},
      {"mma.m16n8k16.bf16", [&] { return wrong_products(kernels); }},
      {"cp.async", [&] { return wrong_copies(kernels); }},
  };
  for (auto& [name, ask] : questions) {
    int count = ask();
    good = good && count == 0;
    json += (json == "{" ? "\"" : ", \"") + std::string(name) + "\": " + std::to_string(count);
  }
  return json + "}";
}

int main_of(const char* ptx, const char* source) {
  card();
  bool good = true;
  auto committed = from_file(read_file(ptx));
  std::string json = "{\"wrong\": {\"committed_ptx\": " + compare(Kernels(committed, committed.ptx), good);
  // As the device does it: machine code where the driver takes it.
  auto& n = nvrtc();
  int capability = driver().major * 10 + driver().minor;
  if (std::find(n.architectures.begin(), n.architectures.end(), capability) != n.architectures.end()) {
    auto compiled = compile(source_in(source), "sm_" + std::to_string(capability));
    json += ", \"nvrtc_" + std::to_string(n.major) + "." + std::to_string(n.minor) + "\": ";
    CUmodule module;
    bool taken = driver().cuModuleLoadData(&module, compiled.machine_code.data()) == CUDA_SUCCESS;
    json += compare(Kernels(compiled, taken ? compiled.machine_code : compiled.ptx), good);
  }
  std::printf("%s}}\n", json.c_str());
  return good ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) {
    std::fprintf(stderr, "fragments PTX SOURCE, or fragments --ptx SOURCE\n");
    return 2;
  }
  try {
    if (std::string(arguments[1]) != "--ptx") return main_of(arguments[1], arguments[2]);
    std::printf("%s", with_names(compile(source_in(arguments[2]), "compute_80")).c_str());
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fragments: %s\n", error.what());
    return 1;
  }
}
