#include "products.h"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <unordered_map>

#include "../row_steps.h"
#include "card.h"
#include "cublaslt.h"
#include "disk_cache.h"
#include "trial.h"

namespace tstrain::cuda {

namespace {

using Algorithm = cublasLtMatmulAlgo_t;

ProductCounts counts;

bool tries() {
  static const bool wanted = [] {
    const char* value = std::getenv("TSTRAIN_CUDA_TUNE");
    return !value || std::strcmp(value, "0") != 0;
  }();
  return wanted;
}

// Choices as text: a line of what they were tried on; then for each product its algorithm and the product in words.
constexpr char kNone[] = "none";  // of them gives the same bits each time

// Algorithms mean the same in one version of the library, and are tried on one card.
std::string tried_on() {
  auto& lt = cublaslt();
  return lt.missing.empty() ? "cuBLASLt " + lt.version + " on " + driver().card : "the built-in kernels";
}

std::string in_hex(const Algorithm& algorithm) {
  std::string text;
  char hex[17];
  for (auto word : algorithm.data) {
    std::snprintf(hex, sizeof hex, "%016llx", static_cast<unsigned long long>(word));
    text += hex;
  }
  return text;
}

// Throws OpError when it is none.
std::optional<Algorithm> from_hex(const std::string& text, const Matmul& matmul) {
  if (text == kNone) return std::nullopt;
  Algorithm algorithm{};
  bool right = text.size() == sizeof algorithm * 2 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (right)
    for (size_t i = 0; i < 8; i++) algorithm.data[i] = std::strtoull(text.substr(i * 16, 16).c_str(), nullptr, 16);
  if (!right || !matmul.takes(algorithm)) throw OpError("\"" + text + "\" is no algorithm of " + tried_on());
  return algorithm;
}

// By the product's words: what a checkpoint brought, and what was chosen since.
std::map<std::string, std::string>& choices() {
  static auto& all = *new std::map<std::string, std::string>;
  return all;
}

// A choice that is kept on disk is one of this very setup.
std::string key_of(const std::string& words) {
  return "tried once\n" + tried_on() + "\ndriver " + std::to_string(driver().version) + "\n" + words + "\n";
}

std::optional<std::string> kept_choice(const std::string& words, const Matmul& matmul) {
  std::string key = key_of(words);
  auto text = read_kept("product-" + digest(key));
  if (!text || text->compare(0, key.size(), key) != 0) return std::nullopt;
  std::string choice = text->substr(key.size());
  try {
    from_hex(choice, matmul);
  } catch (const OpError&) {
    return std::nullopt;
  }
  return choice;
}

std::string text_of(const std::optional<Algorithm>& algorithm) { return algorithm ? in_hex(*algorithm) : kNone; }

std::string choose(const Product& product, const std::string& words, const Matmul& matmul, void* workspace) {
  if (!tries()) {
    auto first = matmul.algorithms(1);
    return first.empty() ? kNone : in_hex(first[0].algo);
  }
  if (auto kept = kept_choice(words, matmul)) return *kept;
  auto start = std::chrono::steady_clock::now();
  Trial trial = fastest(product, matmul, workspace);
  std::string choice = text_of(trial.best);
  counts.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (trial.untried) {
    counts.untried++;
    return choice;
  }
  counts.tried++;
  std::string key = key_of(words);
  keep("product-" + digest(key), key + choice);
  return choice;
}

i64 whole_rows(i64 rows) {
  i64 step = kRowStep;
  while (rows > 32 * step) step *= 2;
  return i64(rounded_up(rows, step));
}

// Rows of the slack that are summed over must add nothing.
void clear_slack(In t, i64 elements, Stream stream) {
  CUdeviceptr end = reinterpret_cast<CUdeviceptr>(t.data) + CUdeviceptr(t.numel * size_of(t.dtype));
  check(driver().cuMemsetD8Async(end, 0, size_t(elements * size_of(t.dtype)), static_cast<CUstream>(stream)),
        "filling slack with zeros");
}

struct Chosen {
  Matmul matmul;
  std::optional<Algorithm> algorithm;
};

struct Hash {
  size_t operator()(const Product& p) const {
    size_t h = 0;
    for (i64 x : {i64(p.type_c), i64(p.type_ab), p.m, p.n, p.k, i64(p.trans_a), i64(p.trans_b), i64(p.adds),
                  p.aligned_c, p.aligned_a, p.aligned_b})
      h = (h ^ size_t(x)) * 0x9e3779b97f4a7c15ull;
    return h;
  }
};

// Ready to run. Not destroyed when the process ends, for the library may have ended before.
std::unordered_map<Product, Chosen, Hash>& ready() {
  static auto& all = *new std::unordered_map<Product, Chosen, Hash>;
  return all;
}

const Chosen& chosen(const Product& product, void* workspace) {
  auto found = ready().find(product);
  if (found != ready().end()) return found->second;
  Matmul matmul(product);
  std::string words = in_words(product);
  auto known = choices().find(words);
  if (known == choices().end()) known = choices().emplace(words, choose(product, words, matmul, workspace)).first;
  auto algorithm = from_hex(known->second, matmul);
  return ready().emplace(product, Chosen{std::move(matmul), algorithm}).first->second;
}

}  // namespace

i64 row_slack(DType, i64 rows, i64 columns) { return slack_of(whole_rows, rows, columns); }

const ProductCounts& product_counts() { return counts; }

std::string product_account() {
  std::string text;
  auto add = [&](const std::string& words) { text += (text.empty() ? "cuBLASLt: " : "; ") + words; };
  char seconds[32];
  std::snprintf(seconds, sizeof seconds, "%.1f", counts.seconds);
  if (counts.tried > 0) add("shapes tried: " + std::to_string(counts.tried) + " in " + seconds + " s");
  if (counts.untried > 0)
    add("not tried for want of memory, so with its first choice: " + std::to_string(counts.untried));
  if (counts.declined > 0)
    add("products without an algorithm, made by the built-in kernels: " + std::to_string(counts.declined) +
        ", the first " + counts.first_declined);
  return text;
}

std::string chosen_products() {
  std::string text = tried_on();
  for (auto& [words, algorithm] : choices()) text += "\n" + algorithm + " " + words;
  return text;
}

bool choose_products(const std::string& text) {
  size_t line = std::min(text.find('\n'), text.size());
  if (text.substr(0, line) != tried_on()) return false;
  ready().clear();
  choices().clear();
  while (line < text.size()) {
    size_t from = line + 1, space = text.find(' ', from);
    line = std::min(text.find('\n', from), text.size());
    if (space < line) choices()[text.substr(space + 1, line - space - 1)] = text.substr(from, space - from);
  }
  return true;
}

bool cublaslt_gemm(const Context& context, Out c, In a, In b, In addend, i64 m, i64 n, i64 k, bool trans_a,
                   bool trans_b) {
  if (!cublaslt().missing.empty()) return false;
  Rows rows = stepped(whole_rows, c, a, b, addend, m, n, k, trans_a, trans_b);
  const void* added = addend ? addend.data : c.data;
  Product product{c.dtype,
                  a.dtype,
                  rows.m,
                  n,
                  rows.k,
                  trans_a,
                  trans_b,
                  addend.present,
                  std::min(alignment(c.data), alignment(added)),
                  alignment(a.data),
                  alignment(b.data)};
  auto& [matmul, algorithm] = chosen(product, context.workspace);
  if (!algorithm) {
    if (counts.declined++ == 0) counts.first_declined = in_words(product);
    return false;
  }
  if (rows.k > k) {
    clear_slack(a, (rows.k - k) * m, context.stream);
    clear_slack(b, (rows.k - k) * n, context.stream);
  }
  matmul.run(c.data, a.data, b.data, added, *algorithm, context.workspace, static_cast<CUstream>(context.stream));
  static const std::string name = "cublasLtMatmul";
  launched(name);
  counts.done++;
  return true;
}

}  // namespace tstrain::cuda
