// Runs opcodes.cu and compares with plain computation: exactly, but where the PTX manual leaves room. Prints what differs;
// the exit status says whether anything did.
#include <algorithm>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <random>

#include "check.h"

using namespace check;

namespace {

int differences = 0;

// Equal bits; any NaN is as good as another.
template <class T>
bool equal(T a, T b) {
  if (a != a || b != b) return a != a && b != b;
  return std::memcmp(&a, &b, sizeof a) == 0;
}

template <class T>
void compare(const char* what, const std::vector<T>& got, const std::function<T(size_t)>& expected) {
  int told = 0;
  for (size_t i = 0; i < got.size(); i++) {
    T e = expected(i);
    if (equal(got[i], e)) continue;
    if (told++ < 3) std::printf("%s [%zu]: %.17g, expected %.17g\n", what, i, double(got[i]), double(e));
    differences++;
  }
}

std::mt19937_64 generator(7);

uint32_t bits_of(float x) {
  uint32_t u;
  std::memcpy(&u, &x, 4);
  return u;
}
float float_of(uint32_t u) {
  float x;
  std::memcpy(&x, &u, 4);
  return x;
}

// Any bits at all, small integers, halfway cases, and what is special.
std::vector<float> floats(size_t n) {
  const float special[] = {
      0.f,  -0.f, 1.f,  -1.f,         INFINITY,      -INFINITY,    NAN,     1e-40f,  -1e-45f, 3.4e38f,     -3.4e38f,
      0.5f, 1.5f, 2.5f, 2147483648.f, -2147483648.f, 4294967296.f, 9.3e18f, 65504.f, 65520.f, 1.00390625f, 1.01171875f};
  std::vector<float> x(n);
  for (auto& v : x) {
    switch (generator() % 4) {
      case 0: v = float_of(uint32_t(generator())); break;
      case 1: v = special[generator() % (sizeof special / sizeof *special)]; break;
      case 2: v = float(int(generator() % 2001) - 1000) * 0.25f; break;
      default: v = std::ldexp(float(int(generator() % (1 << 25)) - (1 << 24)), int(generator() % 30) - 25);
    }
  }
  return x;
}

template <class F>
auto rounding(int mode, F f) {
  int old = std::fegetround();
  std::fesetround(mode);
  volatile auto x = f();
  std::fesetround(old);
  return x;
}

constexpr size_t kN = 20000;
constexpr unsigned kBlocks = (kN + 255) / 256;

void test_floats(const Card& card) {
  auto x = floats(kN), y = floats(kN), z = floats(kN);
  Values<float> dx(card, x), dy(card, y), dz(card, z), d(card, kN);
  auto run = [&](const char* name, const std::function<float(float, float, float)>& expected) {
    card.launch(name, kBlocks, 256, 0, d.pointer(), dx.pointer(), dy.pointer(), dz.pointer(), int(kN));
    compare<float>(name, d.get(), [&](size_t i) { return expected(x[i], y[i], z[i]); });
  };
  using V = volatile float;
  auto fma_in = [](int mode) {
    return [mode](float a, float b, float c) {
      V p = a, q = b, r = c;
      return rounding(mode, [&] { return std::fmaf(p, q, r); });
    };
  };
  run("fma_rn", fma_in(FE_TONEAREST));
  run("fma_rz", fma_in(FE_TOWARDZERO));
  run("fma_rm", fma_in(FE_DOWNWARD));
  run("fma_rp", fma_in(FE_UPWARD));
  run("mul_then_add", [](float a, float b, float c) {
    V product = a * b;
    return product + c;
  });
  run("add_rz", [](float a, float b, float) {
    V p = a, q = b;
    return rounding(FE_TOWARDZERO, [&] { return p + q; });
  });
  run("sub_rm", [](float a, float b, float) {
    V p = a, q = b;
    return rounding(FE_DOWNWARD, [&] { return p - q; });
  });
  run("mul_rp", [](float a, float b, float) {
    V p = a, q = b;
    return rounding(FE_UPWARD, [&] { return p * q; });
  });
  run("div_rn", [](float a, float b, float) { return a / b; });
  run("div_rz", [](float a, float b, float) {
    V p = a, q = b;
    return rounding(FE_TOWARDZERO, [&] { return p / q; });
  });
  run("sqrt_rm", [](float a, float, float) {
    V p = std::fabs(a);
    return rounding(FE_DOWNWARD, [&] { return std::sqrt(p); });
  });
  auto extreme = [](bool most) {
    return [most](float a, float b, float) {
      if (a != a || b != b) return a != a ? b : a;
      if (a == b) return std::signbit(a) == most ? b : a;
      return (a > b) == most ? a : b;
    };
  };
  run("min_f", extreme(false));
  run("max_f", extreme(true));
  run("max_nan", [&](float a, float b, float c) { return a != a || b != b ? NAN : extreme(true)(a, b, c); });
  auto flushed = [](float v) { return std::fpclassify(v) == FP_SUBNORMAL ? std::copysign(0.f, v) : v; };
  run("add_ftz", [&](float a, float b, float) { return flushed(flushed(a) + flushed(b)); });
  run("add_sat", [](float a, float b, float) {
    float s = a + b;
    return s != s || s <= 0 ? 0.f : s < 1 ? s : 1.f;
  });
  run("select_ltu", [](float a, float b, float) { return a != a || b != b || a < b ? 1.f : 0.f; });
  run("select_ne", [](float a, float b, float) { return a < b || a > b ? 1.f : 0.f; });
  run("rint_f", [](float a, float, float) { return std::nearbyint(a); });
}

template <class T>
T clamped(double v, T nan) {
  if (v != v) return nan;
  if (v <= double(std::numeric_limits<T>::min())) return std::numeric_limits<T>::min();
  if (v >= double(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
  return T(v);
}

// To nearest, ties to even, by the distances to the two neighbours.
uint16_t bf16_of(float v) {
  if (v != v) return 0x7fff;
  uint32_t u = bits_of(v), low = u & 0xffff;
  uint32_t up = low > 0x8000 || (low == 0x8000 && (u & 0x10000)) ? 1 : 0;
  return uint16_t((u >> 16) + up);
}

float f16_value(uint16_t h) {
  int e = h >> 10 & 31, m = h & 1023;
  float v = e == 31 ? (m ? NAN : INFINITY) : e ? std::ldexp(float(1024 + m), e - 25) : std::ldexp(float(m), -24);
  return h & 0x8000 ? -v : v;
}

void test_conversions(const Card& card) {
  auto x = floats(kN);
  std::vector<double> wide(kN);
  for (size_t i = 0; i < kN; i++)
    wide[i] = i % 3 ? double(x[i]) * (1 + double(generator() % 1000) * 1e-10) : double(x[i]) * 1e-5;
  Values<float> dx(card, x), from_bf16(card, kN), from_f16(card, kN), rn(card, kN), rz(card, kN);
  Values<double> dwide(card, wide);
  Values<uint16_t> bf16(card, kN), f16(card, kN);
  Values<uint32_t> two(card, kN), rmi(card, kN);
  Values<int> rni(card, kN), rzi(card, kN);
  Values<long long> rpi(card, kN);
  Values<signed char> saturated(card, kN);
  card.launch("convert", kBlocks, 256, 0, bf16.pointer(), two.pointer(), from_bf16.pointer(), f16.pointer(),
              from_f16.pointer(), rni.pointer(), rzi.pointer(), rmi.pointer(), rpi.pointer(), saturated.pointer(),
              dx.pointer(), dwide.pointer(), rn.pointer(), rz.pointer(), int(kN));
  compare<uint16_t>("cvt.rn.bf16.f32", bf16.get(), [&](size_t i) { return bf16_of(x[i]); });
  compare<uint32_t>("cvt.rn.bf16x2.f32", two.get(),
                    [&](size_t i) { return uint32_t(bf16_of(x[i])) << 16 | bf16_of(-x[i]); });
  compare<float>("bf16 to float", from_bf16.get(), [&](size_t i) { return float_of(uint32_t(bf16_of(x[i])) << 16); });
  auto halves = f16.get();
  compare<float>("cvt.f32.f16", from_f16.get(), [&](size_t i) { return f16_value(halves[i]); });
  // The nearest of all halves: its neighbours are no nearer, and an odd one strictly nearest.
  for (size_t i = 0; i < kN; i++) {
    float v = x[i];
    uint16_t h = halves[i];
    bool fine = v != v ? h == 0x7fff : std::fabs(v) >= 65520 ? (h & 0x7fff) == 0x7c00 : (h & 0x7fff) < 0x7c00;
    if (fine && v == v && std::fabs(v) < 65520) {
      double mine = std::fabs(double(f16_value(h)) - v);
      for (int step : {-1, 1}) {
        auto other = uint16_t(h + step);
        if ((h & 0x7fff) == 0 && step < 0) continue;
        double theirs =
            std::fabs(((other & 0x7fff) == 0x7c00 ? std::copysign(65536., v) : double(f16_value(other))) - v);
        fine &= h & 1 ? mine < theirs : mine <= theirs;
      }
      fine &= std::signbit(v) == (h >> 15 != 0);
    }
    if (!fine && differences++ < 10) std::printf("cvt.rn.f16.f32 of %g: %04x\n", double(v), h);
  }
  compare<int>("cvt.rni.s32", rni.get(), [&](size_t i) { return clamped<int>(std::nearbyint(double(x[i])), 0); });
  compare<int>("cvt.rzi.s32", rzi.get(), [&](size_t i) { return clamped<int>(std::trunc(double(x[i])), 0); });
  compare<uint32_t>("cvt.rmi.u32", rmi.get(), [&](size_t i) { return clamped<uint32_t>(std::floor(double(x[i])), 0); });
  compare<long long>("cvt.rpi.s64", rpi.get(), [&](size_t i) {
    return clamped<long long>(std::ceil(double(x[i])), std::numeric_limits<long long>::min());
  });
  compare<signed char>("cvt.sat.s8.s32", saturated.get(), [&](size_t i) {
    return clamped<signed char>(double(clamped<int>(std::trunc(double(x[i])), 0)), 0);
  });
  compare<float>("cvt.rn.f32.f64", rn.get(), [&](size_t i) { return float(wide[i]); });
  compare<float>("cvt.rz.f32.f64", rz.get(), [&](size_t i) {
    volatile double v = wide[i];
    return rounding(FE_TOWARDZERO, [&] { return float(v); });
  });

  std::vector<long long> n(kN);
  for (auto& v : n) v = (long long)(generator()) >> generator() % 64;
  Values<long long> dn(card, n);
  Values<float> to(card, kN), toward_zero(card, kN);
  Values<double> to_double(card, kN);
  card.launch("from_integers", kBlocks, 256, 0, to.pointer(), toward_zero.pointer(), to_double.pointer(), dn.pointer(),
              int(kN));
  compare<float>("cvt.rn.f32.s64", to.get(), [&](size_t i) { return float(n[i]); });
  compare<float>("cvt.rz.f32.s64", toward_zero.get(), [&](size_t i) {
    volatile long long v = n[i];
    return rounding(FE_TOWARDZERO, [&] { return float(v); });
  });
  compare<double>("cvt.f64.s32", to_double.get(), [&](size_t i) { return double(int(n[i])); });
}

void test_integers(const Card& card) {
  constexpr size_t rows = 5000, columns = 28;
  std::vector<unsigned long long> x(rows), y(rows);
  for (auto& v : x) v = generator() >> generator() % 64;
  for (auto& v : y) v = generator() >> generator() % 64;
  x[0] = ~0ull, y[0] = 0;
  Values<unsigned long long> dx(card, x), dy(card, y), d(card, rows * columns);
  card.launch("integers", 20, 256, 0, d.pointer(), dx.pointer(), dy.pointer(), int(rows));
  using W = unsigned __int128;
  compare<unsigned long long>("integers", d.get(), [&](size_t at) -> unsigned long long {
    unsigned long long a = x[at / columns], b = y[at / columns];
    auto p = uint32_t(a), q = uint32_t(b), high_a = uint32_t(a >> 32);
    auto sp = int32_t(p), sq = int32_t(q);
    uint32_t start = q & 31, length = q >> 8 & 31, mask = length ? ~0u >> (32 - length) : 0;
    auto bytes = [&](uint32_t selection) {
      uint32_t r = 0;
      for (int i = 0; i < 4; i++) {
        uint32_t s = selection >> 4 * i & 15, byte = s & 4 ? q >> 8 * (s & 3) & 255 : p >> 8 * (s & 3) & 255;
        r |= (s & 8 ? (byte & 128 ? 255u : 0u) : byte) << 8 * i;
      }
      return r;
    };
    switch (at % columns) {
      case 0: return uint64_t(p) * q >> 32;
      case 1: return uint64_t(int64_t(int32_t(int64_t(sp) * sq >> 32)));
      case 2: return uint64_t(W(a) * b >> 64);
      case 3: return uint64_t((__int128)(int64_t(a))*int64_t(b) >> 64);
      case 4: return uint64_t(int64_t(sp) * sq);
      case 5: return b ? a / b : 0;
      case 6: return b ? uint64_t(int64_t(b) == -1 ? 0 : int64_t(a) % int64_t(b)) : 0;
      case 7: return q ? p % q : 0;
      case 8: return (q & 63) > 31 ? 0 : p << (q & 31);
      case 9: return uint32_t(sp >> std::min(q & 63, 31u));
      case 10: {
        // Bits past the top are the sign of the field, which is the top bit then.
        if (length == 0) return 0;
        uint32_t last = std::min(start + length - 1, 31u);
        uint32_t field = p >> start & mask;
        bool sign = p >> last & 1;
        uint32_t have = last - start + 1;
        return sign && have < 32 ? field | ~0u << have : field;
      }
      case 11: return p >> start & mask;
      case 12: return (p & mask) << start | ((~p * 77) & ~(mask << start));
      case 13: return uint32_t((uint64_t(q) << 32 | p) << (b >> 40 & 31) >> 32);
      case 14: return uint32_t((uint64_t(q) << 32 | p) >> std::min<uint32_t>(b >> 40 & 63, 32));
      case 15: return bytes(high_a & 0x7777);
      case 16: return bytes(0xba98);
      case 17: return (p & q) | (p & high_a) | (q & high_a);
      case 18: return uint64_t(__builtin_popcountll(a));
      case 19: {
        uint32_t v = p >> (q & 31), n = 0;
        while (n < 32 && !(v >> (31 - n) & 1)) n++;
        return n;
      }
      case 20: {
        uint64_t r = 0;
        for (int i = 0; i < 64; i++) r |= (a >> i & 1) << (63 - i);
        return r;
      }
      case 21: return uint64_t(__builtin_ffs(int(p << (q & 31))));
      case 22: return uint64_t(int64_t(std::min(sp, sq)));
      case 23: return std::max(a, b);
      case 24: return a + b;
      case 25: return uint64_t(int64_t(sp) * sq) + a;
      case 26: return uint64_t(int64_t(sp == INT32_MIN ? sp : std::abs(sp)));
      default: return uint32_t(std::clamp<int64_t>(int64_t(sp) + sq, INT32_MIN, INT32_MAX));
    }
  });
}

void test_warps(const Card& card) {
  std::vector<unsigned> x(96);
  for (auto& v : x) v = unsigned(generator() % 50);
  Values<unsigned> dx(card, x), d(card, 960);
  card.launch("warps", 1, 96, 0, d.pointer(), dx.pointer());
  compare<unsigned>("warps", d.get(), [&](size_t at) -> unsigned {
    size_t thread = at / 10, lane = thread % 32;
    const unsigned* w = &x[thread / 32 * 32];
    auto count = [&](size_t n, const unsigned* from, auto f) { return unsigned(std::count_if(from, from + n, f)); };
    switch (at % 10) {
      case 0: return w[w[lane] % 40 % 32];
      case 1: return lane >= 3 ? w[lane - 3] : w[lane];
      case 2: return lane % 8 + 5 < 8 ? w[lane + 5] : w[lane];
      case 3: return w[lane ^ 9];
      case 4: {
        unsigned bits = 0;
        for (size_t i = 0; i < 32; i++) bits |= unsigned(w[i] % 3 == 0) << i;
        return bits;
      }
      case 5: return count(32, w, [](unsigned v) { return v == 7; }) > 0;
      case 6: return 1;
      case 7: {
        unsigned sum = 0;
        for (size_t i = 0; i < 32; i++) sum += w[i];
        return sum;
      }
      case 8: return lane < 12 ? w[11 - lane] : w[12];
      default: return count(96, x.data(), [](unsigned v) { return v % 2 == 0; });
    }
  });
}

// Products of small integers are exact, so that the sum has but one value; and each element is another one.
void test_mma(const Card& card) {
  for (size_t k : {size_t(16), size_t(8)}) {
    std::vector<uint16_t> a(16 * k), b(k * 8);
    std::vector<float> c(128), fa(16 * k), fb(k * 8);
    for (size_t i = 0; i < fa.size(); i++) a[i] = bf16_of(fa[i] = float(int(generator() % 255) - 127));
    for (size_t i = 0; i < fb.size(); i++) b[i] = bf16_of(fb[i] = float(int(generator() % 255) - 127));
    for (auto& v : c) v = float(int(generator() % 100001) - 50000);
    Values<uint16_t> da(card, a), db(card, b);
    Values<float> dc(card, c), d(card, 128);
    const char* name = k == 16 ? "mma_from_ldmatrix" : "mma_k8";
    card.launch(name, 1, 32, 0, d.pointer(), da.pointer(), db.pointer(), dc.pointer());
    compare<float>(name, d.get(), [&](size_t at) {
      float sum = c[at];
      for (size_t i = 0; i < k; i++) sum += fa[at / 8 * k + i] * fb[i * 8 + at % 8];
      return sum;
    });
  }
}

void test_pipeline(const Card& card) {
  int n = 461, steps = 5;
  std::vector<float> x(static_cast<size_t>(n));
  for (auto& v : x) v = float(generator() % 100);
  Values<float> dx(card, x), d(card, 32);
  card.launch("pipeline", 1, 32, 0, d.pointer(), dx.pointer(), n, steps);
  compare<float>("pipeline", d.get(), [&](size_t i) {
    float sum = 0;
    for (int k = 0; k < steps; k++)
      for (int j = 0; j < 4; j++) {
        int at = 128 * k + 127 - 4 * int(i) - j;
        sum += (at < n ? x[size_t(at)] : 0.f) * float(k + 1);
      }
    return sum;
  });
}

void test_language(const Card& card) {
  constexpr int n = 64;
  std::vector<int> x(n);
  for (auto& v : x) v = int(generator() % 500);
  Values<int> dx(card, x), d(card, n), counters(card, std::vector<int>{0, 0, 0});
  Values<double> e(card, n);
  card.launch("language", 1, n, 0, d.pointer(), e.pointer(), counters.pointer(), dx.pointer(), n);
  const int table[] = {3, 1, 4, 1, 5, -9, 2, 6};
  int total = 0;
  for (int v : x) total += v;
  compare<int>("language", d.get(), [&](size_t i) {
    int a[16], steps = 0, v = x[i] + 1;
    for (size_t k = 0; k < 16; k++) a[k] = x[(i + k) % n] * int(k);
    for (; v != 1; steps++) v = v % 2 ? 3 * v + 1 : v / 2;
    v = steps;
    const int by[] = {v + 10, v * 3, v - 7, v ^ 0x55, v * v, ~v, v | 64, v % 5, -v};
    v = by[x[i] % 9] + a[x[i] % 16] + table[x[i] % 8];
    return v + (x[i] % 2 ? x[i] : a[3]) + 100 + total;
  });
  compare<double>("a struct passed by value", e.get(), [&](size_t i) { return double(x[i]) * 3.25 + double(i) + 1; });
  compare<int>("atomics", counters.get(), [&](size_t i) {
    return i == 0 ? *std::max_element(x.begin(), x.end()) : i == 1 ? n : 17;
  });

  std::vector<float> f(4 * n);
  std::vector<unsigned char> bytes(4 * n);
  std::vector<double> g(2 * n);
  for (auto& v : f) v = float(generator() % 1000);
  for (auto& v : bytes) v = static_cast<unsigned char>(generator());
  for (auto& v : g) v = double(generator() % 1000);
  Values<float> df(card, f), out(card, 4 * n);
  Values<unsigned char> db(card, bytes);
  Values<double> dg(card, g);
  card.launch("vectors", 1, n, 0, out.pointer(), df.pointer(), db.pointer(), dg.pointer(), n);
  compare<float>("vectors", out.get(), [&](size_t at) {
    size_t i = at / 4;
    float v = f[at];
    const unsigned char* w = &bytes[4 * i];
    switch (at % 4) {
      case 0: return v + float(w[0]);
      case 1: return v + float(w[1]);
      case 2: return v - float(g[2 * i]);
      default: return std::fmaf(v, float(g[2 * i + 1]), float(w[2])) + float(w[3]);
    }
  });

  Values<int> numbered(card, 3 * 2 * 2 * 4 * 3 * 5);
  int* pointer = numbered.pointer();
  void* arguments[] = {&pointer};
  MUST(cuLaunchKernel(card.function("dims"), 3, 2, 2, 4, 3, 5, 0, card.stream, arguments, nullptr));
  compare<int>("dims", numbered.get(), [](size_t i) { return int(1000 * (i / 60) + i % 60); });
}

// What NVRTC makes of the functions of mathematics, within the errors that the CUDA guide gives for them (ulp), plus 2 for
// the instructions that a card only approximates, which are exact here.
void test_mathematics(const Card& card) {
  constexpr size_t n = 4000;
  std::vector<float> x(n);
  for (auto& v : x) v = float(int(generator() % 200001) - 100000) * 1e-4f;
  x[0] = 1e5f, x[1] = -3e8f;
  Values<float> dx(card, x), d(card, 10 * n);
  card.launch("mathematics", 16, 256, 0, d.pointer(), dx.pointer(), int(n));
  auto got = d.get();
  const double ulps[] = {1, 1, 2, 2, 2, 2, 4, 2, 1, 1};
  const char* names[] = {"expf", "logf", "sinf", "cosf", "rsqrtf", "tanhf", "powf", "erff", "log1pf", "exp / sqrt"};
  for (size_t at = 0; at < got.size(); at++) {
    double v = double(x[at / 10]), a = std::fabs(v);
    double big = double(x[at / 10] * 1000.f), root = double(float(a) + 1.f);
    const double all[] = {std::exp(v),
                          std::log(a),
                          std::sin(v),
                          std::cos(big),
                          1 / std::sqrt(a),
                          std::tanh(v),
                          std::pow(a, double(1.7f)),
                          std::erf(v),
                          std::log1p(a),
                          std::exp(v) / std::sqrt(root)};
    double e = all[at % 10];
    float nearest = float(e);
    double unit =
        std::isfinite(nearest) ? double(std::nextafter(std::fabs(nearest), INFINITY)) - std::fabs(double(nearest)) : 0;
    bool fine =
        std::isfinite(nearest) ? std::fabs(double(got[at]) - e) <= (ulps[at % 10] + 2) * unit : equal(got[at], nearest);
    if (!fine && differences++ < 10)
      std::printf("%s of %.9g: %.9g, expected %.9g\n", names[at % 10], v, double(got[at]), e);
  }
}

}  // namespace

int main() {
  // opcodes.test.ts has another file for what cannot be translated.
  const char* source = std::getenv("CUDASIM_SOURCE");
  Card card(ptx_of(source ? source : "opcodes.cu"));
  test_floats(card);
  test_conversions(card);
  test_integers(card);
  test_warps(card);
  test_mma(card);
  test_pipeline(card);
  test_language(card);
  test_mathematics(card);
  std::printf("%d differences\n", differences);
  return differences != 0;
}
