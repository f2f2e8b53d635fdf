// What matrix products cost on a card: cuBLASLt on the products of a training step, without any kernel of this project and
// without Node, through the engine's own declarations of driver and library.
//
//   gemm_sweep [--seconds 240] [--json FILE] [--peak TFLOPS] [--tiny]
//
// Each product of 110M, 1.1B and 7B (forward, the input's gradient, the weight's) over 4096, 8192 and 16384 tokens, with C
// fresh and added to, in bfloat16, and the weight's gradient in float32 too: by the library's first choice and by the
// fastest of its first 32 (median of 5 each, then both in turns, median of 20). Operands are normally distributed, for
// constants draw less power. Each result is compared with a sum in float64 at some places, and over 20 repeats with itself
// bit by bit (up to 1 MiB of it, in stretches). The table at the end adds the products of a step up: what no training can
// beat on this card. When the time is up what is left is left out, and said so.
//
// --peak: dense bfloat16 with float32 sums, in TFLOP/s, for a card whose data sheet is not among those below.
// --tiny: sizes for a test on the simulated card.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "../../engine/native/cuda/cublaslt.h"
#include "../../engine/native/cuda/event.h"

using namespace tstrain;
using namespace tstrain::cuda;

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kChoices = 32, kScreened = 5, kRepeats = 20;

struct Model {
  const char* name;
  i64 hidden, layers, intermediate, vocabulary, query_and_key_value;
};
const std::vector<Model> kModels = {
    {"7B", 4096, 32, 11008, 32000, 3 * 4096},
    {"1.1B", 2048, 22, 5632, 32000, 2048 + 2 * 4 * 64},
    {"110M", 768, 12, 2048, 32000, 3 * 768},
};
const std::vector<Model> kTinyModels = {{"tiny", 64, 2, 96, 160, 64 + 2 * 16}, {"odd", 40, 1, 72, 101, 3 * 40}};

// From NVIDIA's data sheets, without sparsity, by a part of the card's name: the first that fits.
struct Peak {
  const char* card;
  double tflops;
};
constexpr Peak kPeaks[] = {{"H100 PCIe", 756}, {"H100 NVL", 835},   {"H100", 989.4},
                           {"H200", 989.4},    {"GH200", 989.4},    {"A100", 312},
                           {"L40S", 362},      {"RTX 4090", 165.2}, {"RTX 3090", 71}};

// One linear layer's product in one pass. y = x·Wᵀ, dx = dy·W, dW = dyᵀ·x for W [out, in].
struct Gemm {
  const Model* model;
  const char* layer;
  const char* pass;
  i64 tokens, m, n, k;
  bool trans_a, trans_b;
  DType type_c;
  bool accumulate;
  i64 per_step;  // how often a step has it; 0 where another form of it counts

  double flops() const { return 2.0 * double(m) * double(n) * double(k); }
  i64 bytes_c() const { return m * n * size_of(type_c); }
};

std::vector<Gemm> gemms_of(const Model& model, i64 tokens) {
  struct Layer {
    const char* name;
    i64 out, in, count;
    bool around;  // its forward product adds what goes around it
  };
  const Layer layers[] = {{"qkv", model.query_and_key_value, model.hidden, model.layers, false},
                          {"o", model.hidden, model.hidden, model.layers, true},
                          {"gate_up", 2 * model.intermediate, model.hidden, model.layers, false},
                          {"down", model.hidden, model.intermediate, model.layers, true},
                          {"head", model.vocabulary, model.hidden, 1, false}};
  std::vector<Gemm> list;
  for (auto& l : layers)
    for (bool accumulate : {false, true}) {
      i64 fresh = accumulate ? 0 : l.count, added = accumulate ? l.count : 0;
      list.push_back({&model, l.name, "forward", tokens, tokens, l.out, l.in, false, true, DType::bf16, accumulate,
                      l.around ? added : fresh});
      list.push_back({&model, l.name, "dx", tokens, tokens, l.in, l.out, false, false, DType::bf16, accumulate, fresh});
      list.push_back({&model, l.name, "dw", tokens, l.out, l.in, tokens, true, false, DType::bf16, accumulate, 0});
      list.push_back({&model, l.name, "dw", tokens, l.out, l.in, tokens, true, false, DType::f32, accumulate, added});
    }
  return list;
}

struct Result {
  Gemm gemm;
  int choices = 0, best = 0;
  double first_ms = 0, best_ms = 0;
  i64 first_workspace = 0, best_workspace = 0;
  bool first_repeats = true, best_repeats = true;
  double worst_error = 0;  // in units of what rounding explains
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  size_t n = values.size();
  return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

float widened(std::uint16_t bits) {
  std::uint32_t wide = std::uint32_t(bits) << 16;
  float x;
  std::memcpy(&x, &wide, 4);
  return x;
}

// Normally distributed values that bfloat16 holds, over and over; the period divides no size of a matrix.
class Values {
 public:
  explicit Values(i64 period) : bf16_(size_t(period)), f32_(size_t(period)) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < bf16_.size(); i++) {
      float x = normal(random);
      std::uint32_t bits;
      std::memcpy(&bits, &x, 4);
      bf16_[i] = std::uint16_t(bits >> 16);
      f32_[i] = widened(bf16_[i]);
    }
  }
  double at(i64 i) const { return f32_[size_t(i) % f32_.size()]; }

  void fill(CUdeviceptr to, i64 bytes, DType type) const {
    const void* from = type == DType::f32 ? static_cast<const void*>(f32_.data()) : bf16_.data();
    i64 block = i64(f32_.size()) * size_of(type);
    check(driver().cuMemcpyHtoDAsync_v2(to, from, size_t(std::min(block, bytes)), card().compute), "copying");
    for (i64 at = block; at < bytes; at += block)
      check(
          driver().cuMemcpyDtoDAsync_v2(to + CUdeviceptr(at), to, size_t(std::min(block, bytes - at)), card().compute),
          "copying");
    wait_for(card().compute);
  }

 private:
  std::vector<std::uint16_t> bf16_;
  std::vector<float> f32_;
};

struct Buffer {
  CUdeviceptr start = 0;
  explicit Buffer(i64 bytes) {
    check(driver().cuMemAlloc_v2(&start, size_t(bytes)), ("allocating " + std::to_string(bytes) + " bytes").c_str());
  }
  ~Buffer() { driver().cuMemFree_v2(start); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  void* data() const { return reinterpret_cast<void*>(start); }
};

struct Sizes {
  i64 a = 0, b = 0, c = 0;
};

Sizes largest(const std::vector<Gemm>& gemms) {
  Sizes s;
  for (auto& g : gemms) {
    s.a = std::max(s.a, g.m * g.k * 2);
    s.b = std::max(s.b, g.k * g.n * 2);
    s.c = std::max(s.c, g.bytes_c());
  }
  return s;
}

class Sweep {
 public:
  Sweep(Sizes sizes, i64 period)
      : values_(period),
        a_(sizes.a),
        b_(sizes.b),
        c_(sizes.c),
        before_bf16_(sizes.c),
        before_f32_(sizes.c),
        workspace_(kCublasLtWorkspace),
        events_(2 * kRepeats + 1) {
    values_.fill(a_.start, sizes.a, DType::bf16);
    values_.fill(b_.start, sizes.b, DType::bf16);
    values_.fill(before_bf16_.start, sizes.c, DType::bf16);
    values_.fill(before_f32_.start, sizes.c, DType::f32);
  }

  Result measure(const Gemm& gemm) {
    Result r;
    r.gemm = gemm;
    Matmul matmul({gemm.type_c, DType::bf16, gemm.m, gemm.n, gemm.k, gemm.trans_a, gemm.trans_b, gemm.accumulate,
                   alignment(c_.data()), alignment(a_.data()), alignment(b_.data())});
    auto choices = matmul.algorithms(kChoices);
    r.choices = int(choices.size());
    if (choices.empty()) return r;
    restore(gemm);
    std::vector<double> screened;
    for (auto& choice : choices) {
      run(matmul, choice);
      screened.push_back(median(times(matmul, {&choice}, kScreened)[0]));
    }
    r.best = int(std::min_element(screened.begin(), screened.end()) - screened.begin());
    auto &first = choices[0], &best = choices[size_t(r.best)];
    if (r.best == 0) {
      r.first_ms = r.best_ms = median(times(matmul, {&first}, kRepeats)[0]);
    } else {
      auto both = times(matmul, {&first, &best}, kRepeats);
      r.first_ms = median(both[0]), r.best_ms = median(both[1]);
    }
    r.first_workspace = i64(first.workspaceSize), r.best_workspace = i64(best.workspaceSize);
    r.first_repeats = repeats(matmul, first, gemm);
    r.worst_error = error(gemm);
    r.best_repeats = r.best == 0 ? r.first_repeats : repeats(matmul, best, gemm);
    if (r.best != 0) r.worst_error = std::max(r.worst_error, error(gemm));
    return r;
  }

 private:
  using Choice = cublasLtMatmulHeuristicResult_t;

  void run(const Matmul& matmul, const Choice& choice) {
    matmul.run(c_.data(), a_.data(), b_.data(), c_.data(), choice.algo, workspace_.data(), card().compute);
  }

  // Milliseconds of so many products by each of these, in turns and one right after the other.
  std::vector<std::vector<double>> times(const Matmul& matmul, const std::vector<const Choice*>& choices, int count) {
    std::vector<std::vector<double>> found(choices.size());
    size_t runs = choices.size() * size_t(count);
    events_[0].record();
    for (size_t i = 0; i < runs; i++) {
      run(matmul, *choices[i % choices.size()]);
      events_[i + 1].record();
    }
    wait_for(card().compute);
    for (size_t i = 0; i < runs; i++) {
      float ms = 0;
      check(driver().cuEventElapsedTime(&ms, events_[i].event, events_[i + 1].event), "reading events");
      found[i % choices.size()].push_back(std::max(double(ms), 1e-6));
    }
    return found;
  }

  // What C holds before it is added to.
  void restore(const Gemm& gemm) {
    auto& before = gemm.type_c == DType::f32 ? before_f32_ : before_bf16_;
    check(driver().cuMemcpyDtoDAsync_v2(c_.start, before.start, size_t(gemm.bytes_c()), card().compute), "copying");
  }

  std::vector<char> sample(const Gemm& gemm) {
    constexpr i64 kStretch = 32 << 10, kMost = 32;
    i64 bytes = gemm.bytes_c(), stretch = std::min(bytes, kStretch), count = std::min(kMost, bytes / stretch);
    std::vector<char> host(size_t(count * stretch));
    for (i64 i = 0; i < count; i++) {
      i64 at = count > 1 ? (bytes - stretch) * i / (count - 1) : 0;
      check(driver().cuMemcpyDtoHAsync_v2(host.data() + i * stretch, c_.start + CUdeviceptr(at), size_t(stretch),
                                          card().compute),
            "copying");
    }
    wait_for(card().compute);
    return host;
  }

  bool repeats(const Matmul& matmul, const Choice& choice, const Gemm& gemm) {
    std::vector<char> first;
    for (int i = 0; i < kRepeats; i++) {
      restore(gemm);
      run(matmul, choice);
      auto bits = sample(gemm);
      if (i == 0) first = bits;
      else if (bits != first) return false;
    }
    return true;
  }

  // Of some elements of C: how far they are from a sum in float64, in units of what rounding may do: float32's, in each of k
  // additions, of the sum of all sizes, and that of C's type.
  double error(const Gemm& g) {
    double worst = 0;
    for (int probe = 0; probe < 8; probe++) {
      i64 y = (g.m - 1) * probe / 7, x = (g.n - 1) * (7 - probe) / 7;
      double sum = 0, sizes = 0;
      for (i64 p = 0; p < g.k; p++) {
        double product =
            values_.at(g.trans_a ? p * g.m + y : y * g.k + p) * values_.at(g.trans_b ? x * g.k + p : p * g.n + x);
        sum += product, sizes += std::abs(product);
      }
      if (g.accumulate) sum += values_.at(y * g.n + x), sizes += std::abs(values_.at(y * g.n + x));
      i64 element = size_of(g.type_c);
      std::uint32_t bits = 0;
      check(driver().cuMemcpyDtoHAsync_v2(&bits, c_.start + CUdeviceptr((y * g.n + x) * element), size_t(element),
                                          card().compute),
            "copying");
      wait_for(card().compute);
      float found;
      if (g.type_c == DType::bf16) found = widened(std::uint16_t(bits));
      else std::memcpy(&found, &bits, 4);
      double allowed =
          double(g.k + 1) * std::ldexp(sizes, -24) + std::ldexp(std::abs(sum), g.type_c == DType::bf16 ? -8 : -24);
      worst = std::max(worst, std::abs(double(found) - sum) / allowed);
      if (std::isnan(found)) worst = INFINITY;
    }
    return worst;
  }

  Values values_;
  Buffer a_, b_, c_, before_bf16_, before_f32_, workspace_;
  std::vector<Event> events_;
};

double tflops(const Gemm& gemm, double ms) { return gemm.flops() / ms / 1e9; }

double peak_of(const std::string& card) {
  for (auto& peak : kPeaks)
    if (card.find(peak.card) != std::string::npos) return peak.tflops;
  return 0;
}

std::string percent(double part, double whole) {
  if (whole == 0) return "?";
  char text[32];
  std::snprintf(text, sizeof text, "%.1f%%", 100 * part / whole);
  return text;
}

void write_json(const char* path, const std::vector<Result>& results, double peak, int left_out) {
  std::FILE* file = std::fopen(path, "w");
  if (!file) throw OpError(std::string("cannot write ") + path);
  std::fprintf(file, "{\n  \"card\": \"%s\",\n  \"driver\": %d,\n  \"cublasLt\": \"%s\",\n", driver().card.c_str(),
               driver().version, cublaslt().version.c_str());
  std::fprintf(file, "  \"peak_tflops\": %s,\n  \"left_out\": %d,\n  \"products\": [",
               peak ? std::to_string(peak).c_str() : "null", left_out);
  const char* before = "\n";
  for (auto& r : results) {
    auto& g = r.gemm;
    std::fprintf(
        file,
        "%s    {\"model\": \"%s\", \"tokens\": %lld, \"layer\": \"%s\", \"pass\": \"%s\", \"m\": %lld, \"n\": %lld, "
        "\"k\": %lld, \"c\": \"%s\", \"beta\": %d, \"per_step\": %lld, \"choices\": %d",
        before, g.model->name, (long long)g.tokens, g.layer, g.pass, (long long)g.m, (long long)g.n, (long long)g.k,
        name_of(g.type_c), int(g.accumulate), (long long)g.per_step, r.choices);
    if (r.choices > 0)
      std::fprintf(
          file,
          ", \"first_ms\": %.6g, \"first_tflops\": %.6g, \"first_workspace\": %lld, \"first_repeats\": %s, "
          "\"best\": %d, \"best_ms\": %.6g, \"best_tflops\": %.6g, \"best_workspace\": %lld, \"best_repeats\": %s, "
          "\"error\": %.3g",
          r.first_ms, tflops(g, r.first_ms), (long long)r.first_workspace, r.first_repeats ? "true" : "false", r.best,
          r.best_ms, tflops(g, r.best_ms), (long long)r.best_workspace, r.best_repeats ? "true" : "false",
          std::min(r.worst_error, 1e30));
    std::fprintf(file, "}");
    before = ",\n";
  }
  std::fprintf(file, "\n  ]\n}\n");
  if (std::fclose(file) != 0) throw OpError(std::string("cannot write ") + path);
}

// Of all products of a step, one after the other. Nothing where some were left out.
void print_step(const std::vector<Result>& results, const Model& model, i64 tokens, double peak) {
  double flops = 0, first = 0, best = 0;
  for (auto& r : results) {
    auto& g = r.gemm;
    if (g.model != &model || g.tokens != tokens || g.per_step == 0) continue;
    if (r.choices == 0) return;
    flops += g.flops() * double(g.per_step), first += r.first_ms * double(g.per_step),
        best += r.best_ms * double(g.per_step);
  }
  if (flops == 0) return;
  auto rate = [&](double ms) { return flops / ms / 1e9; };
  std::printf("%-5s %6lld %9.3f %7.1f %6s %9.3f %7.1f %6s\n", model.name, (long long)tokens,
              first * 1e3 / double(tokens), rate(first), percent(rate(first), peak).c_str(),
              best * 1e3 / double(tokens), rate(best), percent(rate(best), peak).c_str());
}

int sweep(double seconds, const char* json, double peak, bool tiny) {
  auto start = Clock::now();
  auto& models = tiny ? kTinyModels : kModels;
  auto token_counts = tiny ? std::vector<i64>{32, 136} : std::vector<i64>{8192, 4096, 16384};
  std::vector<Gemm> all;
  for (i64 tokens : token_counts)
    for (auto& model : models)
      for (auto& gemm : gemms_of(model, tokens)) all.push_back(gemm);

  if (!driver().missing.empty()) throw OpError("there is no card: " + driver().missing);
  auto& lt = cublaslt();
  if (!lt.missing.empty()) throw OpError("cuBLASLt " + lt.missing);
  if (peak == 0) peak = peak_of(driver().card);
  std::printf("%s, driver %d, cuBLASLt %s (%s), peak %s TFLOP/s\n", driver().card.c_str(), driver().version,
              lt.version.c_str(), lt.path.c_str(), peak ? std::to_string(peak).c_str() : "unknown");
  std::printf("model tokens layer   pass    C        beta  first TF/s      best TF/s      choice bits\n");
  Sweep measured(largest(all), tiny ? 1009 : 4194301);
  std::vector<Result> results;
  int wrong = 0, unsteady = 0, refused = 0;
  for (auto& gemm : all) {
    if (std::chrono::duration<double>(Clock::now() - start).count() > seconds) break;
    results.push_back(measured.measure(gemm));
    auto& r = results.back();
    std::printf("%-5s %6lld %-7s %-7s %-8s %4d ", gemm.model->name, (long long)gemm.tokens, gemm.layer, gemm.pass,
                name_of(gemm.type_c), int(gemm.accumulate));
    if (r.choices == 0) {
      refused++;
      std::printf("no algorithm\n");
      continue;
    }
    bool right = r.worst_error <= 1, steady = r.first_repeats && r.best_repeats;
    wrong += !right, unsteady += !steady;
    double first = tflops(gemm, r.first_ms), best = tflops(gemm, r.best_ms);
    std::printf("%8.1f %6s %8.1f %6s  %2d of %2d %s%s\n", first, percent(first, peak).c_str(), best,
                percent(best, peak).c_str(), r.best + 1, r.choices, steady ? "equal" : "DIFFER", right ? "" : " WRONG");
    std::fflush(stdout);
  }
  int left_out = int(all.size() - results.size());
  if (json) write_json(json, results, peak, left_out);

  std::printf("\nAll products of a step (dW added to in float32), one after the other:\n");
  std::printf("            first choice             best of %d\n", kChoices);
  std::printf("model tokens  us/token  TF/s   peak   us/token  TF/s   peak\n");
  // Whole steps only.
  size_t per_step = gemms_of(models[0], 1).size(), steps = results.size() / per_step;
  std::vector<Result> whole(results.begin(), results.begin() + std::ptrdiff_t(steps * per_step));
  for (auto& model : models) {
    auto sorted = token_counts;
    std::sort(sorted.begin(), sorted.end());
    for (i64 tokens : sorted) print_step(whole, model, tokens, peak);
  }
  std::printf("%zu products, %d without an algorithm, %d with other bits in another run, %d wrong", results.size(),
              refused, unsteady, wrong);
  if (left_out) std::printf(", %d left out: %g seconds were up", left_out, seconds);
  std::printf("\n");
  return wrong ? 1 : 0;
}

}  // namespace

int main(int count, char** arguments) {
  double seconds = 240, peak = 0;
  const char* json = nullptr;
  bool tiny = false;
  for (int i = 1; i < count; i++) {
    std::string option = arguments[i];
    const char* value = option != "--tiny" && i + 1 < count ? arguments[++i] : nullptr;
    if (option == "--tiny") tiny = true;
    else if (option == "--seconds" && value) seconds = std::atof(value);
    else if (option == "--peak" && value) peak = std::atof(value);
    else if (option == "--json" && value) json = value;
    else {
      std::fprintf(stderr, "gemm_sweep [--seconds 240] [--json FILE] [--peak TFLOPS] [--tiny]; not %s\n",
                   option.c_str());
      return 2;
    }
  }
  try {
    return sweep(seconds, json, peak, tiny);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gemm_sweep: %s\n", error.what());
    return 1;
  }
}
