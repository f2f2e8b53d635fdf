// oneDNN alone, without this project: the time of matrix products, in the plainest program that calls it.
//
//   g++ -O2 -std=c++17 gemm_bound.cpp -ldnnl -o gemm_bound
//   echo "2048 864 288 0 1 bf16 bf16" | ./gemm_bound
//
// A line of standard input is `m n k trans_a trans_b type c_type` (f32 or bf16; A is [k, m] when trans_a is 1, B is
// [n, k] when trans_b is 1). Each is answered by a line: the mean seconds of one product, or `unsupported`. Builds
// against oneDNN 2.x and 3.x; threads by OMP_NUM_THREADS.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <oneapi/dnnl/dnnl.hpp>
#include <sstream>
#include <string>
#include <unordered_map>

using dnnl::memory;

namespace {

constexpr double kSeconds = 0.1;

memory::data_type type_of(const std::string& name) {
  if (name == "f32") return memory::data_type::f32;
  if (name == "bf16") return memory::data_type::bf16;
  throw std::invalid_argument("unknown type " + name);
}

// Values of about 0.02 that differ: what is in memory may change the time (power, not arithmetic).
void fill(const memory& m) {
  auto d = m.get_desc();
  std::uint32_t state = 1;
  auto next = [&] {
    state = state * 1664525u + 1013904223u;
    return (float(state >> 8) / float(1 << 24) - 0.5f) * 0.07f;
  };
#if DNNL_VERSION_MAJOR >= 3
  bool f32 = d.get_data_type() == memory::data_type::f32;
#else
  bool f32 = d.data_type() == memory::data_type::f32;
#endif
  size_t n = d.get_size() / (f32 ? 4 : 2);
  for (size_t i = 0; i < n; i++) {
    float x = next();
    std::uint32_t bits;
    std::memcpy(&bits, &x, 4);
    if (f32) static_cast<float*>(m.get_data_handle())[i] = x;
    else static_cast<std::uint16_t*>(m.get_data_handle())[i] = std::uint16_t(bits >> 16);
  }
}

// Mean seconds; negative where this processor has no fast way (the reference code would take minutes).
double time_product(const dnnl::engine& engine, memory::dim m, memory::dim n, memory::dim k, bool trans_a, bool trans_b,
                    memory::data_type type, memory::data_type c_type) {
  memory::desc a({m, k}, type, trans_a ? memory::dims{1, m} : memory::dims{k, 1});
  memory::desc b({k, n}, type, trans_b ? memory::dims{1, k} : memory::dims{n, 1});
  memory::desc c({m, n}, c_type, memory::dims{n, 1});
#if DNNL_VERSION_MAJOR >= 3
  dnnl::matmul::primitive_desc description(engine, a, b, c);
#else
  dnnl::matmul::primitive_desc description(dnnl::matmul::desc(a, b, c), engine);
#endif
  if (std::strstr(description.impl_info_str(), "ref")) return -1;
  dnnl::matmul product(description);
  dnnl::stream stream(engine);
  memory ma(a, engine), mb(b, engine), mc(c, engine);
  fill(ma);
  fill(mb);
  std::unordered_map<int, memory> arguments{{DNNL_ARG_SRC, ma}, {DNNL_ARG_WEIGHTS, mb}, {DNNL_ARG_DST, mc}};
  auto run = [&] {
    product.execute(stream, arguments);
    stream.wait();
  };
  run();
  auto start = std::chrono::steady_clock::now();
  double elapsed;
  int calls = 0;
  do {
    run();
    calls++;
    elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  } while (elapsed < kSeconds);
  return elapsed / calls;
}

}  // namespace

int main() {
  dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  auto version = dnnl_version();
  std::printf("oneDNN %d.%d.%d\n", version->major, version->minor, version->patch);
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    memory::dim m, n, k;
    bool trans_a, trans_b;
    std::string type, c_type;
    if (!(words >> m >> n >> k >> trans_a >> trans_b >> type >> c_type)) {
      std::fprintf(stderr, "cannot read: %s\n", line.c_str());
      return 1;
    }
    double seconds = -1;
    try {
      seconds = time_product(engine, m, n, k, trans_a, trans_b, type_of(type), type_of(c_type));
    } catch (const dnnl::error& error) {
      if (error.status != dnnl_unimplemented) throw;
    }
    if (seconds < 0) std::printf("unsupported\n");
    else std::printf("%.9f\n", seconds);
    std::fflush(stdout);
  }
}
